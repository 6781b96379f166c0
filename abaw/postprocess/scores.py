"""Scores of videos in files: what a prediction leaves, and what averages and submissions are made of."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from abaw.errors import InputError
from abaw.files import by_name
from abaw.postprocess.nearest import nearest_present
from abaw.postprocess.submission import SubmissionReport, check_submission, listed, write_submission
from abaw.tensor_file import write_tensors

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class SavedScores:
    """What a file holds of one video.

    Attributes:
        scores: float32 (N, C), probabilities; zeros where ``covered`` is False.
        covered: bool (N,), True where the frame has a score.
        video_mask: bool (N,), True where a face was there.
        audio_mask: bool (N,), True where the sound track covered the frame.
        labels: int64 (N,), the class that each frame was given.
        class_names: Names of the C classes.
    """

    scores: Tensor
    covered: Tensor
    video_mask: Tensor
    audio_mask: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    @property
    def answered(self) -> Tensor:
        """Which frames have an answer of their own, bool (N,): a score, and a face or a voice behind it."""
        return self.covered & (self.video_mask | self.audio_mask)


_TENSORS = tuple(field.name for field in fields(SavedScores) if field.name != "class_names")


def likeliest(scores: Tensor, covered: Tensor) -> Tensor:
    """Class with the highest score; a frame without a score takes the nearest scored one's.

    Args:
        scores: float (N, C).
        covered: bool (N,), True where the frame has a score.

    Returns:
        int64 (N,).
    """
    return scores.argmax(-1)[nearest_present(covered)]


def save_scores(path: Path, saved: SavedScores) -> None:
    """Write ``<video>.safetensors``, whole or not at all; the metadata holds the classes' names."""
    # Copies, since the format takes no two tensors of the same memory.
    tensors = {name: getattr(saved, name).clone(memory_format=torch.contiguous_format) for name in _TENSORS}
    write_tensors(path, tensors, {"class_names": ",".join(saved.class_names)})


