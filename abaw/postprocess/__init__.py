"""From the logits of windows to one label a frame, and to the file that the challenge accepts."""

from abaw.postprocess.submission import (
    SubmissionReport,
    check_submission,
    check_template,
    write_submission,
)
from abaw.postprocess.voting import Average, SoftVoting, Weighting
from abaw.postprocess.windows import window_starts

__all__ = [
    "Average",
    "SoftVoting",
    "SubmissionReport",
    "Weighting",
    "check_submission",
    "check_template",
    "window_starts",
    "write_submission",
]
