"""The submission file of the challenge: a row for each row of the organisers' template, checked."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from abaw.errors import InputError
from abaw.files import composed, expand, replacing
from abaw.labels import EXPRESSIONS
from abaw.postprocess.nearest import nearest_present

_LOCATION = re.compile(r"(?P<video>.+)/(?P<frame>\d{5,})\.jpg")


@dataclass(frozen=True)
class SubmissionReport:
    """What a submission holds.

    Attributes:
        videos: Number of videos.
        rows: Number of frames.
        filled: Rows whose label is another frame's, having no face of their own; 0 after a check, which
            cannot tell.
        unscored: Frames that took the label of another one because no model gave them a score; 0 where
            labels were given and not scores.
        neither: Frames that took the label of another one because they have neither face nor voice; 0 as
            for ``unscored``.
    """

    videos: int
    rows: int
    filled: int = 0
    unscored: int = 0
    neither: int = 0

    def describe(self, path: str | Path) -> str:
        """What to tell whoever asked for the file ``path``."""
        neither = f"\n  {self.neither} with neither face nor voice take that of the nearest frame with one"
        return (
            f"{self.rows} rows of {self.videos} videos: {path}\n"
            f"  {self.filled} without a face take the label of the nearest frame with one\n"
            f"  {self.unscored} without a score take the label of the nearest frame with one"
            f"{neither if self.neither else ''}"
        )


def write_submission(
    path: str | Path,
    template: str | Path | None,
    predictions: Mapping[str, Tensor],
    class_names: Sequence[str] = EXPRESSIONS,
    present: Mapping[str, Tensor] | None = None,
) -> SubmissionReport:
    """Write ``predictions.txt`` as the 5th, 6th and 10th ABAW challenges ask for it.

    A header ``image_location,<class names>``, then rows of two fields, ``video/00001.jpg,4``: exactly the
    rows of the template in its order, those without a crop included. Frames without a face take the label of
    the nearest frame of the same video that has one; a video that shows no face at all keeps its own labels.

    Args:
        path: The file to write; it appears whole or not at all.
        template: The organisers' sample submission; ``None`` writes a row for every prediction instead.
        predictions: For each video its labels, int (N,), from the first frame on.
        class_names: Names of the C classes, for the header; the template must name the same.
        present: For each video, bool (N,), True where a face was there; ``None`` means everywhere.

    Raises:
        InputError: If the template cannot be read, is malformed, or names other videos than ``predictions``.
        ValueError: If labels are out of range or masks do not fit them.

    Warns:
        UserWarning: If the template has rows beyond the last prediction of a video, with their number. They
            are filled like frames without a face.
    """
    path, template = expand(path), None if template is None else expand(template)
    answers = {
        composed(name): _answers(name, labels, None if present is None else present[name], len(class_names))
        for name, labels in predictions.items()
        if len(labels)
    }
    if template is None:
        wanted = _own_rows(predictions)
    else:
        check_template(template, class_names, answers.keys())
        wanted = _template_rows(template, class_names)
    rows = filled = beyond = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{_header(class_names)}\n")
        for location, video, frame in wanted:
            labels, is_filled = answers[video]
            index = min(frame, len(labels)) - 1
            file.write(f"{location},{labels[index]}\n")
            rows += 1
            beyond += frame > len(labels)
            filled += frame > len(labels) or is_filled[index]
    if beyond:
        warnings.warn(
            f"{template} has {beyond} rows beyond the last predicted frame of their videos: "
            "they take the label of the nearest frame",
            stacklevel=2,
        )
    return SubmissionReport(videos=len(answers), rows=rows, filled=filled)


def check_template(
    template: str | Path, class_names: Sequence[str] = EXPRESSIONS, videos: Set[str] | None = None
) -> set[str]:
    """Check that a submission can be made of a template.

    Args:
        template: The organisers' sample submission; a byte order mark is passed over.
        class_names: Names of the C classes that its header must have.
        videos: The videos that its rows must name, all of them and no other; ``None`` takes any.

    Returns:
        The videos that its rows name.

    Raises:
        InputError: If it cannot be read, is malformed, or names other videos.
    """
    named = {video for _, video, _ in _template_rows(template, class_names)}
    if videos is not None:
        _refuse(f"{template} has videos without a prediction", named - videos)
        _refuse(f"{template} lacks videos to predict", videos - named)
    return named


def check_submission(
    path: str | Path, template: str | Path | None = None, class_names: Sequence[str] = EXPRESSIONS
) -> SubmissionReport:
    """Check that a submission is what the challenge accepts.

    Args:
        path: The submission, anyone's.
        template: The organisers' sample submission, whose rows and order must be the submission's; ``None``
            checks that each row names a frame, and none twice.
        class_names: Names of the C classes in the header.

    Raises:
        InputError: At the first problem, with its line: a wrong header, not two fields, a label that is no
            class index, a row that is missing, unknown, out of order or there twice. Videos of the template
            that are missing, and others, are listed.
    """
    labels = {str(label) for label in range(len(class_names))}
    wanted = iter(()) if template is None else (row[0] for row in _template_rows(template, class_names))
    videos: set[str] = set()
    seen: set[str] = set()
    number = 1
    for number, line in _rows(path, class_names):
        where = f"{path}, line {number}"
        fields = line.split(",")
        if len(fields) != 2:
            raise InputError(f"{where}: {line!r} is not two fields, as in video/00001.jpg,4")
        location, label = fields
        if label not in labels:
            raise InputError(f"{where}: the label {label!r} is not an integer from 0 to {len(labels) - 1}")
        if template is None:
            _parse_location(location, where)
            if location in seen:
                raise InputError(f"{where}: {location} is there twice; keep one of the rows")
            seen.add(location)
        elif location != (due := next(wanted, None)):
            difference = _difference(path, template, class_names, number, location, due)
            raise InputError(f"{where}: {difference}{_other_videos(path, template, class_names)}")
        videos.add(location.rpartition("/")[0])
    if (due := next(wanted, None)) is not None:
        raise InputError(
            f"{path}, line {number + 1}: the file ends where {template} goes on with {due}; "
            f"{1 + sum(1 for _ in wanted)} row(s) are missing{_other_videos(path, template, class_names)}"
        )
    if number == 1:
        raise InputError(f"{path}: there are no rows below the header")
    return SubmissionReport(videos=len(videos), rows=number - 1)


def _answers(
    video: str, labels: Tensor, present: Tensor | None, num_classes: int
) -> tuple[list[int], list[bool]]:
    """Label of each frame, and whether it was taken from another frame."""
    if labels.ndim != 1 or labels.is_floating_point() or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"{video}: labels must be int (N,) from 0 to {num_classes - 1}")
    if present is None:
        present = torch.ones(len(labels), dtype=torch.bool)
    if present.dtype != torch.bool or present.shape != labels.shape:
        raise ValueError(f"{video}: present must be bool {tuple(labels.shape)}, got {tuple(present.shape)}")
    nearest = nearest_present(present)
    return labels.cpu()[nearest].tolist(), (nearest != torch.arange(len(labels))).tolist()


def _header(class_names: Sequence[str]) -> str:
    return ",".join(("image_location", *class_names))


def _own_rows(predictions: Mapping[str, Tensor]) -> Iterator[tuple[str, str, int]]:
    for video, labels in predictions.items():
        for frame in range(1, len(labels) + 1):
            yield f"{video}/{frame:05d}.jpg", composed(video), frame


def _template_rows(template: str | Path, class_names: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Location, video and 1-based frame of each row; whatever follows the first field is a sample answer."""
    seen: set[str] = set()
    for number, line in _rows(template, class_names, encoding="utf-8-sig"):
        if line.strip():
            location = line.partition(",")[0]
            if location in seen:
                raise InputError(f"{template}, line {number}: {location} is there twice; remove one")
            yield location, *_parse_location(location, f"{template}, line {number}")
            seen.add(location)
    if not seen:
        raise InputError(f"{template}: the template has no rows below its header; is the download complete?")


