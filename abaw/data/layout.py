"""Aff-Wild2's videos: which there are, and where each one's labels, crops and raw file lie.

Everything is keyed on names, never on sort order. See the layout in `scan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from abaw.data.crops import choose_crops
from abaw.data.places import ANNOTATION_FOLDERS, CROP_FOLDERS, RAW_SUFFIXES, Places, find_places
from abaw.errors import InputError
from abaw.files import check_name, composed, visible

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


def scan(
    root: Path,
    template: Path | None = None,
    annotations: str | Path | None = None,
    crops: Sequence[str | Path] | None = None,
    videos: Sequence[str | Path] | None = None,
) -> list[Video]:
    """Find the videos of a corpus.

    Labels lie in ``EXPR_Recognition_Challenge/{Train_Set,Validation_Set}/<video>.txt`` (or
    ``EXPR_Classification_Challenge``), crops in ``cropped_aligned/<video>/00001.jpg`` and
    ``cropped_aligned_new_50_vids``, raw videos in ``batch1``, ``batch2`` and ``new_vids``, each up to four
    folders down, as the organisers' archives unpack. ``<video>_left`` and ``<video>_right`` share the raw
    video ``<video>`` unless a raw video has the whole name. The test set is what ``*test_set_release.txt``
    lists (a name a line) and the template ``*test_set_sample.txt`` has rows for; of those of several
    challenges, the expressions' are taken. Names are compared in Unicode's composed form (NFC).

    Args:
        root: The corpus.
        template: The submission template, if it isn't in the corpus.
        annotations: The folder of the labels, if it isn't in the corpus or several fit.
        crops: The folders of the crops, likewise.
        videos: The folders of the raw videos, likewise.

    Returns:
        The videos, split by split, each by name.

    Raises:
        InputError: A folder is missing, two folders or lists fit, a video is in two splits, two raw videos
            have the same name, or there are no crops for any annotated video (any test video, where nothing
            is annotated).
    """
    found, problem = find_videos(find_places(root, annotations, crops, videos), template)
    if problem is not None:
        raise problem
    return found


def annotation_files(places: Places, template: Path | None = None) -> dict[Split, list[Path]]:
    """The label files of the two annotated splits, by name; none where there is a test set alone.

    Args:
        places: The corpus.
        template: The submission template, if it isn't in the corpus.

    Raises:
        InputError: There is no annotation folder and no test set either; or there is no label file in it.
    """
    if places.annotations is None:
        if template is None and places.template() is None:
            names = ", ".join(f"{name}/" for name in ANNOTATION_FOLDERS)
            raise InputError(
                f"{places.root}: holds none of {names}, and no …test_set_sample.txt to predict for."
            )
        return {split: [] for split in _SPLIT_FOLDERS}
    files: dict[Split, list[Path]] = {
        split: [path for path in visible(places.annotations / name, ".txt") if not path.is_dir()]
        for split, name in _SPLIT_FOLDERS.items()
    }
    if not any(files.values()):
        raise InputError(
            f"{places.annotations}: no label file in Train_Set/ or Validation_Set/; expected <video>.txt."
        )
    return files


def find_videos(places: Places, template: Path | None = None) -> tuple[list[Video], InputError | None]:
    """The videos of a corpus, split by split, each by name, and what is wrong with its test set, if anything.

    That hinders those alone who predict: the test videos are then not there.

    Args:
        places: The corpus.
        template: The submission template, if it isn't in the corpus.

    Raises:
        InputError: As of `scan`, but for a test list or a template that was found in an annotated corpus.
    """
    find = _Finder(places)
    files = annotation_files(places, template)
    videos = [find.video(path.stem, split, path) for split, paths in files.items() for path in paths]
    problem = None
    try:
        frames = _test_frames(places, template)
        videos += [find.video(name, "test", num_frames=count) for name, count in sorted(frames.items())]
    except InputError as error:
        if template is not None or not videos:
            raise
        problem = error
    _check(places, videos)
    return videos, problem


def raw_name(video_id: str) -> str:
    """The name of the raw video that a person is in, as far as the person's own name tells.

    >>> raw_name("12-30-1920x1080_left")
    '12-30-1920x1080'
    """
    for suffix in _PERSON_SUFFIXES:
        if video_id.endswith(suffix):
            return video_id.removesuffix(suffix)
    return video_id


def _check(places: Places, videos: Sequence[Video]) -> None:
    """Refuse a video that is there twice, and a corpus without crops."""
    seen: dict[str, Video] = {}
    for item in videos:
        check_name(item.video_id, item.annotation or places.root)
        other = seen.setdefault(item.video_id, item)
        if other is not item:
            raise InputError(
                f"{places.root}: {item.video_id} is in the {other.split} and the {item.split} set "
                f"({other.annotation or 'a list'} and {item.annotation or 'a list'}); keep one."
            )
    annotated = [item for item in videos if item.annotation]
    if videos and not any(item.crops for item in annotated or videos):
        where = " or ".join(str(folder) for folder in places.crops) or " or ".join(CROP_FOLDERS)
        raise InputError(
            f"{places.root}: no {'annotated' if annotated else 'test'} video has a crops folder (first: "
            f"{videos[0].video_id}); put crops into {where}/<video>/00001.jpg, or set crops."
        )


class _Finder:
    """Finds a video's files by its name."""

    def __init__(self, places: Places) -> None:
        folders: dict[str, list[Path]] = {}
        for folder in (folder for place in places.crops for folder in visible(place) if folder.is_dir()):
            folders.setdefault(composed(folder.name), []).append(folder)
        self._crops = folders
        self._raw: dict[str, Path] = {}
        for path in (path for place in places.videos for path in visible(place)):
            if path.suffix.lower() not in RAW_SUFFIXES:
                continue
            other = self._raw.setdefault(composed(path.stem), path)
            if other != path:
                raise InputError(f"{path}: {other} has the same name; remove one of the two.")

    def video(
        self, name: str, split: Split, annotation: Path | None = None, num_frames: int | None = None
    ) -> Video:
        video_id = composed(name)
        raw_id = video_id if video_id in self._raw else raw_name(video_id)
        crops = self._crops.get(video_id, [])
        folder = choose_crops(crops) if len(crops) > 1 else next(iter(crops), None)
        return Video(video_id, split, raw_id, annotation, folder, self._raw.get(raw_id), num_frames)


