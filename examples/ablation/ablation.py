"""Do the claims of the method hold? An ablation on a synthetic corpus, in two stages as the paper works.

After arXiv 2603.08034: each encoder is trained alone, then frozen, and its features are extracted once; on
them the heads are trained, one factor at a time changed from the full method, with several seeds, and scored
on whole validation videos that are damaged in several ways. Nothing is selected on those videos: the last
weights count.

    python examples/ablation/ablation.py runs/ablation

Finished parts stay in the folder, so that another call goes on where the last one stopped; RESULTS.md and
its figure are written at the end, beside this script unless told otherwise.
"""

import argparse
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import torch
from results import write_results
from torch import Tensor

from abaw import ExpressionModule
from abaw.data import AffWild2DataModule, FeatureDataModule
from abaw.data.augment import Augmentation
from abaw.data.feature_datamodule import feature_sizes
from abaw.encoders import ConvVisualEncoder, LogMelEncoder, PrecomputedEncoder
from abaw.engine import VideoAssembler, VideoFeatures, WindowVoter
from abaw.errors import InputError
from abaw.files import make_writable, replacing
from abaw.fusion import ConcatFusion, CrossAttentionFusion, DualBranchTransformer, FusionHead, ModalityDropout
from abaw.labels import EXPRESSIONS
from abaw.losses import FocalLoss, FrameLoss, LogitAdjustedLoss
from abaw.metrics import ExpressionMetrics
from abaw.postprocess import likeliest
from abaw.quiet import quieten
from abaw.robustness import RATES, LostFrames
from abaw.synth import write_corpus
from abaw.trainer import ExpressionTrainer

WINDOW: Final = 32
VOTING_STRIDE: Final = 8
FEATURES: Final = 64
HEADS: Final[dict[str, Callable[..., FusionHead]]] = {
    "Concat": ConcatFusion,
    "CrossAttention": partial(CrossAttentionFusion, dim=64),
    "DualBranch": partial(DualBranchTransformer, dim=64),
}


@dataclass(frozen=True)
class Settings:
    """How much is done, and by which script: what a folder's finished parts are finished for."""

    videos: int
    frames: int
    weakest: float
    encoder_epochs: int
    head_epochs: int
    script: str = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True)
class Method:
    """What is trained on the features; by default the full method."""

    head: str = "DualBranch"
    dropout: float = 0.1
    loss: str = "focal"
    sees: bool = True


METHODS: Final = {
    "full method": Method(),
    "Concat": Method(head="Concat"),
    "CrossAttention": Method(head="CrossAttention"),
    "dropout 0": Method(dropout=0.0),
    "dropout 0.3": Method(dropout=0.3),
    "cross-entropy": Method(loss="cross-entropy"),
    "logit-adjusted": Method(loss="logit-adjusted"),
    # Two factors: dropout teaches every head what missing means, so safety is judged without it too.
    "Concat, dropout 0": Method(head="Concat", dropout=0.0),
    "CrossAttention, dropout 0": Method(head="CrossAttention", dropout=0.0),
    "audio only": Method(sees=False),
}


