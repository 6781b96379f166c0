"""What every head of the library promises: the public contract, and more than it asks for."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from onnx_runtime import in_onnx_runtime
from torch import Tensor
from torch._subclasses import FakeTensorMode

from abaw.fusion import (
    ConcatFusion,
    CrossAttentionFusion,
    DualBranchTransformer,
    FusionHead,
    GatedFusion,
    LateFusion,
)
from abaw.testing import check_fusion_head

VISUAL, AUDIO, CLASSES = 6, 5, 4
HEADS = {
    "concat": partial(ConcatFusion, hidden=16),
    "gated": partial(GatedFusion, hidden=16),
    "late": partial(LateFusion, hidden=16),
    "cross-attention": partial(CrossAttentionFusion, dim=16, num_heads=2),
    "dual-branch": partial(DualBranchTransformer, dim=16, num_heads=2),
    "dual-branch-rotary": partial(DualBranchTransformer, dim=16, num_heads=2, position="rotary"),
    "dual-branch-deep": partial(DualBranchTransformer, dim=16, num_heads=4, num_layers=2, fused_layers=2),
    "dual-branch-shallow": partial(DualBranchTransformer, dim=16, num_heads=1, num_layers=0, fused_layers=0),
}


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> FusionHead:
    torch.manual_seed(0)
    return HEADS[request.param](VISUAL, AUDIO, CLASSES).eval()


def masks(frames: int, seed: int) -> Tensor:
    """Nine samples: full, empty, half and random masks; :func:`batch` crosses two such lists."""
    mask = torch.rand(3, frames, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0], mask[1] = True, False
    return mask


def batch(frames: int = 7) -> dict[str, Tensor]:
    """Nine samples: every kind of face mask with every kind of sound mask; all frames are real."""
    generator = torch.Generator().manual_seed(frames)
    return {
        "visual": torch.randn(9, frames, VISUAL, generator=generator),
        "audio": torch.randn(9, frames, AUDIO, generator=generator),
        "video_mask": masks(frames, 1).repeat_interleave(3, dim=0),
        "audio_mask": masks(frames, 2).repeat(3, 1),
        "time": 0.4 + torch.arange(frames).expand(9, frames) / 25,
        "frame_mask": torch.ones(9, frames, dtype=torch.bool),
    }


def test_keeps_the_contract(head: FusionHead) -> None:
    check_fusion_head(head)


def test_works_under_autocast(head: FusionHead) -> None:
    given = batch()
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(**given)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.float(), head(**given), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("garbage", [math.nan, math.inf])
def test_does_not_peek_at_absent_features(head: FusionHead, garbage: float) -> None:
    given = batch()
    filled = given | {
        "visual": given["visual"].masked_fill(~given["video_mask"][..., None], garbage),
        "audio": given["audio"].masked_fill(~given["audio_mask"][..., None], garbage),
    }
    results = []
    for content in (given, filled):
        head.zero_grad()
        logits = head(**content)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad.clone() for parameter in head.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


@pytest.mark.parametrize("before", [0, 3])
def test_padding_changes_nothing(head: FusionHead, before: int) -> None:
    given = batch()
    padded = {}
    for name, value in given.items():
        filler = False if name == "frame_mask" else True if value.dtype == torch.bool else math.nan
        shape = (9, 7 + before + 4, *value.shape[2:])
        padded[name] = torch.full(shape, filler, dtype=value.dtype)
        padded[name][:, before : before + 7] = value
    logits = head(**padded)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[:, before : before + 7], head(**given), atol=1e-5, rtol=0)


def test_present_features_count(head: FusionHead) -> None:
    given = batch()
    logits = head(**given)
    for name, mask in (("visual", "video_mask"), ("audio", "audio_mask")):
        change = (head(**given | {name: given[name] + 1}) - logits).abs().amax(dim=(1, 2))
        assert torch.equal(change > 1e-4, given[mask].any(dim=1)), name


def test_masks_and_times_may_be_left_out(head: FusionHead) -> None:
    given = batch()
    given["time"] = torch.arange(7).expand(9, 7) / 30
    short = {name: value for name, value in given.items() if name not in ("time", "frame_mask")}
    torch.testing.assert_close(head(**short), head(**given), atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", ["dual-branch", "concat"], indirect=True)
def test_one_graph_for_every_mask(head: FusionHead) -> None:
    torch.compiler.reset()
    compiled = torch.compile(head, fullgraph=True, backend="eager", dynamic=False)
    given = batch()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            given["audio_mask"], given["frame_mask"] = (masks(7, seed + i).repeat(3, 1) for i in (5, 6))
            torch.testing.assert_close(compiled(**given), head(**given))


@pytest.mark.parametrize("head", ["dual-branch-rotary"], indirect=True)
def test_exports_with_dynamic_batch_and_length(head: FusionHead) -> None:
    size, frames = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("frames", min=1, max=4096)
    dynamic = {name: {0: size, 1: frames} for name in batch()}
    exported = torch.export.export(head, (), batch(), dynamic_shapes=dynamic).module()
    for length in (1, 7, 12):
        for count in (1, 9):
            given = {name: value[:count] for name, value in batch(length).items()}
            torch.testing.assert_close(exported(**given), head(**given), atol=1e-5, rtol=0)


def everything_that_can_be_missing(frames: int) -> dict[str, Tensor]:
    """Each pattern of face, sound and padding that so many frames can have: a sample for each."""
    present = torch.tensor(list(product([False, True], repeat=3 * frames))).unflatten(1, (3, frames))
    names = ("video_mask", "audio_mask", "frame_mask")
    return {
        "visual": torch.randn(len(present), frames, VISUAL),
        "audio": torch.randn(len(present), frames, AUDIO),
        "time": 0.4 + torch.arange(frames).repeat(len(present), 1) / 25,
        **{name: mask.contiguous() for name, mask in zip(names, present.unbind(1), strict=True)},
    }


SHIPPED = ["concat", "gated", "late", "cross-attention", "dual-branch", "dual-branch-rotary"]


@pytest.mark.slow
@pytest.mark.parametrize("head", SHIPPED, indirect=True)
def test_says_the_same_in_onnx_runtime(head: FusionHead) -> None:
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}
    run = in_onnx_runtime(head, batch(), dict.fromkeys(batch(), axes))
    torch.manual_seed(0)
    for given in (*map(everything_that_can_be_missing, (1, 2, 3)), batch(1), batch(40)):
        with torch.no_grad():
            expected = head(**given)
        torch.testing.assert_close(run(**given), expected, atol=1e-4, rtol=0)
        filled = {
            name: given[name].masked_fill(~given[mask][..., None], math.nan)
            for name, mask in (("visual", "video_mask"), ("audio", "audio_mask"))
        }
        torch.testing.assert_close(run(**given | filled), expected, atol=1e-4, rtol=0)
        alone = {name: value[:1] for name, value in given.items()}
        torch.testing.assert_close(run(**alone), expected[:1], atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["dual-branch"], indirect=True)
def test_onnx_without_time_and_padding(head: FusionHead) -> None:
    def short(given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in given.items() if name not in ("time", "frame_mask")}

    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}
    run = in_onnx_runtime(head, short(batch()), dict.fromkeys(short(batch()), axes))
    torch.manual_seed(0)
    for given in map(short, (everything_that_can_be_missing(2), batch(40))):
        with torch.no_grad():
            torch.testing.assert_close(run(**given), head(**given), atol=1e-4, rtol=0)


def test_never_waits_for_the_device(head: FusionHead) -> None:
    # A fake tensor has no values: asking for one raises.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        given = {name: mode.from_tensor(value) for name, value in batch().items()}
        assert head(**given).shape == (9, 7, CLASSES)


def test_remembers_how_it_was_made(head: FusionHead) -> None:
    described = head.describe()
    assert described["class_path"].startswith("abaw.fusion.")
    again = type(head)(**described["init_args"])
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.eval()(**batch()), head(**batch()))
