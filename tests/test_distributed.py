"""Several processes (gloo, on the CPU): they train, they agree, and none waits for another for ever."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from signals import signalling
from small import fit_arguments

from abaw.cli import main

pytestmark = pytest.mark.slow

TWO_EPOCHS = ["--trainer.max_epochs=2", "--data.batch_size=2"]


def abaw(processes: int, *arguments: object, status: int = 0) -> None:
    """Run the command with several processes; one that hangs fails the test."""
    strategy = [f"--trainer.devices={processes}", f"--trainer.strategy={'ddp' if processes > 1 else 'auto'}"]
    if processes == 1:
        assert main([*map(str, arguments), *strategy]) == status
        return
    command = [sys.executable, "-m", "abaw", *map(str, arguments), *strategy]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=environment)
    assert done.returncode == status, done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two processes trained."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    abaw(2, *fit_arguments(corpus, folder), *TWO_EPOCHS)
    return folder


def test_two_processes_train(run: Path) -> None:
    rows = list(csv.DictReader((run / "logs" / "version_0" / "metrics.csv").open()))
    losses = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert (run / "checkpoints" / "best.ckpt").is_file()


def numbers(tree: object, path: str = "") -> dict[str, float]:
    if isinstance(tree, dict):
        return {k: v for key, item in tree.items() for k, v in numbers(item, f"{path}/{key}").items()}
    if isinstance(tree, list):
        return {k: v for i, item in enumerate(tree) for k, v in numbers(item, f"{path}/{i}").items()}
    return {path: float(tree)} if isinstance(tree, (int, float)) else {}


def test_any_number_of_processes_gives_the_same_metrics(run: Path, corpus: Path, tmp_path: Path) -> None:
    videos = len(list((corpus / "EXPR_Recognition_Challenge" / "Validation_Set").glob("*.txt")))
    assert videos % 3, "the videos should not divide evenly"
    results = []
    for processes in (1, 2, 3):
        folder = tmp_path / str(processes)
        abaw(processes, "test", f"--run={run}", f"--report.output_dir={folder}")
        results.append(numbers(json.loads((folder / "test.json").read_text())))
    assert len(results[0]) > 20
    for other in results[1:]:
        assert other == pytest.approx(results[0], abs=1e-6)


def test_any_number_of_processes_predicts_the_same_and_more_than_there_are_videos(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    assert len(next(corpus.glob("*test_set_release.txt")).read_text().split("\n")) - 1 == 2
    predictions = []
    for processes in (1, 2, 3):
        folder = tmp_path / str(processes)
        abaw(processes, "predict", f"--run={run}", f"--predictions.output_dir={folder}")
        predictions.append((folder / "predictions.txt").read_bytes())
        for path in (tmp_path / "1" / "scores").iterdir():
            one, other = load_file(path)["scores"], load_file(folder / "scores" / path.name)["scores"]
            torch.testing.assert_close(other, one, atol=1e-6, rtol=0)
    assert predictions[0] == predictions[1] == predictions[2]


def test_a_signal_to_one_of_two_stops_both_and_they_go_on(run: Path, corpus: Path, tmp_path: Path) -> None:
    asked = signalling("on_train_batch_end", signal.SIGTERM, rank=1, call=1)
    abaw(2, *fit_arguments(corpus, tmp_path), *TWO_EPOCHS, *asked, status=143)
    last = tmp_path / "checkpoints" / "last.ckpt"
    whole = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    stopped = torch.load(last, weights_only=True)
    assert whole["global_step"] / 2 < stopped["global_step"] < whole["global_step"]
    abaw(2, "fit", f"--run={tmp_path}", "--trainer.callbacks=null", "--trust=signals")
    for name, value in torch.load(last, weights_only=True)["state_dict"].items():
        torch.testing.assert_close(value, whole["state_dict"][name], rtol=0, atol=0, msg=name)


SCRIPT = '''
import sys
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler

from abaw import ExpressionModule
from abaw.encoders import ConvVisualEncoder, LogMelEncoder, VisualEncoder
from abaw.fusion import ConcatFusion
from abaw.losses import FocalLoss


NOTHING = [-1, -1, -1, -1]
TARGETS = [[1, 2, 3, 4], [5, -1, -1, -1], NOTHING, NOTHING, NOTHING, [0, 0, 7, -1]]


class Windows(torch.utils.data.Dataset):
    """Six windows, unevenly annotated; every second shows no face."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        return {
            "video": torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=g),
            "video_mask": torch.full((4,), i % 2 == 0),
            "audio": torch.randn(8000, generator=g) * 0.1,
            "audio_mask": torch.ones(4, dtype=torch.bool),
            "time": 0.1 + torch.arange(4) / 25,
            "target": torch.tensor(TARGETS[i]),
            "frame": torch.arange(4),
        }


class MeanColour(VisualEncoder):
    """An encoder that computes in the precision of its weights."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 8)

    def forward(self, video, video_mask):
        colour = video.to(self.linear.weight.dtype).mean(dim=(-1, -2)) / 255
        return self.linear(colour).tanh() * video_mask[..., None]


class Draws(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        draws = trainer.strategy.all_gather(torch.rand(4))
        assert trainer.world_size == 1 or not torch.equal(draws[0], draws[1]), "ranks draw alike"


class Gradients(pl.Callback):
    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.is_global_zero:
            gradients.append({n: p.grad.clone() for n, p in module.named_parameters()})


processes = int(sys.argv[1])
gradients = []
torch.manual_seed(0)
loss = FocalLoss(gamma=0.0, alpha=[1.0, 2.0, 3.0, 1.0, 1.0, 5.0, 1.0, 1.0])
encoders = ConvVisualEncoder(out_features=8), LogMelEncoder(out_features=8)
modules = {
    "32-true": ExpressionModule(*encoders, ConcatFusion(8, 8, 8, dropout=0.0), loss),
    "64-true": ExpressionModule(MeanColour(), None, ConcatFusion(8, 1, 8, dropout=0.0), loss),
}
for precision, module in modules.items():
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        # One process takes all at once, each of two takes three batches of a window.
        accumulate_grad_batches=1 if processes == 1 else 3,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Gradients(), Draws()],
    )
    trainer.fit(module, DataLoader(Windows(), batch_size=6 if processes == 1 else 1))
if trainer.is_global_zero:
    torch.save(gradients, sys.argv[2])
'''


def test_a_rank_without_a_face_does_not_hang_and_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    steps = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.pt"
        command = [sys.executable, str(script), str(processes), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        steps.append(torch.load(output, weights_only=True))
    assert [len(taken) for taken in steps] == [2, 2]
    for whole, split in zip(*steps, strict=True):
        assert whole.keys() == split.keys()
        for name, gradient in whole.items():
            tolerance = {"rtol": 1e-6, "atol": 1e-12} if gradient.dtype == torch.float64 else {}
            torch.testing.assert_close(
                split[name], gradient, **tolerance, msg=lambda text, n=name: f"{n}: {text}"
            )
