"""The measures of the challenge: macro-F1 over all classes, accuracy, and the F1 of each class."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from abaw.labels import IGNORE_INDEX


def scores_from_confusion(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Macro-F1, accuracy and per-class F1 of confusion matrices.

    A class that is neither annotated nor predicted has an F1 of 0 and counts in the macro average, as in
    scikit-learn's ``f1_score(..., labels=range(C), average="macro", zero_division=0)``; torchmetrics' own
    macro average leaves it out.

    Args:
        confusion: (…, C, C), counts; rows are the annotated classes, columns the predicted ones.

    Returns:
        ``(macro_f1, accuracy, per_class_f1)`` of shapes (…), (…) and (…, C); 0 where nothing was counted.

    Example:
        >>> scores_from_confusion(torch.tensor([[3, 1], [0, 0]]))
        (tensor(0.4286), tensor(0.7500), tensor([0.8571, 0.0000]))
    """
    hits = confusion.diagonal(dim1=-2, dim2=-1)
    # 2 TP / (2 TP + FP + FN): a class's row and column hold its hits twice. A denominator of 0 has a
    # numerator of 0.
    per_class_f1 = 2 * hits / (confusion.sum(-1) + confusion.sum(-2)).clamp(min=1)
    accuracy = hits.sum(-1) / confusion.sum((-2, -1)).clamp(min=1)
    return per_class_f1.mean(-1), accuracy, per_class_f1


def bootstrap_interval(
    confusions: Tensor,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    baseline: Tensor | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of macro-F1, over videos.

    Frames of one video are alike, so videos are resampled, not frames (Efron & Tibshirani, *An Introduction
    to the Bootstrap*, 1993, chapter 13).

    Args:
        confusions: (V, C, C), counts of each video.
        num_resamples: How many times V videos are drawn with replacement.
        seed: The same seed gives the same interval.
        level: Probability that the interval holds.
        baseline: (V, C, C), what other predictions of the same videos give: the interval is then that of the
            gain in macro-F1 over them, both being counted on the same draws.

    Returns:
        ``(low, high)``.

    Raises:
        ValueError: If there is no video, ``level`` is not between 0 and 1, or ``baseline`` has another shape.

    Example:
        >>> bootstrap_interval(torch.eye(3).expand(5, 3, 3))
        (1.0, 1.0)
    """
    num_videos = len(confusions)
    if num_videos == 0:
        raise ValueError("a bootstrap over videos needs at least one video")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if baseline is not None and baseline.shape != confusions.shape:
        raise ValueError(f"expected a baseline {tuple(confusions.shape)}, got {tuple(baseline.shape)}")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(num_videos, (num_resamples, num_videos), generator=generator)
    times_drawn = torch.zeros(num_resamples, num_videos, dtype=torch.float64)
    times_drawn.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))

    def resampled_f1(counts: Tensor) -> Tensor:
        return scores_from_confusion(torch.einsum("rv,vij->rij", times_drawn, counts.cpu().double()))[0]

    macro_f1 = resampled_f1(confusions)
    if baseline is not None:
        macro_f1 = macro_f1 - resampled_f1(baseline)
    low, high = macro_f1.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    return float(low), float(high)


def figures_of(confusions: Tensor, class_names: Sequence[str]) -> dict[str, Any]:
    """All that a report says of how good some predictions are, ready for JSON.

    Args:
        confusions: int64 (V, C, C), counts of each video; rows are the annotated classes.
        class_names: Names of the C classes.

    Returns:
        ``f1``, its 95 % ``f1_interval`` (see `bootstrap_interval`), ``accuracy``, ``f1_per_class`` by name,
        the number of ``frames``, and the ``confusion_matrix`` of all videos.
    """
    total = confusions.sum(0)
    macro_f1, accuracy, per_class_f1 = scores_from_confusion(total.double())
    return {
        "f1": float(macro_f1),
        "f1_interval": bootstrap_interval(confusions),
        "accuracy": float(accuracy),
        "f1_per_class": dict(zip(class_names, per_class_f1.tolist(), strict=True)),
        "frames": int(total.sum()),
        "confusion_matrix": total.tolist(),
    }


class ExpressionMetrics(Metric):
    """Macro-F1, accuracy and per-class F1 from one confusion matrix, which is summed over ranks.

    ``compute()`` returns a dict with the keys ``f1``, ``accuracy`` and ``f1/<class name>``, each behind
    ``prefix``, ready for ``log_dict``. It works on its own and in a ``MetricCollection``.

    Args:
        class_names: Names of the C classes.
        ignore_index: The target of frames that are not counted.
        prefix: Put before every key, such as ``"val/"``.

    Example:
        >>> metrics = ExpressionMetrics(["calm", "glad"]).clone(prefix="val/")
        >>> metrics.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, -1]))
        >>> {name: float(value) for name, value in metrics.compute().items()}
        {'val/f1': 1.0, 'val/accuracy': 1.0, 'val/f1/calm': 1.0, 'val/f1/glad': 1.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    """int64 (C, C): rows are the annotated classes, columns the predicted ones."""

    def __init__(
        self, class_names: Sequence[str], ignore_index: int = IGNORE_INDEX, prefix: str = ""
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.ignore_index = ignore_index
        self.prefix = prefix
        num_classes = len(self.class_names)
        self.add_state(
            "confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count predictions.

        Args:
            preds: int (…), class indices, or float (…, C), scores or logits.
            target: int64 (…), ``ignore_index`` where a frame does not count.

        Raises:
            ValueError: If the shapes do not fit.
        """
        num_classes = len(self.class_names)
        if preds.shape == (*target.shape, num_classes) and preds.is_floating_point():
            preds = preds.argmax(-1)
        elif preds.shape != target.shape or preds.is_floating_point():
            raise ValueError(
                f"expected preds int (…) or float (…, {num_classes}) for target {tuple(target.shape)}; "
                f"got {preds.dtype} {tuple(preds.shape)}"
            )
        self.confusion += multiclass_confusion_matrix(
            preds, target, num_classes=num_classes, ignore_index=self.ignore_index
        )

    def compute(self) -> dict[str, Tensor]:
        """``f1``, ``accuracy`` and ``f1/<class name>`` of all that was counted, over all ranks."""
        macro_f1, accuracy, per_class_f1 = scores_from_confusion(self.confusion)
        values = {"f1": macro_f1, "accuracy": accuracy}
        values |= {f"f1/{name}": f1 for name, f1 in zip(self.class_names, per_class_f1, strict=True)}
        return {f"{self.prefix}{name}": value for name, value in values.items()}

    def clone(self, prefix: str | None = None) -> "ExpressionMetrics":
        """A copy, with another prefix if one is given."""
        copy = deepcopy(self)
        if prefix is not None:
            copy.prefix = prefix
        return copy