def load_scores(path: Path) -> SavedScores:
    """Read what :func:`save_scores` wrote.

    Raises:
        InputError: If the file cannot be read, or is none of that kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = tuple((file.metadata() or {})["class_names"].split(","))
            saved = SavedScores(**{name: file.get_tensor(name) for name in _TENSORS}, class_names=names)
    except (OSError, KeyError, SafetensorError) as error:
        raise InputError(f"{path}: holds no scores of a video ({error}); run 'abaw predict' again") from error
    if problem := _problem(saved):
        raise InputError(f"{path}: {problem}; run 'abaw predict' again")
    return saved


def score_files(folder: Path) -> dict[str, Path]:
    """The files of scores in a folder, by their videos' names, in the names' order."""
    return by_name(folder, _SUFFIX)


def own_scores(folder: Path) -> list[Path]:
    """The files of scores in a folder, which a new prediction is going to replace.

    Raises:
        InputError: If the folder holds other files of their kind, which are not ours to remove.
    """
    from safetensors import SafetensorError, safe_open

    own = []
    for path in score_files(folder).values():
        try:
            with safe_open(path, framework="pt") as file:
                ours = set(file.keys()) == {*_TENSORS} and "class_names" in (file.metadata() or {})
        except (OSError, SafetensorError):
            ours = not path.exists()
        if not ours:
            raise InputError(f"{path}: is no file of scores, but would be removed; choose another folder")
        own.append(path)
    return own


def list_scores(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of each video, by name, one for each folder in the folders' order.

    Raises:
        InputError: If a folder is given twice or holds no scores, or the folders hold different videos.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("the same scores are given twice and would count twice; give each folder once")
    videos = [score_files(folder) for folder in folders]
    for folder, found in zip(folders, videos, strict=True):
        if not found:
            inner = folder / "scores"
            hint = f"did you mean {inner}?" if inner.is_dir() else "give the folder that 'abaw predict' made"
            raise InputError(f"{folder}: holds no scores, <video>{_SUFFIX}; {hint}")
        differing = {
            folder: videos[0].keys() - found.keys(),
            folders[0]: found.keys() - videos[0].keys(),
        }
        if lacking := [f"{where} lacks {listed(which)}" for where, which in differing.items() if which]:
            raise InputError(f"{'; '.join(lacking)}: predict the same videos with every run")
    return {video: [found[video] for found in videos] for video in sorted(videos[0])}


def average_scores(paths: Sequence[Path]) -> SavedScores:
    """Mean of what several runs say of one video.

    A frame's scores are the mean over the runs that scored it; where some of them were given a face or a
    voice there and others neither (one that only looks, without a face), over the former. Its label is the
    likeliest class; a face or a sound that one of the runs was given was there. A single file is returned as
    it is, with the labels that its run decided on.

    Raises:
        InputError: If a file is not readable, or the runs' classes or numbers of frames differ.
    """
    runs = [load_scores(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        for what, own, other in (
            ("classes", ",".join(run.class_names), ",".join(runs[0].class_names)),
            ("frames", len(run.scores), len(runs[0].scores)),
        ):
            if own != other:
                raise InputError(
                    f"scores of different {what} have no average: {own} in {path}, {other} in {paths[0]}"
                )
    if len(runs) == 1:
        return runs[0]
    votes = torch.stack([run.answered for run in runs])
    votes = torch.where(votes.any(0), votes, torch.stack([run.covered for run in runs]))
    sums = torch.stack([run.scores for run in runs]).mul(votes[..., None]).sum(0)
    scores, covered = sums / votes.sum(0).clamp(min=1)[:, None], votes.any(0)
    return replace(
        runs[0],
        scores=scores,
        covered=covered,
        video_mask=torch.stack([run.video_mask for run in runs]).any(0),
        audio_mask=torch.stack([run.audio_mask for run in runs]).any(0),
        labels=likeliest(scores, covered),
    )


def submit_scores(
    path: Path, template: Path | None, videos: Iterable[tuple[str, SavedScores]]
) -> SubmissionReport:
    """Write the submission of what was saved, see :func:`write_submission`, and check what was written.

    A frame with neither face nor voice has no answer of its own: it takes the nearest one's that has. Where
    no frame of a video has, the labels stay what the model made of nothing.

    Args:
        path: The file to write.
        template: The organisers' sample submission; ``None`` writes a row for every frame.
        videos: Name and scores of each video; one at a time is held.

    Raises:
        InputError: If there is no video, a video has no score at all, the videos' classes differ, the
            template does not fit, or it is the file to write.

    Warns:
        UserWarning: If videos have neither face nor voice in any frame, with their number.
    """
    if template is not None and template.resolve() == path.resolve():
        raise InputError(f"{template}: would be overwritten; write the submission to another file")
    labels: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    class_names: tuple[str, ...] = ()
    unscored = neither = 0
    blank = []
    for video, saved in videos:
        if not saved.covered.any():
            raise InputError(f"{video}: no frame has a finite score; train the model again")
        if class_names and saved.class_names != class_names:
            raise InputError(
                f"{video}: its classes are {','.join(saved.class_names)}, other videos' are "
                f"{','.join(class_names)}; submit the scores of one model"
            )
        given = saved.video_mask | saved.audio_mask
        labels[video] = torch.where(given, saved.labels, saved.labels[nearest_present(saved.answered)])
        present[video], class_names = saved.video_mask, saved.class_names
        unscored += int((~saved.covered).sum())
        if given.any():
            neither += int((~given).sum())
        else:
            blank.append(video)
    if not labels:
        raise InputError(f"{path}: no video was scored; is the test list empty?")
    if blank:
        warnings.warn(
            f"{len(blank)} of {len(labels)} videos have neither face nor voice in any frame (first: "
            f"{', '.join(blank[:3])}): their labels are what the model makes of nothing",
            stacklevel=2,
        )
    report = write_submission(path, template, labels, class_names, present)
    check_submission(path, template, class_names)
    return replace(report, unscored=unscored, neither=neither)


def _problem(saved: SavedScores) -> str | None:
    frames, classes = saved.labels.numel(), len(saved.class_names)
    expected = dict.fromkeys(_TENSORS, (torch.bool, (frames,))) | {
        "scores": (torch.float32, (frames, classes)),
        "labels": (torch.int64, (frames,)),
    }
    for name, (dtype, shape) in expected.items():
        tensor = getattr(saved, name)
        if tensor.dtype != dtype or tensor.shape != shape:
            return f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} {shape}"
    if not saved.scores.isfinite().all():
        return "a score is not finite"
    if frames and not 0 <= saved.labels.min() <= saved.labels.max() < classes:
        return f"a label is not from 0 to {classes - 1}"
    return None
