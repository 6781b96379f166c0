import io
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console

from abaw.callbacks import FrameProgressBar
from abaw.data import AffWild2DataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*videos have:UserWarning")


class Looker(pl.LightningModule):
    """Sees frames, and does nothing with them."""

    fails: ClassVar[bool] = False

    def predict_step(self, batch, batch_idx):
        if self.fails and batch_idx == 3:
            raise RuntimeError("broken")
        return torch.zeros(1)


def shown(corpus: Path, model: Looker, skip: int = 0) -> str:
    bar = FrameProgressBar()
    text = io.StringIO()
    bar._bar.live.console = Console(file=text, width=100, force_terminal=True)
    data = AffWild2DataModule(corpus, window=16, num_workers=0, image_size=8)
    data.setup()
    data.predict_all(but=[video.video_id for video in data.videos][:skip])
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[bar], enable_model_summary=False)
    assert trainer.progress_bar_callback is bar
    try:
        trainer.predict(model, datamodule=data, return_predictions=False)
    except RuntimeError:
        assert not bar._bar.live.is_started
    return text.getvalue()


def test_frames_rate_and_time_left_are_shown(corpus: Path) -> None:
    last = [line for line in shown(corpus, Looker()).splitlines() if "Frames" in line][-1]
    assert "1440/1440" in last
    assert "frames/s" in last
    assert "left: 0:00:00" in last.replace("\x1b[36m", "")


def test_finished_videos_are_no_work(corpus: Path) -> None:
    assert "180/180" in shown(corpus, Looker(), skip=14)
    assert shown(corpus, Looker(), skip=16) == ""


def test_an_error_ends_the_bar(corpus: Path) -> None:
    model = Looker()
    model.fails = True
    assert "1440/1440" not in shown(corpus, model)
