"""A data module that knows nothing of abaw's but what a batch is."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

T, S = 16, 12_000


def make_batch(videos: range, frames: int = T) -> dict[str, object]:
    """A batch of one window of each of some videos."""
    generator = torch.Generator().manual_seed(videos.start)
    count = len(videos)
    return {
        "video": torch.randint(0, 256, (count, frames, 3, 32, 32), dtype=torch.uint8, generator=generator),
        "video_mask": torch.ones(count, frames, dtype=torch.bool),
        "audio": torch.randn(count, S, generator=generator) * 0.1,
        "audio_mask": torch.ones(count, frames, dtype=torch.bool),
        "time": 0.1 + torch.arange(frames).expand(count, frames) / 25,
        "target": torch.randint(0, 3, (count, frames), generator=generator),
        "frame": torch.arange(frames).expand(count, frames).clone(),
        "video_id": [f"video{n}" for n in videos],
        "audio_start": [0.0] * count,
        "num_frames": [frames] * count,
    }


class ForeignData(pl.LightningDataModule):
    """Three classes, in videos of one window."""

    class_names = ("Calm", "Tense", "Other")

    def __init__(self, videos: int = 8) -> None:
        super().__init__()
        self.videos = videos

    def _loader(self, size: int) -> DataLoader:
        batches = [make_batch(range(n, n + size)) for n in range(0, self.videos, size)]
        return DataLoader(batches, batch_size=None)

    def train_dataloader(self) -> DataLoader:
        return self._loader(4)

    def val_dataloader(self) -> DataLoader:
        return self._loader(1)

    test_dataloader = predict_dataloader = val_dataloader


class Nameless(ForeignData):
    """Doesn't say what its classes are called."""

    class_names = None