def _rows(path: str | Path, class_names: Sequence[str], encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Number and text of each line below the header, which is checked."""
    try:
        with expand(path).open(encoding=encoding) as lines:
            first, header = next(lines, "").rstrip("\n"), _header(class_names)
            if first != header:
                raise InputError(f"{path}, line 1: the header must be {header!r}, not {first!r}")
            for number, line in enumerate(lines, start=2):
                yield number, line.rstrip("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8; save it as such") from error


def _parse_location(location: str, where: str) -> tuple[str, int]:
    match = _LOCATION.fullmatch(location)
    if match is None or int(match["frame"]) == 0:
        raise InputError(f"{where}: {location!r} is not a frame; write video/00001.jpg and so on")
    return composed(match["video"]), int(match["frame"])


def _difference(
    path: str | Path,
    template: str | Path,
    class_names: Sequence[str],
    number: int,
    location: str,
    due: str | None,
) -> str:
    """Why line ``number`` is not the row of the template that is due; all lines before it are right."""
    rows = [row[0] for row in _template_rows(template, class_names)]
    if location in rows[: number - 2]:
        return f"{location} is there twice; keep the first of the rows"
    if location not in rows:
        return f"{location} is not in {template}; remove the row"
    if any(line.partition(",")[0] == due for later, line in _rows(path, class_names) if later > number):
        return f"{location} is out of order, {due} is due; keep the order of {template}"
    return f"{location} stands where {due} is missing; add the row"


def _other_videos(path: str | Path, template: str | Path | None, class_names: Sequence[str]) -> str:
    """The videos in which a submission and its template differ, if any."""
    if template is None:
        return ""
    due = {video for _, video, _ in _template_rows(template, class_names)}
    there = {composed(line.partition(",")[0].rpartition("/")[0]) for _, line in _rows(path, class_names)}
    return "".join(
        f"; {kind} videos: {listed(videos)}"
        for kind, videos in (("missing", due - there), ("unknown", there - due - {""}))
        if videos
    )


def _refuse(problem: str, videos: Set[str]) -> None:
    if videos:
        raise InputError(f"{problem}: {listed(videos)}; predict the videos of this template")


def listed(videos: Set[str]) -> str:
    """All names, in their order."""
    return ", ".join(sorted(videos))
