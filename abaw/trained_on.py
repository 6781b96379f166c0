"""Which videos a model has learned from, so that their scores don't pass for those of unseen ones."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lightning.pytorch.utilities import rank_zero_warn
from torch.utils._pytree import tree_leaves

from abaw.data.datasets import AnyRecording, ChunkDataset, WindowDataset
from abaw.data.layout import raw_name
from abaw.errors import InputError

Seen = dict[str, list[str]]
"""Videos by name, each with the digests of all the labels that it was trained on with."""

TRAINED_ON: Final = "trained_on"
"""Where a checkpoint keeps them: plain data, ``model`` and ``encoders``, each as `Seen`."""

_DIGITS: Final = 16  # of SHA-256, in hexadecimal: they tell some thousands of videos apart


def videos_of(loaders: Any) -> list[AnyRecording]:
    """The videos that some loaders serve, whatever data module made them; none where they don't say."""
    datasets = [getattr(loader, "dataset", None) for loader in tree_leaves(loaders)]
    ours = [dataset for dataset in datasets if isinstance(dataset, (WindowDataset, ChunkDataset))]
    return [recording for dataset in ours for recording in dataset.recordings]


def seen(recordings: Iterable[AnyRecording]) -> Seen:
    """A record of some videos with the labels that they have now."""
    return {recording.video_id: [_digest(recording)] for recording in recordings}


def together(*records: Mapping[str, Sequence[str]]) -> Seen:
    """One record of all that several hold."""
    names = sorted({name for record in records for name in record})
    return {name: sorted({d for record in records for d in record.get(name, ())}) for name in names}


def check_unseen(scored: Sequence[AnyRecording], trained_on: Mapping[str, Sequence[str]]) -> None:
    """Refuse to score videos that a model was trained on, and tell of those that it may have been.

    A video is known by its name and its labels, wherever it lies. Those without a label count in no score.

    Args:
        scored: The videos.
        trained_on: What the model learned from.

    Raises:
        InputError: One has the name and the labels of one that was trained on.

    Warns:
        UserWarning: One has the name alone, or is another person of a raw video that was trained on.
    """
    scored = [recording for recording in scored if (recording.target >= 0).any()]
    of = f"of the {len(scored)} videos to be scored"
    named = [recording for recording in scored if recording.video_id in trained_on]
    known = [r for r in named if _digest(r) in trained_on[r.video_id]]
    if known:
        raise InputError(
            f"the model was trained on {len(known)} {of} ({_first(known)}): their score would not be honest; "
            "take the split or fold that it was trained with, or videos that it has not seen"
        )
    raw = {raw_name(name) for name in trained_on}
    persons = [r for r in scored if r.video_id not in trained_on and raw_name(r.video_id) in raw]
    for videos, what in (
        (named, "have names that the model was trained on, with other labels: if these were edited since"),
        (persons, "show persons of raw videos that the model was trained on: if these are the same"),
    ):
        if videos:
            rank_zero_warn(
                f"{len(videos)} {of} {what}, their score is not honest ({_first(videos)}).",
                category=UserWarning,
            )


def tell_of_other_labels(training: Sequence[AnyRecording], trained_on: Mapping[str, Sequence[str]]) -> None:
    """Warn where a training goes on with other labels than it began with.

    Args:
        training: The videos that are trained on now.
        trained_on: What the checkpoint that is resumed was trained on.
    """
    edited = [r for r in training if r.video_id in trained_on and _digest(r) not in trained_on[r.video_id]]
    if edited:
        rank_zero_warn(
            f"the labels of {len(edited)} of {len(training)} training videos were edited since the "
            f"checkpoint was written ({_first(edited)}): training goes on with the new ones. To train on "
            "them alone, begin anew in another folder.",
            category=UserWarning,
        )


def _digest(recording: AnyRecording) -> str:
    return hashlib.sha256(recording.target.astype("<i8").tobytes()).hexdigest()[:_DIGITS]


def _first(recordings: Sequence[AnyRecording]) -> str:
    return f"first: {', '.join(recording.video_id for recording in recordings[:3])}"
