"""Every number that a part takes: what is out of range is refused by name, before memory is asked for."""

import inspect
import math
import re
import resource
import signal
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import abaw.lightning_cli  # all parts that can be named
from abaw.callbacks import PostprocessTuner, RobustnessReport, RunCheckpoint, SlidingWindowInference
from abaw.data.augment import Augmentation
from abaw.data.single import open_video
from abaw.encoders import ConvVisualEncoder, HFAudioEncoder, HFVisualEncoder
from abaw.engine import WindowVoter
from abaw.errors import InputError
from abaw.fusion import ConcatFusion, DualBranchTransformer, SafeCrossAttention
from abaw.fusion.layer import SafeTransformerLayer
from abaw.losses import FocalLoss, class_weights
from abaw.module import ExpressionModule
from abaw.parse_errors import SLOTS
from abaw.postprocess import Decoder, Postprocessing, Smoothing, SoftVoting, smooth, window_starts
from abaw.ranges import check_count, check_memory, check_number

TINY_BEIT = {"model_type": "beit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
TINY_WAVLM = {**TINY_BEIT, "model_type": "wavlm", "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2}
# Arguments that something must be said for, by name.
NEEDED: dict[str, Any] = {
    "visual_dim": 8,
    "audio_dim": 8,
    "num_classes": 4,
    "dim": 8,
    "num_heads": 2,
    "hidden": 8,
    "out_features": 8,
    "micro_batch": 4,
    "class_counts": [4, 3, 2, 1],
    "counts": [4, 3, 2, 1],
    "num_frames": 20,
    "window": 4,
    "stride": 2,
    "root": ".",
    "folds": 5,
    "scores": torch.full((20, 4), 0.25),
    "kind": "gaussian",
    "width": 3,
    "video": "none.mp4",
    "crops": None,
    "cache_dir": Path(),
    "visual_encoder": ConvVisualEncoder(8, width=8),
    "audio_encoder": None,
    "fusion": ConcatFusion(8, 1, 8),
}
SAID: dict[str, dict[str, Any]] = {
    "HFVisualEncoder": {"pretrained": False, "config_overrides": TINY_BEIT},
    "HFAudioEncoder": {"pretrained": False, "config_overrides": TINY_WAVLM},
}
OTHERS: list[Callable[..., Any]] = [
    ExpressionModule,
    SlidingWindowInference,
    RunCheckpoint,
    PostprocessTuner,
    RobustnessReport,
    Augmentation,
    SafeCrossAttention,
    SafeTransformerLayer,
    WindowVoter,
    SoftVoting,
    Smoothing,
    Decoder,
    class_weights,
    smooth,
    window_starts,
    open_video,
]
BAD: list[Any] = [-1, 0, math.nan, math.inf, 10**9]
MEGABYTES = 512


def subclasses(kind: type) -> Iterator[type]:
    for inner in kind.__subclasses__():
        yield inner
        yield from subclasses(inner)


def parts() -> list[Callable[..., Any]]:
    """All that a slot takes, and what else takes numbers."""
    found = {part for kind in SLOTS.values() for part in (kind, *subclasses(kind))}
    named = [part for part in found if part.__module__.startswith("abaw.") and not inspect.isabstract(part)]
    return [*sorted(named, key=lambda part: part.__name__), *OTHERS]


def takes_number(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(map(takes_number, typing.get_args(annotation)))
    return annotation in (int, float)


def numbers() -> list[Any]:
    cases = []
    for part in parts():
        function = part.__init__ if isinstance(part, type) else part
        hints = typing.get_type_hints(function)
        for name in inspect.signature(part).parameters:
            if takes_number(hints.get(name)):
                cases.append(pytest.param(part, name, id=f"{part.__name__}-{name}"))
    return cases


@contextmanager
def little_memory_and_time() -> Iterator[None]:
    """Fail what asks for more memory than there is need of, or never ends."""

    def late(*_: object) -> None:
        raise AssertionError("takes longer than 20 seconds")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, hard))
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_all_parts_are_looked_at() -> None:
    names = {part.__name__ for part in parts()}
    assert {"DualBranchTransformer", "FocalLoss", "HFAudioEncoder", "FeatureDataModule"} <= names
    assert len(numbers()) > 80


@pytest.mark.parametrize(("part", "name"), numbers())
def test_a_number_out_of_range_is_named(part: Callable[..., Any], name: str) -> None:
    takes = inspect.signature(part).parameters
    needed = {key for key, parameter in takes.items() if parameter.default is parameter.empty}
    given = {key: value for key, value in NEEDED.items() if key in needed}
    given |= SAID.get(part.__name__, {})
    for value in BAD:
        with little_memory_and_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                part(**given | {name: value})
            except ValueError as error:
                told = str(error)
                # Of one video, the file that isn't there is what comes after the numbers.
                assert re.search(rf"\b{name}\b", told) or "none.mp4: no such video" in told, (
                    f"{value}: {told}"
                )
                assert "\n" not in told
            else:
                assert not (isinstance(value, float)), f"{name}={value} is accepted"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ConcatFusion(8, 8, 4, hidden=65_536 * 2), "hidden must be at most 65536"),
        (lambda: SafeTransformerLayer(65_536, 2), "dim=65536 would take"),
        (
            lambda: DualBranchTransformer(8, 8, 4, 4096, num_layers=999),
            "dim=4096",
        ),
        (
            lambda: abaw.data.AffWild2DataModule(".", window=90_000, batch_size=90_000),
            "batch_size=90000, window",
        ),
        (lambda: Augmentation(flip=1.5), "flip must be at most 1, not 1.5"),
        (lambda: Augmentation(crop=1.0), "crop must be below 1, not 1.0"),
        (lambda: FocalLoss(beta=math.nan), "beta must be a finite number, not nan"),
        (lambda: check_count(0, 1, seed=True), "seed must be a whole number, not True"),
        (lambda: check_count(0, 1, seed=10**5000), "not a number of more than 30 digits"),
        (lambda: check_number(0, 1, lr="0.5"), "lr must be a finite number, not 0.5"),
        (lambda: check_memory(2**70, windows=5), "windows=5 would take 1,099,511,627,776 GiB"),
        (lambda: class_weights([1.0, math.inf]), "frames of each class"),
    ],
)
def test_what_is_told(call: Callable[[], object], words: str) -> None:
    with little_memory_and_time(), pytest.raises(ValueError, match=re.escape(words)):
        call()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 1000"),
        ({"hidden_size": 10**9}, "hidden_size must be at most"),
        ({"intermediate_size": 10**9}, "intermediate_size must be at most"),
        ({"hidden_size": 60_000, "num_hidden_layers": 900}, "num_hidden_layers=900, hidden_size=60000 would"),
    ],
)
def test_sizes_of_pretrained_kinds_are_looked_at(overrides: dict[str, int], words: str) -> None:
    with little_memory_and_time():
        for encoder, tiny in ((HFVisualEncoder, TINY_BEIT), (HFAudioEncoder, TINY_WAVLM)):
            with pytest.raises(InputError, match=words):
                encoder(pretrained=False, config_overrides=tiny | overrides)


