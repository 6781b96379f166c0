"""Heads that are broken on purpose, each in one way, and sound ones of other kinds than the library's."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abaw.fusion import FusionHead, LateFusion
from abaw.testing import check_fusion_head
from abaw.testing.subject import UNPADDED

VISUAL, AUDIO, CLASSES = 3, 2, 4


class Sound(FusionHead):
    """Each frame's features and the mean over real frames; keeps the contract."""

    def __init__(self, visual_dim: int = VISUAL, audio_dim: int = AUDIO, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_dim, 8)
        self.audio = nn.Linear(audio_dim, 8)
        self.out = nn.Linear(8, num_classes)
        self.prepare()

    def prepare(self) -> None:
        pass

    def clean(self, features: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask[..., None], features, 0)

    def project(self, visual: Tensor, audio: Tensor, video_mask: Tensor, audio_mask: Tensor) -> Tensor:
        return self.visual(visual) + self.audio(audio)

    def mean(self, tokens: Tensor, video_mask: Tensor, frame_mask: Tensor) -> Tensor:
        real = frame_mask[..., None]
        return torch.where(real, tokens, 0).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)

    def finish(self, tokens: Tensor) -> Tensor:
        return self.out(tokens)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        time: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        if frame_mask is None:
            frame_mask = torch.ones_like(video_mask)
        visual, audio = self.clean(visual, video_mask), self.clean(audio, audio_mask)
        tokens = self.project(visual, audio, video_mask, audio_mask)
        return self.finish(tokens + self.mean(tokens, video_mask, frame_mask))


class OneLabelAWindow(Sound):
    def finish(self, tokens):
        return self.out(tokens.mean(1))


class ClassesFirst(Sound):
    def finish(self, tokens):
        return self.out(tokens).transpose(1, 2)


class DemandsTime(Sound):
    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        return super().forward(visual + time[..., None], audio, video_mask, audio_mask, time, frame_mask)


class AlwaysDrops(Sound):
    def finish(self, tokens):
        return self.out(F.dropout(tokens))


class DividesByNothing(Sound):
    def project(self, visual, audio, video_mask, audio_mask):
        present = (video_mask.int() + audio_mask.int())[..., None]
        return super().project(visual, audio, video_mask, audio_mask) / present


class RootOfNothing(Sound):
    # The forward is right; the root's derivative at zero is infinite.
    def project(self, visual, audio, video_mask, audio_mask):
        length = F.linear(visual, self.visual.weight).square().sum(-1, keepdim=True).sqrt()
        return super().project(visual, audio, video_mask, audio_mask) + length