def main(argv: list[str] | None = None) -> None:
    """Run what is not finished, and write the results."""
    parser = argparse.ArgumentParser(description="Test the claims of the method on a synthetic corpus.")
    parser.add_argument("folder", type=Path, help="where finished parts are kept")
    parser.add_argument("--videos", type=int, default=96, help="default: %(default)s")
    # Whole windows, so that without voting each frame is in one alone.
    parser.add_argument("--frames", type=int, default=320, help="of each video; default: %(default)s")
    parser.add_argument("--weakest", type=float, default=0.2, help="expression; default: %(default)s")
    parser.add_argument("--encoder-epochs", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--head-epochs", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="of each method; default: %(default)s")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent, help="where RESULTS.md goes")
    args = parser.parse_args(argv)
    settings = Settings(args.videos, args.frames, args.weakest, args.encoder_epochs, args.head_epochs)
    quieten()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # else several lines for each head
    # Lost faces and odd tracks are what the corpus is made to have.
    warnings.filterwarnings("ignore", category=UserWarning)
    try:
        parts = run(args.folder, settings, args.seeds)
    except InputError as error:
        parser.exit(2, f"ablation: error: {error}\n")
    write_results(args.results, parts, asdict(settings), args.seeds, WINDOW, VOTING_STRIDE)
    print(f"wrote {args.results / 'RESULTS.md'}")


def run(folder: Path, settings: Settings, seeds: int) -> dict[str, Any]:
    """Run all parts that are not finished, and return what each has said, with the seconds that it took.

    Args:
        folder: Where finished parts are kept.
        settings: How much is done; the same as when the folder was begun.
        seeds: How many of each method; more may follow later.

    Raises:
        InputError: The folder holds parts of other settings, or cannot be written.
    """
    make_writable(folder)
    if finished(folder, "settings", lambda: asdict(settings))["said"] != asdict(settings):
        raise InputError(f"{folder}: was begun with other settings or another script; choose another folder")
    corpus, features = folder / "corpus", folder / "features"
    stages: dict[str, Callable[[], Any]] = {
        "corpus": partial(make_corpus, corpus, settings),
        "visual": partial(train_encoder, "visual", corpus, settings, folder / "visual.ckpt"),
        "audio": partial(train_encoder, "audio", corpus, settings, folder / "audio.ckpt"),
        "features": partial(extract, folder, corpus, features),
    }
    # Seeds in the outer loop: what is there early compares all methods.
    for seed, name in product(range(seeds), METHODS):
        stages[f"{name}, seed {seed}"] = partial(score, features, METHODS[name], settings, seed)
    return {name: finished(folder, name, make) for name, make in stages.items()}


def finished(folder: Path, name: str, make: Callable[[], Any]) -> dict[str, Any]:
    """What a part has ``said``, plain data, and the ``seconds`` that it took; made if it isn't there yet."""
    path = folder / f"{name}.json"
    if not path.is_file():
        print(f"{time.strftime('%H:%M:%S')} {name} …", flush=True)
        start = time.monotonic()
        said = make()
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"said": said, "seconds": time.monotonic() - start}))
    part: dict[str, Any] = json.loads(path.read_text())
    return part


def make_corpus(root: Path, settings: Settings) -> None:
    """Write the corpus, over one whose end nobody has written down."""
    # In this process: others would have to import all that this script does.
    write_corpus(
        root,
        settings.videos,
        settings.frames,
        progress=False,
        overwrite=True,
        workers=0,
        weakest=settings.weakest,
    )


def train_encoder(kind: str, corpus: Path, settings: Settings, checkpoint: Path) -> None:
    """Train one encoder below the simplest head, its modality being all there is."""
    pl.seed_everything(0, verbose=False)
    visual = ConvVisualEncoder(FEATURES) if kind == "visual" else None
    audio = LogMelEncoder(FEATURES) if kind == "audio" else None
    sizes = (1 if visual is None else FEATURES, 1 if audio is None else FEATURES)
    module = ExpressionModule(
        visual, audio, ConcatFusion(*sizes, len(EXPRESSIONS)), FocalLoss(gamma=0), lr=1e-3
    )
    trainer = quiet_trainer(settings.encoder_epochs)
    trainer.fit(module, datamodule=corpus_data(corpus))
    trainer.save_checkpoint(checkpoint, weights_only=True)


def extract(folder: Path, corpus: Path, features: Path) -> None:
    """Join both encoders, and write their features of all videos."""
    visual, audio = (
        ExpressionModule.load_from_checkpoint(folder / f"{kind}.ckpt", map_location="cpu", weights_only=True)
        for kind in ("visual", "audio")
    )
    head = ConcatFusion(FEATURES, FEATURES, len(EXPRESSIONS))
    module = ExpressionModule(visual.visual_encoder, audio.audio_encoder, head)
    quiet_trainer(1).extract(module, corpus_data(corpus), str(features))


