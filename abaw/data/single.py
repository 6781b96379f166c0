"""One video that belongs to no corpus, in chunks."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from abaw.data.audio import SAMPLE_RATE, SoundTrack, cache_sound
from abaw.data.crops import CropFiles, crop_name
from abaw.data.datasets import ChunkDataset, Loader
from abaw.data.layout import Video
from abaw.data.rates import check_frame_rate, frame_steps, rate_of, warn_of_other_rates
from abaw.data.recordings import load_recordings, read_crops
from abaw.data.samplers import VideoShardSampler
from abaw.data.windows import WindowReader, check_reading, warn_of_clips
from abaw.data.windows import clip_samples as longest_clip
from abaw.errors import InputError
from abaw.ranges import MOST_FRAMES, MOST_IN_BATCH, MOST_SAMPLES, MOST_WORKERS, check_count

VOICE_RATE: Final = 30.0
"""Frames a second of a voice without pictures, as most of Aff-Wild2's videos have."""


def open_video(
    video: str | Path,
    crops: str | Path | None,
    cache_dir: Path,
    window: int = 64,
    frame_step: int = 1,
    image_size: int = 112,
    audio_context: float = 0.5,
    batch_size: int = 8,
    num_workers: int = 0,
    clip_samples: int = 0,
    frame_rate: float | None = None,
    trained_rate: float | None = None,
) -> Loader:
    """Decode the sound of one video and serve it whole: chunks of `abaw.data.Batch`, in order.

    A file that holds sound alone has 30 frames a second, from its first sample to its last.

    Args:
        video: Any file that FFmpeg reads.
        crops: The folder of its face crops; None for a model that only listens.
        cache_dir: Where the decoded sound goes, made if need be; it is not looked for there.
        window: Frames of a window.
        frame_step: Frames from one frame of a window to the next.
        image_size: Height and width of the crops.
        audio_context: Seconds of sound before a chunk's first frame and after its last.
        batch_size: Chunks in a batch.
        num_workers: Processes that read ahead; 0 reads in this one.
        clip_samples: S, samples of a chunk's sound; the video's frame rate can ask for more.
        frame_rate: Frames a second of a window, in place of ``frame_step``.
        trained_rate: That of the windows that the model was trained on, to warn where these are others.

    Raises:
        InputError: The video or the folder can't be read, none of the folder's files is a crop, or the sound
            can't be written, a number is out of range, or ``frame_rate`` is given beside a ``frame_step``.

    Warns:
        UserWarning: If crops are numbered beyond the video's pictures, with their number; if a window spans
            another time than in training; if the sound of frames doesn't fit into their clip.
    """
    check_count(1, MOST_FRAMES, window=window, frame_step=frame_step)
    check_count(1, MOST_IN_BATCH, batch_size=batch_size)
    check_count(0, MOST_WORKERS, num_workers=num_workers)
    check_count(0, MOST_SAMPLES, clip_samples=clip_samples)
    check_reading(window, batch_size, image_size, audio_context)
    check_frame_rate(frame_rate, frame_step)
    video, crops = Path(video).expanduser(), None if crops is None else Path(crops).expanduser()
    if not video.is_file():
        raise InputError(f"{video}: no such video file.")
    if crops is not None and not crops.is_dir():
        raise InputError(f"{crops}: no such folder; give the folder of the video's face crops, 00001.jpg …")
    sound = _decode_sound(video, cache_dir)
    listed = Video(video.stem, "test", video.stem, annotation=None, crops=crops, raw=video)
    files = read_crops([listed])
    recordings = load_recordings([listed], {}, {video.stem: sound}, files, tell=False)
    for listing in files.values():
        _check_crops(listing, len(recordings[0]))
    time = recordings[0].time
    steps = frame_steps([time], frame_step, frame_rate)
    warn_of_other_rates({video.stem: rate_of(time) / steps[0]}, trained_rate)
    chunk = window * steps[0]
    samples = max(clip_samples, longest_clip([time], chunk - 1, audio_context))
    reader = WindowReader(samples, image_size, audio_context)
    warn_of_clips(recordings, [chunk], reader)
    dataset = ChunkDataset(recordings, reader, window, batch_size, steps)
    return Loader(
        dataset,
        sampler=VideoShardSampler(dataset, num_replicas=1, rank=0),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def _decode_sound(video: Path, cache_dir: Path) -> SoundTrack:
    """The sound of a video, and when its pictures are shown: of a voice alone, its frames."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        sound = cache_sound(video, cache_dir / "sound.safetensors", voice_alone=True)
    except OSError as error:
        raise InputError(
            f"{cache_dir}: the sound can't be written there; make room, or set TMPDIR. ({error})"
        ) from error
    if len(sound.picture_times):
        return sound
    frames = math.ceil(int(sound.spans.max()) / SAMPLE_RATE * VOICE_RATE)
    return replace(sound, picture_times=sound.start + np.arange(frames) / VOICE_RATE)


def _check_crops(files: CropFiles, num_frames: int) -> None:
    """Refuse a folder of something else, and tell of crops that no frame has."""
    used, beyond = int(files.present[:num_frames].sum()), int(files.present[num_frames:].sum())
    if not used and (beyond or files.others):
        raise InputError(
            f"{files.folder}: none of its {beyond + len(files.others)} files is a crop "
            f"of the video's {num_frames} frames, called {crop_name(0)} and so on; give this video's crops."
        )
    if beyond:
        warnings.warn(
            f"{files.folder}: {beyond} crops are numbered beyond the {num_frames} frames, and are "
            "passed over; do they belong to another one?",
            stacklevel=4,
        )
