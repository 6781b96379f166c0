"""From the scores of one video to one label a frame."""

from dataclasses import dataclass

import torch
from torch import Tensor

from abaw.postprocess.nearest import nearest_present
from abaw.postprocess.smoothing import SmoothingKind, check_smoothing, smooth
from abaw.postprocess.viterbi import log_transitions, viterbi
from abaw.ranges import MOST_BIAS, MOST_STEPS, check_number


@dataclass(frozen=True)
class Smoothing:
    """What :func:`~abaw.postprocess.smooth` is asked for.

    Attributes:
        kind: Median, box or Gaussian.
        width: In frames.

    Raises:
        ValueError: If that can't be asked for.
    """

    kind: SmoothingKind
    width: float

    def __post_init__(self) -> None:
        check_smoothing(self.kind, self.width)


@dataclass(frozen=True)
class Decoder:
    """Decides the classes of a video: smoothing, then a bias on the logits, then Viterbi decoding.

    Each may be left out; with none of them a frame's class is that of its largest score. A frame without
    scores takes the label of the nearest frame that has them.

    Attributes:
        smoothing: Smoothing of the scores along time; ``None`` for none.
        bias: What is added to the logarithm of each class's score; ``None`` for nothing.
        transition_weight: How much transitions count beside the scores in Viterbi decoding. Neighbouring
            frames are no independent evidence, so weights far above 1 are usual. ``None``: no decoding.

    Raises:
        ValueError: If a bias is not finite, or the weight not positive.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
        >>> Decoder()(scores)[1]
        tensor([0, 1, 0])
        >>> Decoder(Smoothing("median", 3))(scores)[1]
        tensor([0, 0, 0])
    """

    smoothing: Smoothing | None = None
    bias: tuple[float, ...] | None = None
    transition_weight: float | None = None

    def __post_init__(self) -> None:
        for bias in self.bias or ():
            check_number(-MOST_BIAS, MOST_BIAS, bias=bias)
        check_number(0, MOST_STEPS, transition_weight=self.transition_weight)
        if self.transition_weight == 0:
            raise ValueError("transition_weight must be positive, not 0")

    def __call__(
        self,
        scores: Tensor,
        covered: Tensor | None = None,
        transitions: Tensor | None = None,
        answered: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decide the classes of one video.

        Args:
            scores: floating (N, C), probabilities.
            covered: bool (N,), False where a frame has no scores; ``None`` means that all have.
            transitions: int64 (C, C), how often each class (row) was followed by each (column), see
                :func:`~abaw.postprocess.count_transitions`; for Viterbi decoding alone.
            answered: bool (N,), see :meth:`evidence`; ``None`` means as ``covered``.

        Returns:
            ``(scores, labels)``: (N, C) as ``scores``, smoothed and biased, again probabilities, zeros where
            not covered; int64 (N,), the classes. Both on the CPU.

        Raises:
            ValueError: If a shape does not fit, or there are no transitions to decode with.
        """
        if covered is None:
            covered = torch.ones(len(scores), dtype=torch.bool)
        covered = covered.cpu()
        logits, told = self.logits(scores, covered, answered), self.evidence(covered, answered)
        if self.transition_weight is None:
            labels = logits.argmax(-1)
        elif transitions is None:
            raise ValueError("Viterbi decoding needs the counts of transitions")
        else:
            labels = viterbi(logits * told[:, None], self.transition_weight * log_transitions(transitions))
        adjusted = logits.softmax(-1).to(scores.dtype) * covered[:, None]
        return adjusted, labels[nearest_present(told)]

    def logits(self, scores: Tensor, covered: Tensor, answered: Tensor | None = None) -> Tensor:
        """Logarithms of the smoothed scores with the bias: what is decided on.

        Frames without an answer of their own are not smoothed, nor others by them, see :meth:`evidence`.

        Returns:
            float64 (N, C) on the CPU; zeros where not covered: such a frame prefers no class.

        Raises:
            ValueError: If a covered frame's score is not finite, or a shape does not fit.
        """
        if self.smoothing is not None:
            told = self.evidence(covered, answered)
            smoothed = smooth(scores, self.smoothing.kind, self.smoothing.width, told)
            scores = torch.where(told.to(scores.device)[:, None], smoothed, scores)
        # A score of zero must not decide for ever, whatever speaks for the class beside it.
        logits = scores.detach().cpu().double().clamp_min(torch.finfo(torch.float32).tiny).log()
        if not logits[covered].isfinite().all():
            raise ValueError("a score is not finite: say by covered which frames have none")
        if self.bias is not None:
            if len(self.bias) != logits.shape[-1]:
                raise ValueError(f"there are {len(self.bias)} biases for {logits.shape[-1]} classes")
            logits = logits + torch.tensor(self.bias, dtype=torch.float64)
        return torch.where(covered[:, None], logits, 0.0)

    def evidence(self, covered: Tensor, answered: Tensor | None) -> Tensor:
        """Which frames are decided by their own scores, and say something of their neighbours.

        A frame with neither face nor voice has no answer of its own, since what is voted there comes from
        around it: it takes the label of the nearest frame that has one. The plain vote stands everywhere.

        Args:
            covered: bool (N,), True where a frame has scores.
            answered: bool (N,), True where there was a face or a voice; ``None`` where that isn't known.

        Returns:
            bool (N,), on the CPU; as ``covered`` where otherwise no frame were left.
        """
        covered = covered.cpu()
        if answered is None or self == Decoder():
            return covered
        told = covered & answered.cpu()
        return told if told.any() else covered
