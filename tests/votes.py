"""What soft voting is, frame by frame in Python's own doubles, and the whole of it in one call."""

import math
import warnings

import torch

from abaw.postprocess import SoftVoting

WEIGHTINGS = ["uniform", "triangular", "hann", "hamming", "gaussian"]
AVERAGES = ["probability", "logits"]


def weight(kind, place, window):
    """Closed forms of the weightings, in float64."""
    middle = (window - 1) / 2
    return {
        "uniform": 1.0,
        "triangular": 1 - abs(place - middle) / ((window + 1) / 2),
        "hann": math.sin(math.pi * (place + 1) / (window + 1)) ** 2,
        "hamming": 1.0 if window == 1 else 0.54 - 0.46 * math.cos(2 * math.pi * place / (window - 1)),
        "gaussian": math.exp(-((place - middle) ** 2) / (2 * (window / 8) ** 2)),
    }[kind]


def softmax(values):
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def brute_force(num_frames, logits, starts, weighting, average):
    """Frame by frame, window by window, in Python's own doubles."""
    num_classes, window = logits.shape[2], logits.shape[1]
    scores, covered, excluded = [], [], 0
    for frame in range(num_frames):
        sums, total = [0.0] * num_classes, 0.0
        for number, start in enumerate(starts.tolist()):
            place = frame - start
            if not 0 <= place < window:
                continue
            vote = logits[number, place].double().tolist()
            if not all(math.isfinite(value) for value in vote):
                excluded += 1
                continue
            factor = weight(weighting, place, window)
            vote = softmax(vote) if average == "probability" else vote
            sums = [a + factor * b for a, b in zip(sums, vote, strict=True)]
            total += factor
        covered.append(total > 0)
        mean = [value / total for value in sums] if total > 0 else [0.0] * num_classes
        scores.append(softmax(mean) if average == "logits" and total > 0 else mean)
    scores = torch.tensor(scores, dtype=torch.float64).view(num_frames, num_classes)
    return scores, torch.tensor(covered), excluded


def vote(num_frames, logits, starts, batch=1000, **options):
    voting = SoftVoting(num_frames, logits.shape[2], logits.shape[1], **options)
    for part, at in zip(logits.split(batch), starts.split(batch), strict=True):
        voting.add(part, at)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return *voting.finish(), voting.num_excluded
