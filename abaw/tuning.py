"""Fitting what is done after the vote, by cross-validation over videos."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, islice
from typing import Final, NamedTuple

import torch
from torch import Tensor

from abaw.data.layout import raw_name
from abaw.data.partition import partition
from abaw.errors import InputError
from abaw.labels import IGNORE_INDEX
from abaw.metrics import bootstrap_interval, scores_from_confusion
from abaw.postprocess import Decoder, HeldOut, Postprocessing, Smoothing, fit_bias, log_transitions, viterbi
from abaw.postprocess.nearest import nearest_present

SMOOTHINGS: Final = (
    *(Smoothing("median", width) for width in (5, 11, 21, 41, 81)),
    *(Smoothing("box", width) for width in (5, 11, 21, 41, 81)),
    *(Smoothing("gaussian", width) for width in (1, 2, 4, 8, 16)),
)
TRANSITION_WEIGHTS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
METHODS: Final = ("smoothing", "bias", "Viterbi")


class ScoredVideo(NamedTuple):
    """What fitting needs to know of a video."""

    video_id: str
    """The name, person suffix included."""
    scores: Tensor
    """float32 (N, C), probabilities, as the windows voted."""
    covered: Tensor
    """bool (N,), True where the frame has a score."""
    target: Tensor
    """int64 (N,), ``IGNORE_INDEX`` where not annotated."""
    answered: Tensor | None = None
    """bool (N,), True where there was a face or a voice; None where that isn't known."""


class Gain(NamedTuple):
    """Macro-F1 of a method, less that of the plain vote, over the annotated frames of all videos."""

    held_out: float
    """Each video is decided by what was fitted without it and without the other persons of its raw video."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the held-out gain, over raw videos."""
    in_sample: float
    """Fitted on the very videos: no result, but beside the held-out gain it shows how much is overfitting."""


@dataclass(frozen=True)
class Tuning:
    """What :func:`tune` found out.

    Attributes:
        postprocessing: The chosen parameters, and those of each fold.
        chosen: The methods that are switched on, of ``METHODS``; none if none helps on held-out videos.
        plain_f1: Macro-F1 of the plain vote.
        gains: The gain of each method alone, by name. Under ``"chosen"`` that of the whole procedure: in each
            fold, the methods are chosen without its videos too.
        num_videos: How many videos have an annotated frame with a score.
        num_raw_videos: How many raw videos they are persons of.
    """

    postprocessing: Postprocessing
    chosen: tuple[str, ...]
    plain_f1: float
    gains: dict[str, Gain]
    num_videos: int
    num_raw_videos: int

    def describe(self) -> str:
        """A table of the gains, and what to make of it."""
        lines = [
            f"Macro-F1 of the plain vote: {self.plain_f1:.3f}, {self.num_videos} videos",
            "gain over it    held out    95 % interval    in-sample (no result)",
        ]
        for method, gain in self.gains.items():
            low, high = gain.interval
            lines.append(
                f"  {method:<12}  {gain.held_out:+8.3f}    {low:+.3f}…{high:+.3f}    {gain.in_sample:+9.3f}"
            )
        switched_on = " + ".join(self.chosen) or "nothing, as 'chosen' does not gain on held-out videos"
        folds = len(self.postprocessing.folds)
        lines += [
            f"Switched on: {switched_on}",
            f"Held out: each video decided by what was fitted without it, in {folds} folds over "
            f"{self.num_raw_videos} raw videos;",
            "'chosen' chooses the methods without it too. Interval: bootstrap over raw videos.",
        ]
        if "Viterbi" not in self.gains:
            lines.append(
                "Viterbi decoding was left out: there are no training labels to count transitions in."
            )
        return "\n".join(lines)


