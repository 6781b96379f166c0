"""Aff-Wild2 for Lightning."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from abaw.data.annotations import read_class_names
from abaw.data.audio import SoundTrack
from abaw.data.augment import Augmentation
from abaw.data.base import WindowDataModule
from abaw.data.crops import CropFiles, any_readable, crop_name, fingerprint_crops
from abaw.data.datasets import Loader
from abaw.data.layout import Split, Video, annotation_files, find_videos
from abaw.data.places import RAW_FOLDERS, Places, find_places
from abaw.data.recordings import load_recordings, read_crops, read_targets
from abaw.data.sound_cache import open_sounds
from abaw.data.windows import Recording, WindowReader, check_reading, clip_samples, warn_of_clips
from abaw.errors import InputError
from abaw.files import expand
from abaw.fingerprint import file_fingerprint


class AffWild2DataModule(WindowDataModule[Recording]):
    """Windows of Aff-Wild2 for training, whole videos in chunks for evaluation.

    Works without a Trainer too: ``setup()``, then iterate over ``train_dataloader()``. Batches are described
    by `abaw.data.Batch`. The test set's labels are not public, so ``test_dataloader`` serves the validation
    videos; ``predict_dataloader`` serves the test list.

    Args:
        root: The folder that holds Aff-Wild2, see `abaw.data.layout.scan`.
        window: T, frames of a training window. A chunk has ``window * frame_step`` frames.
        stride: Frames of a video for each training window of an epoch; ``window * frame_step`` if not said.
        batch_size: Windows, or chunks, in a batch.
        num_workers: Processes that read batches, for each loader; 0 reads in this one.
        frame_step: Frames from one frame of a training window to the next.
        frame_rate: Frames a second of a window, instead of ``frame_step``: each video gets the frame step
            that comes nearest to it, so that windows last about ``window / frame_rate`` seconds in each. With
            30, videos of 50 and 60 frames a second are seen at 25 and 30, and one of 15 at 15: no frame is
            shown twice.
        image_size: Height and width of the crops.
        audio_context: Seconds of sound before a window's first frame and after its last.
        balanced: Whether training windows are drawn by class, see `abaw.data.datasets.WindowDataset`.
        augmentation: Random changes to training windows, or None.
        folds: Regroup the annotated videos into this many folds, instead of the official split.
        fold: The one that is validated on, from 0.
        template: The submission template, if it isn't in ``root``.
        cache_dir: Where decoded sound is kept; ``<root>/.abaw_cache`` if not said.
        allow_missing_audio: Whether raw videos may be missing, or all of them be without sound.
        seed: Of windows, augmentation and order.
        annotations: The folder that holds ``Train_Set`` and ``Validation_Set``, if it isn't in ``root`` or
            several fit. Like ``crops`` and ``videos`` it may be on another disk, or be a folder around it.
        crops: The folders of the crops, or one of them, likewise.
        videos: The folders of the raw videos, or one of them, likewise.

    Raises:
        InputError: An argument is out of range, or (by the methods) something is wrong with the corpus.
    """

    _HINTS: ClassVar[dict[Split, str]] = {
        "train": "put label files into Train_Set/",
        "validation": "put label files into Validation_Set/, or set folds",
        "test": "it needs the list …test_set_release.txt or a template",
    }

    def __init__(
        self,
        root: str | Path,
        window: int = 64,
        stride: int | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        frame_step: int = 1,
        image_size: int = 112,
        audio_context: float = 0.5,
        balanced: bool = False,
        augmentation: Augmentation | None = None,
        folds: int | None = None,
        fold: int = 0,
        template: str | Path | None = None,
        cache_dir: str | Path | None = None,
        allow_missing_audio: bool = False,
        seed: int = 0,
        annotations: str | Path | None = None,
        crops: Sequence[str | Path] | str | Path | None = None,
        videos: Sequence[str | Path] | str | Path | None = None,
        frame_rate: float | None = None,
    ) -> None:
        super().__init__(
            root,
            window=window,
            stride=stride,
            batch_size=batch_size,
            num_workers=num_workers,
            frame_step=frame_step,
            frame_rate=frame_rate,
            balanced=balanced,
            folds=folds,
            fold=fold,
            template=template,
            seed=seed,
        )
        check_reading(window, batch_size, image_size, audio_context)
        # A checkpoint holds plain types alone.
        root = str(self.root)
        template = template if template is None else str(self.template)
        annotations = annotations if annotations is None else str(expand(annotations))
        crops, videos = _listed(crops), _listed(videos)
        cache_dir = cache_dir if cache_dir is None else str(expand(cache_dir))
        self.save_hyperparameters(ignore=["augmentation"], logger=False)

        self.image_size = image_size
        self.audio_context = audio_context
        self.augmentation = augmentation
        self._given: dict[str, Any] = {"annotations": annotations, "crops": crops, "videos": videos}
        self.cache_dir = self.root / ".abaw_cache" if cache_dir is None else Path(cache_dir)
        self.allow_missing_audio = allow_missing_audio
        self._class_names: tuple[str, ...] | None = None
        self._least_samples = 0
        self._has_told_clips = False
        self._left_out: Collection[str] | None = None
        self._crops: dict[str, CropFiles] | None = None
        self._test_problem: InputError | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C class names, from one annotation's header (or the template's); needs no ``setup``."""
        if self._class_names is None:
            files = annotation_files(self._places(), self.template)
            labels = next(iter([*files["train"], *files["validation"]]), None)
            header = labels or self.template_path
            assert header is not None  # where nothing is annotated, there is a template
            self._class_names = read_class_names(header)
        return self._class_names

    @property
    def template_path(self) -> Path | None:
        """The submission template, as given or as found in the corpus; None if there isn't one."""
        return self.template or self._places().template()

    def prepare_data(self) -> None:
        """Decode the sound of the raw videos into the cache, once everything else has been found right."""
        videos, _ = self._read_labels()
        self._read_crops(videos)
        self._open_sounds(videos)

    def setup(self, stage: str | None = None) -> None:
        """Read all labels and clocks, for every stage at once."""
        if self._recordings:
            return
        videos, targets = self._read_labels()
        crops = self._read_crops(videos)
        sounds = self._open_sounds(videos)
        recordings = load_recordings(videos, targets, sounds, crops)
        self._check_sound([r for r in recordings if r.video_id in targets], "annotated")
        self._set_videos(videos, recordings)

    def training_targets(self) -> list[NDArray[np.int64]]:
        """The labels of each training video, int64 (N,), -1 where not annotated; needs no ``setup``."""
        if self._recordings:
            return super().training_targets()
        # From the labels alone: setup may have to decode the sound of the whole corpus.
        videos, targets = self._read_labels()
        annotated = [video for video in videos if video.video_id in targets]
        splits = self._split(annotated, [len(targets[video.video_id]) for video in annotated])
        train = [targets[v.video_id] for v, split in zip(annotated, splits, strict=True) if split == "train"]
        if not train:
            raise self._no_video("train")
        return train

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: how long the model's clips of sound are, and the training videos' rate."""
        return {"clip_samples": self._reader().num_samples, **self._training_rate()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Cut clips as long as in training, or longer where this corpus has a lower frame rate."""
        self._least_samples = int(state_dict["clip_samples"])
        self._trained_rate = state_dict.get("frame_rate")

    @property
    def videos(self) -> list[Video]:
        """All videos with their official splits, in the corpus's order; needs ``setup``."""
        return self._videos

    @property
    def targets(self) -> list[NDArray[np.int64]]:
        """The labels of all videos, int64 (N,) each, in the corpus's order; needs ``setup``."""
        return [recording.target for recording in self._recordings]

    def fingerprints(self) -> list[dict[str, str]]:
        """What tells each video's ``crops`` and raw ``video`` from others, in the corpus's order.

        Needs ``setup``, and looks at every crop: a minute for Aff-Wild2.
        """
        raw = {video.raw_id: video.raw for video in self._videos if video.raw is not None}
        by_raw = {name: file_fingerprint(path) for name, path in raw.items()}
        found = []
        for video, recording in zip(self._videos, self._recordings, strict=True):
            made = {"video": by_raw[video.raw_id]} if video.raw_id in by_raw else {}
            if recording.crops.present.any():
                made["crops"] = fingerprint_crops(recording.crops)
            found.append(made)
        return found

    @property
    def reading(self) -> dict[str, float]:
        """What the features of a video depend on, beside the encoders; needs ``setup``."""
        reader = self._reader()
        return {
            "window": self.window,
            "frame_step": self.frame_step,
            **({} if self.frame_rate is None else {"frame_rate": self.frame_rate}),
            "image_size": self.image_size,
            "audio_context": self.audio_context,
            "num_samples": reader.num_samples,
        }

    def predict_all(self, but: Collection[str] | None = ()) -> None:
        """Let ``predict_dataloader`` serve all splits' videos but some; None for the test set again."""
        self._left_out = but

    def predict_dataloader(self) -> Loader:
        """The videos of the test list or the template, whole, in chunks."""
        if self._test_problem is not None:
            raise self._test_problem
        if self._left_out is None:
            recordings = self._select("test")
        else:
            recordings = [r for r in self._recordings if r.video_id not in self._left_out]
        if any(video.split == "test" for video in self._videos):
            self._check_test()
        return self._chunk_loader(recordings)

    def _check_test(self) -> None:
        recordings = self._select("test")
        videos = [video for video in self._videos if video.split == "test"]
        self._require_raw(videos)
        if unknown := [recording.video_id for recording in recordings if len(recording) == 0]:
            raise InputError(
                f"{self.root}: no template, raw video or crop says how many frames {_first(unknown)} has."
            )
        self._check_sound(recordings, "test")
        _require_crops(videos, {r.video_id: r.crops for r in recordings if r.crops.folder})
        if absent := [video.video_id for video in videos if video.crops is None and video.raw is None]:
            rank_zero_warn(
                f"{len(absent)} of {len(videos)} test videos have neither crops nor a raw video "
                f"(first: {_first(absent)}); their predictions rest on nothing.",
                category=UserWarning,
            )

    def _reader(self) -> WindowReader:
        chunks = [self.window * step for step in self._frame_steps(self._recordings)]
        times = [recording.time for recording in self._recordings]
        samples = clip_samples(times, [chunk - 1 for chunk in chunks], self.audio_context)
        samples = max(samples, self._least_samples)
        reader = WindowReader(samples, self.image_size, self.audio_context, self.augmentation)
        if not self._has_told_clips:
            self._has_told_clips = True
            warn_of_clips(self._recordings, chunks, reader)
        return reader

    def _places(self) -> Places:
        return find_places(self.root, **self._given)

    def _read_labels(self) -> tuple[list[Video], dict[str, NDArray[np.int64]]]:
        videos, self._test_problem = find_videos(self._places(), self.template)
        self._require_raw([video for video in videos if video.annotation])
        return videos, read_targets(videos, self.class_names)

    def _read_crops(self, videos: Sequence[Video]) -> dict[str, CropFiles]:
        if self._crops is None:  # listing takes a while where there are millions
            crops = read_crops(videos)
            _require_crops([video for video in videos if video.annotation] or videos, crops)
            self._crops = crops
        return self._crops

    def _open_sounds(self, videos: Sequence[Video]) -> dict[str, SoundTrack]:
        sources = {video.raw_id: video.raw for video in videos if video.raw is not None}
        return open_sounds(sources, self.cache_dir, self.num_workers or os.cpu_count() or 1)

    def _require_raw(self, videos: Sequence[Video]) -> None:
        missing = [video.video_id for video in videos if video.raw is None]
        if missing and not self.allow_missing_audio:
            folders = ", ".join(self._given["videos"] or (f"{name}/" for name in RAW_FOLDERS))
            raise InputError(
                f"{self.root}: {len(missing)} of {len(videos)} videos have no raw video in {folders} (first: "
                f"{_first(missing)}); put them there, set videos, or set allow_missing_audio to do without."
            )

    def _check_sound(self, recordings: Sequence[Recording], kind: str) -> None:
        missing = [r.video_id for r in recordings if r.sound is None]
        silent = [r.video_id for r in recordings if r.sound is not None and r.sound.is_silent]
        if recordings and len(missing + silent) == len(recordings) and not self.allow_missing_audio:
            raise InputError(
                f"{self.root}: none of the {len(recordings)} {kind} videos has sound; "
                "set allow_missing_audio to do without."
            )
        for names, what in ((missing, "raw video"), (silent, "sound track")):
            if names:
                rank_zero_warn(
                    f"{len(names)} of {len(recordings)} {kind} videos have no {what} "
                    f"(first: {_first(names)}); their voice counts as absent.",
                    category=UserWarning,
                )


def _require_crops(videos: Sequence[Video], crops: Mapping[str, CropFiles]) -> None:
    """Refuse videos whose folders of crops hold not one that can be read."""
    files = [crops[video.video_id] for video in videos if video.video_id in crops]
    if files and not any_readable(files):
        raise InputError(
            f"{files[0].folder}: holds no crop called {crop_name(0)} and so on that can be read, nor does "
            f"any other of {len(files)} folders; name the crops by their frames, or get them again."
        )


def _listed(paths: Sequence[str | Path] | str | Path | None) -> list[str] | None:
    if paths is None:
        return None
    return [str(expand(path)) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3])
