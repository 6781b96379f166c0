"""From the logits of windows to one label a frame, and to the file that the challenge accepts."""

from abaw.postprocess.scores import (
    SavedScores,
    average_scores,
    likeliest,
    list_scores,
    load_scores,
    save_scores,
    submit_scores,
)
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
    "SavedScores",
    "SoftVoting",
    "SubmissionReport",
    "Weighting",
    "average_scores",
    "check_submission",
    "check_template",
    "likeliest",
    "list_scores",
    "load_scores",
    "save_scores",
    "submit_scores",
    "window_starts",
    "write_submission",
]