def _test_frames(places: Places, template: Path | None) -> dict[str, int | None]:
    """The names of the test videos, and how many frames each has as far as the template tells."""
    try:
        listed = places.test_list()
    except InputError:
        if template is None:
            raise
        listed = None  # a template that is given lists the videos too
    frames: dict[str, int | None] = {}
    if listed is not None:
        names = _read_text(listed).split("\n")
        frames.update((composed(name.strip()), None) for name in names if name.strip())
    template = template or places.template()
    if template is not None:
        if not template.is_file():
            raise InputError(f"{template}: no such template; give the organisers' …test_set_sample.txt.")
        for number, row in enumerate(_read_text(template).splitlines()[1:], start=2):
            if not row.strip():
                continue
            name, _, image = row.split(",")[0].strip().rpartition("/")
            if not name or not Path(image).stem.isdigit():
                raise InputError(
                    f"{template}, line {number}: {row.strip()[:40]!r} is no frame such as video/00001.jpg; "
                    "give the organisers' …test_set_sample.txt."
                )
            video_id = composed(name)
            frames[video_id] = max(frames.get(video_id) or 0, int(Path(image).stem))
    for video_id in frames:
        check_name(video_id, template or listed or places.root)
    return frames


def _read_text(path: Path) -> str:
    # Names are bytes to a file system: those of another encoding stay what they are there.
    return path.read_text(encoding="utf-8-sig", errors="surrogateescape")