def tune(
    videos: Sequence[ScoredVideo],
    class_names: Sequence[str],
    transitions: Tensor | None = None,
    folds: int = 5,
) -> Tuning:
    """Fit smoothing, bias and Viterbi decoding, and find out what each is worth on held-out videos.

    Persons of one raw video are in one fold. A combination is fitted step by step: the smoothing that gives
    the best macro-F1, the bias on top of it, and the weight of transitions on top of both. Of the methods
    whose held-out gain is positive, the combination with the largest one is chosen. As a gain that a choice
    was made by flatters the choice, the gain of the choice is measured in a nested cross-validation: every
    fold chooses without its own videos, by the folds that are left. If that gain is not positive, nothing is
    switched on.

    Args:
        videos: The scored videos, in any order; those without an annotated frame that has a score are left
            out.
        class_names: Names of the C classes.
        transitions: int64 (C, C), transitions counted in the training labels; ``None`` tries no Viterbi
            decoding.
        folds: How many folds.

    Raises:
        InputError: If ``folds`` is below 3, since each fold's choice needs two others, or above the number of
            raw videos.
    """
    groups = by_raw_video(videos, folds)
    counted = [video for group in groups for video in group]
    numbers = iter(range(len(counted)))
    members = [list(islice(numbers, len(group))) for group in groups]
    frames = [sum(int(_is_counted(video).sum()) for video in group) for group in groups]
    shares = [[i for group in share for i in members[group]] for share in partition(frames, folds)]
    fitter = _Fitter(counted, shares, len(class_names), transitions)

    everything = tuple(range(folds))
    plain = fitter.confusions(Decoder())

    def summed(confusions: Tensor) -> Tensor:
        return torch.stack([confusions[group].sum(0) for group in members])

    def gain(held_out: Sequence[Decoder], final: Decoder) -> Gain:
        confusions = torch.empty_like(plain)
        for share, decoder in zip(shares, held_out, strict=True):
            confusions[share] = fitter.confusions(decoder)[share]
        return Gain(
            _macro_f1(confusions) - _macro_f1(plain),
            bootstrap_interval(summed(confusions), baseline=summed(plain)),
            _macro_f1(fitter.confusions(final)) - _macro_f1(plain),
        )

    others = [_without(everything, fold) for fold in everything]
    gains = {}
    for method in fitter.methods:
        held_out = [fitter.fit((method,), rest) for rest in others]
        gains[method] = gain(held_out, fitter.fit((method,), everything))
    held_out = [fitter.fit(fitter.choose(rest), rest) for rest in others]
    chosen = fitter.choose(everything)
    final = fitter.fit(chosen, everything)
    gains["chosen"] = gain(held_out, final)
    if not chosen or gains["chosen"].held_out <= 0:
        chosen, final, held_out = (), Decoder(), [Decoder()] * folds

    names = [tuple(counted[index].video_id for index in share) for share in shares]
    postprocessing = Postprocessing(
        tuple(class_names),
        final,
        tuple(HeldOut(*pair) for pair in zip(names, held_out, strict=True)),
        None if transitions is None else tuple(map(tuple, transitions.tolist())),
    )
    return Tuning(postprocessing, chosen, _macro_f1(plain), gains, len(counted), len(groups))


def by_raw_video(videos: Iterable[ScoredVideo], folds: int) -> list[list[ScoredVideo]]:
    """The videos that have an annotated frame with a score, those of one raw video together, by name.

    Raises:
        InputError: If ``folds`` is below 3, or above the number of raw videos.
    """
    groups: dict[str, list[ScoredVideo]] = {}
    for video in sorted(videos, key=lambda video: video.video_id):
        if _is_counted(video).any():
            groups.setdefault(raw_name(video.video_id), []).append(video)
    if len(groups) < 3:
        raise InputError(f"tuning needs 3 annotated raw videos or more, and there are {len(groups)}")
    if not 3 <= folds <= len(groups):
        raise InputError(
            f"folds must be from 3 to {len(groups)}, the number of annotated raw videos, not {folds}"
        )
    return list(groups.values())


