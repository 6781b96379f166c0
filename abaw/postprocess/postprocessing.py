"""The decoders of a run, and the file that they are kept in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from abaw.errors import InputError
from abaw.files import expand, replacing
from abaw.postprocess.decoding import Decoder, Smoothing
from abaw.ranges import MOST_COUNT, check_count

POSTPROCESS_FILE: Final = "postprocess.yaml"
"""Its name in a run's folder."""


@dataclass(frozen=True)
class HeldOut:
    """One fold of a cross-validation.

    Attributes:
        videos: Names of the videos that were left out.
        decoder: What was fitted without them.
    """

    videos: tuple[str, ...]
    decoder: Decoder


@dataclass(frozen=True)
class Postprocessing:
    """How a run's scores become labels: ``postprocess.yaml``.

    A video that parameters were fitted on is decided by those of the fold that held it out, so that no figure
    on it is flattered by having seen it; any other video is decided by the final ones.

    Attributes:
        class_names: Names of the C classes.
        decoder: The final parameters, fitted on all videos of ``folds``.
        folds: The cross-validation's folds.
        transitions: (C, C), how often a class (row) is followed by each (column) in the training labels;
            ``None`` where they are not known.

    Raises:
        ValueError: If a size does not fit the classes, Viterbi decoding is asked for without transitions, or
            a video is in two folds.
    """

    class_names: tuple[str, ...]
    decoder: Decoder
    folds: tuple[HeldOut, ...] = ()
    transitions: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        num_classes = len(self.class_names)
        for decoder in (self.decoder, *(fold.decoder for fold in self.folds)):
            if decoder.bias is not None and len(decoder.bias) != num_classes:
                raise ValueError(f"a bias has {len(decoder.bias)} values for {num_classes} classes")
            if decoder.transition_weight is not None and self.transitions is None:
                raise ValueError("there is a transition weight, but there are no transitions")
        if self.transitions is not None:
            for row in self.transitions:
                for count in row:
                    check_count(0, MOST_COUNT, transitions=count)
            rows = [len(row) for row in self.transitions]
            if rows != [num_classes] * num_classes:
                raise ValueError(f"transitions are not {num_classes} rows of {num_classes} counts")
        videos = [video for fold in self.folds for video in fold.videos]
        if len(set(videos)) < len(videos):
            raise ValueError("a video is in two folds")

    def __call__(
        self,
        scores: Tensor,
        covered: Tensor | None = None,
        video_id: str | None = None,
        answered: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decide the classes of one video.

        Args:
            scores: floating (N, C), probabilities.
            covered: bool (N,), False where a frame has no scores; ``None`` means that all have.
            video_id: The video's name; ``None`` is a video that nothing was fitted on.
            answered: bool (N,), True where there was a face or a voice; ``None`` means as ``covered``.

        Returns:
            ``(scores, labels)``, see :class:`Decoder`.
        """
        counts = None if self.transitions is None else torch.tensor(self.transitions)
        return self.decoder_of(video_id)(scores, covered, counts, answered)

    def holds_out(self, video_id: str | None) -> bool:
        """Whether the parameters for this video were fitted without it because it is in a fold."""
        return any(video_id in fold.videos for fold in self.folds)

    def decoder_of(self, video_id: str | None) -> Decoder:
        """The parameters for a video."""
        return next((fold.decoder for fold in self.folds if video_id in fold.videos), self.decoder)

    def write(self, path: str | Path, comment: str = "") -> None:
        """Write the file, whole or not at all.

        Args:
            path: Usually ``postprocess.yaml`` in a run's folder; replaced if it is there.
            comment: Put before everything else, for readers.
        """
        from abaw.yaml_files import dump_yaml  # here alone: who votes and decides needs no files

        tree: dict[str, Any] = {"class_names": list(self.class_names), **_describe(self.decoder)}
        tree["folds"] = [{"videos": list(f.videos), **_describe(f.decoder)} for f in self.folds]
        tree["transitions"] = None if self.transitions is None else [list(row) for row in self.transitions]
        lines = [f"# {line}".rstrip() + "\n" for line in comment.splitlines()]
        text = dump_yaml(tree, default_flow_style=None, width=100)
        with replacing(expand(path)) as temporary:
            temporary.write_text("".join(lines) + text, encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path, class_names: Sequence[str] | None = None) -> "Postprocessing":
        """Read what :meth:`write` wrote.

        Args:
            path: The file.
            class_names: The classes that it must be for; ``None`` takes any.

        Raises:
            InputError: If it cannot be read, is malformed, or is for other classes.
        """
        from abaw.yaml_files import read_yaml

        tree = read_yaml(expand(path))
        try:
            found = cls._parse(tree)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; correct it, or run 'abaw tune' again") from error
        if class_names is not None and tuple(class_names) != found.class_names:
            raise InputError(
                f"{path}: was fitted for the classes {','.join(found.class_names)}, not for "
                f"{','.join(class_names)}; run 'abaw tune' again"
            )
        return found

    @classmethod
    def _parse(cls, tree: Any) -> "Postprocessing":
        _check_keys(tree, {"class_names", *_DECODER, "folds", "transitions"}, "the file")
        folds = []
        for number, fold in enumerate(_list(tree["folds"], "folds"), start=1):
            _check_keys(fold, {"videos", *_DECODER}, f"fold {number}")
            folds.append(HeldOut(_texts(fold["videos"], f"videos of fold {number}"), _decoder(fold)))
        transitions = tree["transitions"]
        if transitions is not None:
            rows = [_list(row, "a row of transitions") for row in _list(transitions, "transitions")]
            if not all(type(count) is int for row in rows for count in row):
                raise ValueError("transitions are not whole numbers")
            transitions = tuple(map(tuple, rows))
        return cls(_texts(tree["class_names"], "class_names"), _decoder(tree), tuple(folds), transitions)


_DECODER = ("smoothing", "bias", "transition_weight")


def _describe(decoder: Decoder) -> dict[str, Any]:
    smoothing = decoder.smoothing
    return {
        "smoothing": None if smoothing is None else {"kind": smoothing.kind, "width": smoothing.width},
        "bias": None if decoder.bias is None else list(decoder.bias),
        "transition_weight": decoder.transition_weight,
    }


def _decoder(tree: Mapping[str, Any]) -> Decoder:
    smoothing, bias, weight = (tree[key] for key in _DECODER)
    if smoothing is not None:
        _check_keys(smoothing, {"kind", "width"}, "smoothing")
        smoothing = Smoothing(smoothing["kind"], _number(smoothing["width"], "a width"))
    if bias is not None:
        bias = tuple(_number(value, "a bias") for value in _list(bias, "bias"))
    return Decoder(smoothing, bias, None if weight is None else _number(weight, "a transition weight"))


def _check_keys(tree: Any, keys: set[str], where: str) -> None:
    if not isinstance(tree, dict):
        raise ValueError(f"{where} is not a mapping")
    if tree.keys() != keys:
        wrong = sorted(map(str, tree.keys() ^ keys))
        raise ValueError(f"{where} must have the keys {', '.join(sorted(keys))}; look at {', '.join(wrong)}")


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {value!r}")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    texts = _list(value, name)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a list of names, not {value!r}")
    return tuple(texts)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return value