def score(features: Path, method: Method, settings: Settings, seed: int) -> dict[str, Any]:
    """Train a method's head, and score it on the validation videos, whole and damaged."""
    pl.seed_everything(seed, verbose=False)
    data = FeatureDataModule(
        features, window=WINDOW, stride=WINDOW // 2, batch_size=32, num_workers=0, seed=seed
    )
    data.setup()
    counts = data.class_counts.tolist()
    module = build(method, feature_sizes(features), counts)
    quiet_trainer(settings.head_epochs).fit(module, datamodule=data)
    module.eval()
    videos = list(assemble(module, data))
    damaged: dict[str, list[VideoFeatures]] = {"clean": videos}
    if method.sees:
        damaged["without video"] = [video.without_video() for video in videos]
        damaged["without audio"] = [video.without_audio() for video in videos]
        for rate in RATES:
            loss = LostFrames("video", "lost in stretches", rate)
            damaged[f"video lost {rate}"] = [loss.apply(video, seed=0) for video in videos]
    scores = {name: measure(module, given, VOTING_STRIDE) for name, given in damaged.items()}
    scores["without voting"] = measure(module, videos, WINDOW)
    return {
        "class_counts": counts,
        "majority_f1": majority_f1(videos, counts),
        "truth_changes": truth_changes(videos),
        "scores": scores,
    }


def build(method: Method, sizes: dict[str, int], class_counts: list[int]) -> ExpressionModule:
    """The model of a method, on features."""
    losses: dict[str, Callable[[], FrameLoss]] = {
        "focal": FocalLoss,
        "cross-entropy": lambda: FocalLoss(gamma=0),
        "logit-adjusted": lambda: LogitAdjustedLoss(class_counts),
    }
    visual_dim = sizes["visual"] if method.sees else 1
    return ExpressionModule(
        PrecomputedEncoder(visual_dim) if method.sees else None,
        PrecomputedEncoder(sizes["audio"]),
        HEADS[method.head](visual_dim, sizes["audio"], len(EXPRESSIONS)),
        losses[method.loss](),
        ModalityDropout(p_visual=method.dropout) if method.sees else None,
        lr=1e-3,
    )


@torch.no_grad()
def assemble(module: ExpressionModule, data: FeatureDataModule) -> Iterator[VideoFeatures]:
    """The validation videos, whole, as a model is given them."""
    assembler = VideoAssembler()
    for batch in data.val_dataloader():
        yield from assembler.add(module.encode(batch), batch)


def measure(module: ExpressionModule, videos: list[VideoFeatures], stride: int) -> dict[str, Any]:
    """Macro-F1, the F1 of each class and the changes of label a minute, a window starting every stride."""
    metrics = ExpressionMetrics(EXPRESSIONS)
    voter = WindowVoter(WINDOW, stride)
    labels = []
    for video in videos:
        scores, covered = voter.vote(module.fusion, video, len(EXPRESSIONS))
        labels.append(likeliest(scores, covered))
        metrics.update(labels[-1], video.target)
    values = {name: float(value) for name, value in metrics.compute().items()}
    return {
        "f1": values["f1"],
        "f1_per_class": [values[f"f1/{name}"] for name in EXPRESSIONS],
        "changes": changes_a_minute(labels, videos),
    }


def majority_f1(videos: list[VideoFeatures], class_counts: list[int]) -> float:
    """Macro-F1 of always answering the class that is most frequent in training."""
    metrics = ExpressionMetrics(EXPRESSIONS)
    majority = class_counts.index(max(class_counts))
    for video in videos:
        metrics.update(torch.full_like(video.target, majority), video.target)
    return float(metrics.compute()["f1"])


def truth_changes(videos: list[VideoFeatures]) -> float:
    """How often a minute the annotation changes, of videos that are annotated throughout."""
    whole = [video for video in videos if bool((video.target >= 0).all())]
    return changes_a_minute([video.target for video in whole], whole)


def changes_a_minute(labels: list[Tensor], videos: list[VideoFeatures]) -> float:
    """How often a label differs from that of the frame before."""
    changes = sum(int((one.diff() != 0).sum()) for one in labels)
    return 60 * changes / sum(float(video.time[-1] - video.time[0]) for video in videos)


def corpus_data(root: Path) -> AffWild2DataModule:
    """The corpus as the encoders are trained on it, rare classes as often as frequent ones."""
    mild = Augmentation(crop=0, brightness=0.1, contrast=0.1, color=0, erase=0, gain=3, noise=0)
    return AffWild2DataModule(
        root, window=WINDOW, batch_size=16, num_workers=1, image_size=56, balanced=True, augmentation=mild
    )


def quiet_trainer(epochs: int) -> ExpressionTrainer:
    """A trainer that trains and nothing else."""
    return ExpressionTrainer(
        accelerator="cpu",
        max_epochs=epochs,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


if __name__ == "__main__":
    main()