class _Fitter:
    """Fits decoders on some of the folds, counts what they do on all videos, and does nothing twice."""

    def __init__(
        self,
        videos: Sequence[ScoredVideo],
        shares: Sequence[Sequence[int]],
        num_classes: int,
        transitions: Tensor | None,
    ) -> None:
        self.methods = METHODS[:2] if transitions is None else METHODS
        self._videos = videos
        self._shares = shares
        self._num_classes = num_classes
        self._log_transitions = None if transitions is None else log_transitions(transitions)
        self._counts: dict[Decoder, Tensor] = {}
        self.fit = lru_cache(maxsize=None)(self._fit)
        # As large as the scores: kept for the plain ones and the few smoothings that the folds choose.
        self._smoothed = lru_cache(maxsize=4)(self._smooth)

    def choose(self, folds: tuple[int, ...]) -> tuple[str, ...]:
        """The methods that together help most on held-out videos, looking at some folds alone."""

        def f1(methods: tuple[str, ...]) -> float:
            held_out = [
                self.confusions(self.fit(methods, _without(folds, fold)))[self._shares[fold]]
                for fold in folds
            ]
            return _macro_f1(torch.cat(held_out))

        useful = [method for method in self.methods if f1((method,)) > f1(())]
        # Of equals the first one, which has the fewest methods.
        return max((c for size in range(len(useful) + 1) for c in combinations(useful, size)), key=f1)

    def confusions(self, decoder: Decoder) -> Tensor:
        """int64 (V, C, C): rows are the annotated classes, columns the decided ones."""
        if decoder not in self._counts:
            # All weights at once: they take little longer than one, and the fit looks at all of them.
            weights = (None,) if decoder.transition_weight is None else TRANSITION_WEIGHTS
            decoders = [replace(decoder, transition_weight=weight) for weight in weights]
            videos = zip(self._videos, self._smoothed(decoder.smoothing), strict=True)
            counts = torch.stack([self._count(*video, decoder) for video in videos])
            self._counts |= zip(decoders, counts.unbind(1), strict=True)
        return self._counts[decoder]

    def _fit(self, methods: tuple[str, ...], folds: tuple[int, ...]) -> Decoder:
        """The decoder of some methods, fitted on some folds alone."""
        chosen = [index for fold in folds for index in self._shares[fold]]

        def best(decoders: Sequence[Decoder]) -> Decoder:
            return max(decoders, key=lambda decoder: _macro_f1(self.confusions(decoder)[chosen]))

        decoder = Decoder()
        if "smoothing" in methods:
            decoder = best([decoder, *map(Decoder, SMOOTHINGS)])
        if "bias" in methods:
            smoothed = self._smoothed(decoder.smoothing)
            decoder = replace(decoder, bias=(0.0,) * self._num_classes)
            counted = {index: _is_decided(self._videos[index], decoder) for index in chosen}
            logits = torch.cat([smoothed[index][kept] for index, kept in counted.items()])
            target = torch.cat([self._videos[index].target[kept] for index, kept in counted.items()])
            decoder = replace(decoder, bias=tuple(fit_bias(logits, target).tolist()))
        if "Viterbi" in methods:
            weighted = [replace(decoder, transition_weight=weight) for weight in TRANSITION_WEIGHTS]
            decoder = best([decoder, *weighted])
        return decoder

    def _smooth(self, smoothing: Smoothing | None) -> list[Tensor]:
        return [
            Decoder(smoothing).logits(video.scores, video.covered, video.answered) for video in self._videos
        ]

    def _count(self, video: ScoredVideo, logits: Tensor, decoder: Decoder) -> Tensor:
        """int64 (W, C, C) of one video: for each weight of the transitions, or for none."""
        told = decoder.evidence(video.covered, video.answered)
        if decoder.bias is not None:
            logits = (logits + torch.tensor(decoder.bias, dtype=logits.dtype)) * video.covered[:, None]
        if decoder.transition_weight is None:
            labels = logits.argmax(-1)[None]
        else:
            assert self._log_transitions is not None
            weights = torch.tensor(TRANSITION_WEIGHTS, dtype=logits.dtype)
            labels = viterbi(logits * told[:, None], weights[:, None, None] * self._log_transitions)
        kept = _is_counted(video)
        labels = labels[:, nearest_present(told)]
        pairs = video.target[kept] * self._num_classes + labels[:, kept]
        counts = [torch.bincount(row, minlength=self._num_classes**2) for row in pairs]
        return torch.stack(counts).view(-1, self._num_classes, self._num_classes)


def _is_counted(video: ScoredVideo) -> Tensor:
    return (video.target != IGNORE_INDEX) & video.covered


def _is_decided(video: ScoredVideo, decoder: Decoder) -> Tensor:
    """Which frames count, and are decided by their own scores."""
    return _is_counted(video) & decoder.evidence(video.covered, video.answered)


def _macro_f1(confusions: Tensor) -> float:
    """Over all videos (V, C, C) together, as the challenge counts."""
    return float(scores_from_confusion(confusions.sum(0).double())[0])


def _without(folds: tuple[int, ...], left_out: int) -> tuple[int, ...]:
    return tuple(fold for fold in folds if fold != left_out)