def test_wide_smoothing_costs_no_more_than_the_video_is_long() -> None:
    scores = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    with little_memory_and_time():
        for kind in ("median", "box", "gaussian"):
            wide, wider = (smooth(scores, kind, width) for width in (99, 99_999))
            if kind != "gaussian":
                torch.testing.assert_close(wide, wider)
    torch.testing.assert_close(wider, scores.mean(0).expand(50, 3))  # so wide, all frames count alike


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"transitions": f"[[1{'0' * 40}, 1], [1, 1]]"},
            "transitions must be at most",
        ),
        ({"transitions": "[[-1, 1], [1, 1]]"}, "transitions must be at least 0"),
        ({"bias": "[.nan, 0]"}, "bias must be"),
        ({"bias": f"[1{'0' * 400}, 0]"}, "bias must be"),
        ({"transition_weight": ".inf"}, "transition_weight must be"),
        ({"smoothing": "{kind: box, width: 1000000001}"}, "width must be at most 100000"),
        ({"smoothing": f"{{kind: box, width: 1{'0' * 400}1}}"}, "width must be"),
    ],
)
def test_numbers_of_a_file_are_held_to_the_same(change: dict[str, str], words: str, tmp_path: Path) -> None:
    entries = {"class_names": "[a, b]", "smoothing": "null", "bias": "null", "transition_weight": "null"}
    entries |= {"folds": "[]", "transitions": "[[1, 1], [1, 1]]"} | change
    path = tmp_path / "postprocess.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in entries.items()))
    with pytest.raises(InputError, match=words) as caught:
        Postprocessing.read(path)
    assert str(caught.value).startswith(str(path))
