"""Aff-Wild2's folders: which videos there are, and where each one's labels, crops and raw file lie.

Everything is keyed on names, never on sort order. See the layout in `scan`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from abaw.data.crops import choose_crops
from abaw.errors import InputError
from abaw.files import check_name, visible

ANNOTATION_FOLDERS: Final = ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge")
CROP_FOLDERS: Final = ("cropped_aligned", "cropped_aligned_new_50_vids")
RAW_FOLDERS: Final = ("batch1", "batch2", "new_vids")
_RAW_SUFFIXES: Final = (".mp4", ".avi", ".mpg", ".mkv", ".mov", ".webm")
_PERSON_SUFFIXES: Final = ("_left", "_right")

Split = Literal["train", "validation", "test"]
_SPLIT_FOLDERS: Final[Mapping[Split, str]] = {"train": "Train_Set", "validation": "Validation_Set"}


@dataclass(frozen=True)
class Video:
    """One annotated person in one raw video.

    Attributes:
        video_id: The name, person suffix included.
        split: The official split.
        raw_id: The name of the raw video, which persons share.
        annotation: The label file; None in the test set.
        crops: The folder of the aligned crops, or None.
        raw: The raw video, or None.
        num_frames: How many frames the submission template lists; None where it doesn't say.
    """

    video_id: str
    split: Split
    raw_id: str
    annotation: Path | None
    crops: Path | None
    raw: Path | None
    num_frames: int | None = None


def annotation_files(root: Path, template: Path | None = None) -> dict[Split, list[Path]]:
    """The label files of the two annotated splits, by name; none where there is a test set alone.

    Args:
        root: The corpus.
        template: The submission template, if it isn't in the corpus.

    Raises:
        InputError: ``root`` is no folder, holds both of the known annotation folders, or holds none and no
            test set either; or there is no label file in it.
    """
    folder = _annotation_folder(root)
    if folder is None:
        if template is None and find_template(root) is None:
            names = ", ".join(f"{name}/" for name in ANNOTATION_FOLDERS)
            raise InputError(f"{root}: holds none of {names}, and no …test_set_sample.txt to predict for.")
        return {split: [] for split in _SPLIT_FOLDERS}
    files: dict[Split, list[Path]] = {
        split: [path for path in visible(folder / name, ".txt") if not path.is_dir()]
        for split, name in _SPLIT_FOLDERS.items()
    }
    if not any(files.values()):
        raise InputError(f"{folder}: no label file in Train_Set/ or Validation_Set/; expected <video>.txt.")
    return files


def _annotation_folder(root: Path) -> Path | None:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; set root to the folder that holds Aff-Wild2.")
    found = [root / name for name in ANNOTATION_FOLDERS if (root / name).is_dir()]
    if len(found) > 1:
        names = " and ".join(f"{name}/" for name in ANNOTATION_FOLDERS)
        raise InputError(f"{root}: holds {names}; keep one annotation folder.")
    return found[0] if found else None


def scan(root: Path, template: Path | None = None) -> list[Video]:
    """Find the videos of a corpus.

    Labels lie in ``EXPR_Recognition_Challenge/{Train_Set,Validation_Set}/<video>.txt`` (or
    ``EXPR_Classification_Challenge``), crops in ``cropped_aligned/<video>/00001.jpg`` and
    ``cropped_aligned_new_50_vids``, raw videos in ``batch1``, ``batch2`` and ``new_vids``. ``<video>_left``
    and ``<video>_right`` share the raw video ``<video>`` unless a raw video has the whole name. The test set
    is what ``*test_set_release.txt`` lists (a name a line) and the template ``*test_set_sample.txt`` has rows
    for, in the root or beside the labels.

    Args:
        root: The corpus.
        template: The submission template, if it isn't in the corpus.

    Returns:
        The videos, split by split, each by name.

    Raises:
        InputError: A folder is missing, a video is in two splits, two raw videos have the same name, or there
            are no crops for any annotated video (any test video, where nothing is annotated).
    """
    files = annotation_files(root, template)
    crops = _crops(root)
    raw = _raw_videos(root)
    frames = _test_frames(root, template)

    def video(video_id: str, split: Split, annotation: Path | None, num_frames: int | None = None) -> Video:
        raw_id = _raw_id(video_id, raw)
        return Video(
            video_id, split, raw_id, annotation, crops.get(video_id), raw.get(raw_id), num_frames=num_frames
        )

    videos = [video(path.stem, split, path) for split, paths in files.items() for path in paths]
    videos += [video(video_id, "test", None, count) for video_id, count in sorted(frames.items())]
    seen: dict[str, Video] = {}
    for item in videos:
        other = seen.setdefault(item.video_id, item)
        if other is not item:
            raise InputError(
                f"{root}: {item.video_id} is in the {other.split} and the {item.split} set "
                f"({other.annotation or 'a list'} and {item.annotation or 'a list'}); keep one."
            )
    kind = "annotated" if any(files.values()) else "test"
    if not any(item.crops for item in videos if item.annotation or kind == "test"):
        where = " or ".join(f"{name}/" for name in CROP_FOLDERS)
        raise InputError(
            f"{root}: no {kind} video has a crops folder (first: {videos[0].video_id}); "
            f"put crops into {where}<video>/00001.jpg."
        )
    return videos


def raw_name(video_id: str) -> str:
    """The name of the raw video that a person is in, as far as the person's own name tells.

    >>> raw_name("12-30-1920x1080_left")
    '12-30-1920x1080'
    """
    for suffix in _PERSON_SUFFIXES:
        if video_id.endswith(suffix):
            return video_id.removesuffix(suffix)
    return video_id


def find_template(root: Path) -> Path | None:
    """The submission template of the expression challenge in a corpus, None if there isn't one.

    Raises:
        InputError: There are several.
    """
    return _find_one(root, "*test_set_sample.txt")


def _test_frames(root: Path, template: Path | None) -> dict[str, int | None]:
    listed = _find_one(root, "*test_set_release.txt")
    frames: dict[str, int | None] = {}
    if listed is not None:
        names = _read_text(listed).split("\n")
        frames.update((name.strip(), None) for name in names if name.strip())
    template = template or find_template(root)
    if template is not None:
        if not template.is_file():
            raise InputError(f"{template}: no such template; give the organisers' …test_set_sample.txt.")
        for number, row in enumerate(_read_text(template).splitlines()[1:], start=2):
            if not row.strip():
                continue
            video_id, _, image = row.split(",")[0].strip().rpartition("/")
            if not video_id or not Path(image).stem.isdigit():
                raise InputError(
                    f"{template}, line {number}: {row.strip()[:40]!r} is no frame such as video/00001.jpg; "
                    "give the organisers' …test_set_sample.txt."
                )
            frames[video_id] = max(frames.get(video_id) or 0, int(Path(image).stem))
    for video_id in frames:
        check_name(video_id, template or listed or root)
    return frames


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _find_one(root: Path, pattern: str) -> Path | None:
    folders = [folder for folder in (root, _annotation_folder(root)) if folder is not None]
    found = [path for folder in folders for path in sorted(folder.glob(pattern)) if not path.is_dir()]
    # The other challenges on Aff-Wild2 (valence-arousal, action units) name their files alike.
    found = [path for path in found if path.name.lower().startswith("expr")] or found
    if len(found) > 1:
        raise InputError(
            f"{root}: {len(found)} files match {pattern}; keep {found[0].name} or the other one."
        )
    return found[0] if found else None


def _crops(root: Path) -> dict[str, Path]:
    folders: dict[str, list[Path]] = {}
    for folder in (folder for name in CROP_FOLDERS for folder in visible(root / name) if folder.is_dir()):
        folders.setdefault(folder.name, []).append(folder)
    return {name: choose_crops(found) if len(found) > 1 else found[0] for name, found in folders.items()}


def _raw_videos(root: Path) -> dict[str, Path]:
    raw: dict[str, Path] = {}
    for path in (path for name in RAW_FOLDERS for path in visible(root / name)):
        if path.suffix.lower() not in _RAW_SUFFIXES:
            continue
        if path.stem in raw:
            raise InputError(f"{path}: {raw[path.stem]} has the same name; remove one of the two.")
        raw[path.stem] = path
    return raw


def _raw_id(video_id: str, raw: Mapping[str, Path]) -> str:
    return video_id if video_id in raw else raw_name(video_id)
