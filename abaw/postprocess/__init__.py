"""From the logits of windows to one label a frame, and to the file that the challenge accepts.

Importing this package imports torch, einops and numpy alone.
"""

from abaw.postprocess.bias import fit_bias
from abaw.postprocess.decoding import Decoder, Smoothing
from abaw.postprocess.postprocessing import POSTPROCESS_FILE, HeldOut, Postprocessing
from abaw.postprocess.scores import (
    SavedScores,
    average_scores,
    likeliest,
    list_scores,
    load_scores,
    own_scores,
    save_scores,
    score_files,
    submit_scores,
)
from abaw.postprocess.smoothing import SmoothingKind, smooth
from abaw.postprocess.submission import (
    SubmissionReport,
    check_submission,
    check_template,
    write_submission,
)
from abaw.postprocess.viterbi import count_transitions, log_transitions, viterbi
from abaw.postprocess.voting import Average, SoftVoting, Weighting
from abaw.postprocess.windows import window_starts

__all__ = [
    "POSTPROCESS_FILE",
    "Average",
    "Decoder",
    "HeldOut",
    "Postprocessing",
    "SavedScores",
    "Smoothing",
    "SmoothingKind",
    "SoftVoting",
    "SubmissionReport",
    "Weighting",
    "average_scores",
    "check_submission",
    "check_template",
    "count_transitions",
    "fit_bias",
    "likeliest",
    "list_scores",
    "load_scores",
    "log_transitions",
    "own_scores",
    "save_scores",
    "score_files",
    "smooth",
    "submit_scores",
    "viterbi",
    "window_starts",
    "write_submission",
]