class MaxOfNothing(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        return tokens.masked_fill(~frame_mask[..., None], -torch.inf).amax(1, keepdim=True)


class RefusesSilence(Sound):
    def clean(self, features, mask):
        if features.shape[-1] == AUDIO and not mask.any():
            raise ValueError("sound is needed\nsomewhere")
        return super().clean(features, mask)


class AveragesPadding(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        return tokens.mean(1, keepdim=True)


class AveragesPaddingUnseen(AveragesPadding):
    def prepare(self):
        nn.init.zeros_(self.out.weight)


class AveragesWhatMasksCallPresent(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        return super().mean(tokens, video_mask, video_mask)


class TakesNoMaskForAllPadding(Sound):
    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        if frame_mask is None:
            frame_mask = torch.zeros_like(video_mask)
        return super().forward(visual, audio, video_mask, audio_mask, time, frame_mask)


class ComparesWithTheBatch(Sound):
    def finish(self, tokens):
        return self.out(tokens - tokens.mean(0, keepdim=True))


class CountsByTheLongest(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        longest = frame_mask.sum(1).amax().clamp_min(1)
        return torch.where(frame_mask[..., None], tokens, 0).sum(1, keepdim=True) / longest


class TakesTheFirstSamplesPadding(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        return super().mean(tokens, video_mask, frame_mask[:1])


class TakesTheFirstSamplesClock(Sound):
    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        logits = super().forward(visual, audio, video_mask, audio_mask, time, frame_mask)
        return logits if time is None else logits + (time[:1] - time[:1, :1])[..., None].to(logits)


class ComparesWithTheBatchAtATinyScale(Sound):
    def prepare(self):
        self.scale = nn.Parameter(torch.full((8,), 1e-4))

    def finish(self, tokens):
        return self.out(tokens - self.scale * tokens.mean(0, keepdim=True))


class AddsTheTimesOfPadding(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        return super().mean(tokens, video_mask, frame_mask) + self.times

    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        real = torch.ones_like(video_mask) if frame_mask is None else frame_mask
        self.times = 0.0 if time is None else (time * real).sum(1)[:, None, None].to(visual)
        return super().forward(visual, audio, video_mask, audio_mask, time, frame_mask)


class PeeksInTraining(Sound):
    def clean(self, features, mask):
        return features.nan_to_num(0, 0, 0) if self.training else super().clean(features, mask)


class CleansInPlace(Sound):
    def clean(self, features, mask):
        return super().clean(features, mask) if features.requires_grad else features.mul_(mask[..., None])


class CountsFramesWithoutTime(Sound):
    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        logits = super().forward(visual, audio, video_mask, audio_mask, time, frame_mask)
        if time is None:
            frames = video_mask.shape[1]
            steps = torch.arange(frames, device=logits.device) / (torch.tensor(frames) - 1)
            return logits + steps[:, None].to(logits)
        return logits


class Peeks(Sound):
    def clean(self, features, mask):
        return features if features.shape[-1] == AUDIO else super().clean(features, mask)


class Multiplies(Sound):
    def clean(self, features, mask):
        return features * mask[..., None]


class MasksTooLate(Sound):
    def clean(self, features, mask):
        return features

    def project(self, visual, audio, video_mask, audio_mask):
        seen = torch.where(video_mask[..., None], self.visual(visual), 0)
        return seen + torch.where(audio_mask[..., None], self.audio(audio), 0)


class MakesATensorOnTheCpu(Sound):
    def finish(self, tokens):
        return self.out(tokens + torch.ones(8, dtype=tokens.dtype))


class KeepsATensorThatIsNoBuffer(Sound):
    def prepare(self):
        self.table = torch.ones(8, 8)

    def finish(self, tokens):
        return self.out(tokens @ self.table.to(tokens.dtype))


class ReturnsToTheCpu(Sound):
    def finish(self, tokens):
        return self.out(tokens).cpu()


class WorksInFloat32(Sound):
    def project(self, visual, audio, video_mask, audio_mask):
        return self.visual(visual.float()) + self.audio(audio.float())


class ReturnsFloat32(Sound):
    def finish(self, tokens):
        return self.out(tokens).float()


class OverflowsInHalf(Sound):
    def finish(self, tokens):
        return self.out(tokens) + 0 * (1e5 * tokens).sum(-1, keepdim=True)


class EpsilonVanishesInHalf(Sound):
    # 1e-8 is zero in float16, so the root's derivative is infinite there.
    def project(self, visual, audio, video_mask, audio_mask):
        squares = F.linear(visual, self.visual.weight).square().sum(-1, keepdim=True)
        return super().project(visual, audio, video_mask, audio_mask) + (squares + 1e-8).sqrt()


class FillsWithABillion(Sound):
    def mean(self, tokens, video_mask, frame_mask):
        scores = tokens[..., :1].masked_fill(~frame_mask[..., None], -1e9)
        return (scores.softmax(1) * tokens).sum(1, keepdim=True)


class BranchesOnData(Sound):
    def clean(self, features, mask):
        return super().clean(features, mask) if mask.any() else torch.zeros_like(features)


class ExportsTheMasksThatItTraced(Sound):
    def clean(self, features, mask):
        if torch.compiler.is_exporting() and features.shape[-1] == VISUAL:
            mask = torch.stack([video_mask for video_mask, _, _ in UNPADDED])
        return super().clean(features, mask)


BROKEN = {
    OneLabelAWindow: [
        "shape: with B = 3 windows of T = 6 frames, logits are (3, 4), not (B, T, C) = (3, 6, 4)"
    ],
    ClassesFirst: ["shape: with B = 3 windows of T = 6 frames, logits are (3, 4, 6), not (B, T, C)"],
    DemandsTime: [
        "shape: with B = 3 windows of T = 6 frames and without time, it raises TypeError: 'NoneType'"
    ],
    AlwaysDrops: ["repeatability: logits change by up to * from one evaluation to the next"],
    DividesByNothing: [
        "finiteness: logits are NaN or infinite given a window without face and sound; gaps in face and "
        "sound; padding after the window; nothing but padding; a single frame without face and sound"
    ],
    RootOfNothing: [
        "finiteness: gradients of visual.weight are NaN or infinite given a window without a face; a window "
        "without face and sound; gaps"
    ],
    MaxOfNothing: [
        "finiteness: logits are NaN or infinite given nothing but padding; padding that the masks call"
    ],
    RefusesSilence: [
        "finiteness: it raises ValueError: sound is needed given a window without sound; a window",
        "batch: it raises ValueError: sound is needed",
        "export: it raises ",
    ],
    AveragesPadding: [
        "padding: logits of real frames change by up to * when frames are appended whose frame_mask is False:"
    ],
    AveragesPaddingUnseen: ["padding: logits of real frames change"],
    AveragesWhatMasksCallPresent: ["padding: * whose frame_mask is False and whose other masks are True:"],
    TakesNoMaskForAllPadding: ["padding: logits change by up to * when frame_mask is left out"],
    ComparesWithTheBatch: ["batch: a sample's logits change by up to * with the other samples"],
    CountsByTheLongest: ["batch: a sample's logits change by up to * with the other samples"],
    TakesTheFirstSamplesPadding: ["batch: a sample's logits change by up to * with the other samples"],
    TakesTheFirstSamplesClock: ["batch: a sample's logits change by up to * with the other samples"],
    ComparesWithTheBatchAtATinyScale: ["batch: a sample's logits change by up to *"],
    AddsTheTimesOfPadding: [
        "padding: logits of real frames become NaN or infinite when * and whose features and times are NaN:"
    ],
    PeeksInTraining: [
        "peeking: logits in training change by up to * with visual features where video_mask is False: start",
        "peeking: logits in training change by up to * with audio features where audio_mask is False: start",
    ],
    CleansInPlace: ["repeatability: visual, audio: the caller's tensor is changed in place"],
    CountsFramesWithoutTime: [
        "finiteness: logits without time are NaN or infinite given a single frame; a single frame without"
    ],
    Peeks: ["peeking: logits change by up to * with audio features where audio_mask is False: start with"],
    Multiplies: [
        "peeking: logits become NaN or infinite with visual features being NaN where video_mask is False",
        "peeking: logits become NaN or infinite with audio features being NaN where audio_mask is False",
    ],
    MasksTooLate: [
        "peeking: gradients of visual.weight are NaN or infinite with visual features being NaN where",
        "peeking: gradients of audio.weight are NaN or infinite with audio features being NaN where",
    ],
    MakesATensorOnTheCpu: ["device: a tensor made by forward, or kept as no buffer, is on the CPU"],
    KeepsATensorThatIsNoBuffer: ["device: a tensor made by forward, or kept as no buffer, is on the CPU"],
    ReturnsToTheCpu: ["device: logits are on cpu where parameters and features are on a GPU"],
    WorksInFloat32: [
        "dtype: in float64, it raises RuntimeError",
        "dtype: in bfloat16, it raises RuntimeError",
        "dtype: in float16, it raises RuntimeError",
    ],
    ReturnsFloat32: ["dtype: in float64, logits are of the narrower torch.float32"],
    OverflowsInHalf: ["dtype: in float16, logits are NaN or infinite"],
    EpsilonVanishesInHalf: ["dtype: in float16, gradients of visual.weight are NaN or infinite"],
    FillsWithABillion: ["dtype: in float16, it raises RuntimeError"],
    BranchesOnData: ["export: it raises "],
    ExportsTheMasksThatItTraced: ["export: logits change by up to * in what torch.export makes of it"],
}


def violations(head: FusionHead) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        check_fusion_head(head)
    title, *rest = str(caught.value).splitlines()
    assert title == f"{type(head).__name__} breaks the contract of fusion heads:"
    assert all(line.startswith("- ") for line in rest)
    return [line[2:] for line in rest]


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_says_what_a_head_breaks_and_nothing_else(kind: type[Sound]) -> None:
    torch.manual_seed(0)
    said, expected = violations(kind()), BROKEN[kind]
    assert len(said) == len(expected), said
    for line, start in zip(said, expected, strict=True):
        assert re.match(re.escape(start).replace(r"\*", ".*"), line), line


class Recurrent(Sound):
    def prepare(self) -> None:
        self.memory = nn.GRU(8, 8, batch_first=True)

    def mean(self, tokens: Tensor, video_mask: Tensor, frame_mask: Tensor) -> Tensor:
        return self.memory(tokens)[0]


class Transformer(Sound):
    def prepare(self) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def mean(self, tokens: Tensor, video_mask: Tensor, frame_mask: Tensor) -> Tensor:
        nowhere = ~frame_mask.any(dim=1, keepdim=True)
        return self.layers(tokens, src_key_padding_mask=~(frame_mask | nowhere))


class ClassesAtZero(Sound):
    def prepare(self) -> None:
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)


@pytest.mark.parametrize("kind", [Sound, Recurrent, Transformer, ClassesAtZero])
def test_a_sound_head_passes(kind: type[Sound]) -> None:
    torch.manual_seed(0)
    check_fusion_head(kind())


def test_says_everything_that_is_broken() -> None:
    class Careless(Peeks, ComparesWithTheBatch, MakesATensorOnTheCpu):
        def finish(self, tokens: Tensor) -> Tensor:
            return super().finish(tokens) + torch.zeros(CLASSES)

    torch.manual_seed(0)
    assert [line.split(":")[0] for line in violations(Careless())] == ["batch", "peeking", "device"]


def test_leaves_head_and_generator_as_they_were() -> None:
    head = LateFusion(VISUAL, AUDIO, CLASSES)
    before, state = [p.clone() for p in head.parameters()], torch.get_rng_state()
    check_fusion_head(head)
    assert head.training
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, value in zip(head.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None


class Remembers(Sound):
    # For plots; what hangs on a graph can't be copied.
    def finish(self, tokens: Tensor) -> Tensor:
        if self.training:
            self.tokens = tokens
        return super().finish(tokens)


def test_a_head_that_keeps_what_it_computed_passes() -> None:
    check_fusion_head(Remembers())


def test_a_head_in_half_precision_is_checked_too() -> None:
    check_fusion_head(LateFusion(VISUAL, AUDIO, CLASSES).half())


class WithoutSizes(Sound):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(num_classes=5)


def test_sizes_that_the_constructor_does_not_tell_are_asked_for() -> None:
    head = WithoutSizes()
    with pytest.raises(ValueError, match=r"WithoutSizes was not made with visual_dim: .* visual_dim=…"):
        check_fusion_head(head)
    with pytest.raises(ValueError, match="audio_dim"):
        check_fusion_head(head, visual_dim=VISUAL)
    check_fusion_head(head, visual_dim=VISUAL, audio_dim=AUDIO)
    with pytest.raises(AssertionError, match=r"logits are \(3, 6, 5\), not \(B, T, C\) = \(3, 6, 4\)"):
        check_fusion_head(head, visual_dim=VISUAL, audio_dim=AUDIO, num_classes=4)
