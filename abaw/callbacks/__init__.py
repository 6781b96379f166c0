"""Lightning callbacks: whole-video inference and what is done with its scores."""

from abaw.callbacks.checkpoint import RunCheckpoint
from abaw.callbacks.features import VideoFeatures
from abaw.callbacks.inference import SlidingWindowInference
from abaw.callbacks.prediction_writer import PredictionWriter
from abaw.callbacks.report import TestReport
from abaw.callbacks.results import VideoScores, VideoScoresConsumer

__all__ = [
    "PredictionWriter",
    "RunCheckpoint",
    "SlidingWindowInference",
    "TestReport",
    "VideoFeatures",
    "VideoScores",
    "VideoScoresConsumer",
]
