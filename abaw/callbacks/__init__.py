"""Lightning callbacks: whole-video inference and what is done with its scores."""

from abaw.callbacks.checkpoint import RunCheckpoint
from abaw.callbacks.feature_writer import FeatureWriter
from abaw.callbacks.frame_progress import FrameProgressBar
from abaw.callbacks.inference import SlidingWindowInference
from abaw.callbacks.prediction_writer import PredictionWriter
from abaw.callbacks.report import TestReport
from abaw.callbacks.results import VideoFeaturesConsumer, VideoScores, VideoScoresConsumer
from abaw.callbacks.robustness_report import RobustnessReport
from abaw.callbacks.stop import StopOnSignal
from abaw.callbacks.tuner import PostprocessTuner

__all__ = [
    "FeatureWriter",
    "FrameProgressBar",
    "PostprocessTuner",
    "PredictionWriter",
    "RobustnessReport",
    "RunCheckpoint",
    "SlidingWindowInference",
    "StopOnSignal",
    "TestReport",
    "VideoFeaturesConsumer",
    "VideoScores",
    "VideoScoresConsumer",
]
