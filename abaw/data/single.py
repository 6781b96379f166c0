"""One video that belongs to no corpus, in chunks."""

import math
from pathlib import Path

import torch

from abaw.data.datasets import ChunkDataset, Loader
from abaw.data.layout import Video
from abaw.data.recordings import load_recordings, read_crops
from abaw.data.samplers import VideoShardSampler
from abaw.data.sound_cache import open_sounds
from abaw.data.windows import WindowReader
from abaw.data.windows import clip_samples as longest_clip
from abaw.errors import InputError


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
) -> Loader:
    """Decode the sound of one video and serve it whole: chunks of `abaw.data.Batch`, in order.

    Args:
        video: Any file that FFmpeg reads.
        crops: The folder of its face crops; None for a model that only listens.
        cache_dir: Where the decoded sound goes, made if need be.
        window: Frames of a window.
        frame_step: Frames from one frame of a window to the next.
        image_size: Height and width of the crops.
        audio_context: Seconds of sound before a chunk's first frame and after its last.
        batch_size: Chunks in a batch.
        num_workers: Processes that read ahead; 0 reads in this one.
        clip_samples: S, samples of a chunk's sound; the video's frame rate can ask for more.

    Raises:
        InputError: The video or the folder can't be read.
        ValueError: A number is below 1, or ``audio_context`` below 0.
    """
    numbers = {"window": window, "frame_step": frame_step, "image_size": image_size, "batch_size": batch_size}
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not 0 <= audio_context < math.inf:
        raise ValueError(f"audio_context is a number of seconds, not {audio_context}")
    video, crops = Path(video), None if crops is None else Path(crops)
    if not video.is_file():
        raise InputError(f"{video}: no such video file.")
    if crops is not None and not crops.is_dir():
        raise InputError(f"{crops}: no such folder; give the folder of the video's face crops, 00001.jpg …")
    sounds = open_sounds({video.stem: video}, cache_dir, num_threads=1)
    listed = Video(video.stem, "test", video.stem, annotation=None, crops=crops, raw=video)
    recordings = load_recordings([listed], {}, sounds, read_crops([listed]))
    chunk = window * frame_step
    samples = max(clip_samples, longest_clip([recordings[0].time], chunk - 1, audio_context))
    dataset = ChunkDataset(recordings, WindowReader(samples, image_size, audio_context), chunk, batch_size)
    return Loader(
        dataset,
        sampler=VideoShardSampler(dataset, num_replicas=1, rank=0),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
