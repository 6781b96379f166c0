"""One video, one call: expressions over time, without a corpus or a Trainer."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abaw.data.batch import Batch
from abaw.data.datasets import Loader
from abaw.data.faces import FaceDetector, Picture, write_crops
from abaw.data.single import open_video
from abaw.engine import VideoAssembler, VideoFeatures, WindowVoter, compile_encoders
from abaw.module import ExpressionModule
from abaw.postprocess import Average, Weighting, likeliest
from abaw.trained_run import TrainedRun


class Stretch(NamedTuple):
    """Consecutive frames with the same expression, and the same modalities to tell it by."""

    start: float
    """Seconds on the video's clock, of the first frame."""
    end: float
    """Seconds: where the next stretch starts, or one frame after the last."""
    expression: str
    """Name of the class."""
    score: float
    """Its mean probability over the frames that have scores; 0 where none has."""
    face: bool
    """Whether a face was there."""
    voice: bool
    """Whether the sound track covered the frames."""


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says of one video of N frames; tensors are on the CPU.

    Attributes:
        video_id: The file's name, without its ending.
        class_names: Names of the C classes.
        time: float64 (N,), when each frame is shown, seconds on the video's own clock.
        scores: float32 (N, C), probabilities; zeros where ``covered`` is False.
        labels: int64 (N,), the class of each frame: that of the highest score, or what a tuned run decides. A
            frame that no window covered takes the nearest one's.
        covered: bool (N,), True where at least one window saw the frame.
        video_mask: bool (N,), True where a face was there.
        audio_mask: bool (N,), True where the sound track covered the frame.
    """

    video_id: str
    class_names: list[str]
    time: Tensor
    scores: Tensor
    labels: Tensor
    covered: Tensor
    video_mask: Tensor
    audio_mask: Tensor

    def timeline(self) -> list[Stretch]:
        """The stretches of the video: a new one where the expression, the face or the voice changes."""
        times = self.time.tolist()
        times.append(times[-1] + (float(self.time.diff().median()) if len(times) > 1 else 0.0))
        states = list(
            zip(self.labels.tolist(), self.video_mask.tolist(), self.audio_mask.tolist(), strict=True)
        )
        stretches = []
        for (label, face, voice), group in groupby(range(len(states)), key=states.__getitem__):
            frames = list(group)
            scored = self.scores[frames, label][self.covered[frames]]
            score = float(scored.mean()) if len(scored) else 0.0
            start, end = times[frames[0]], times[frames[-1] + 1]
            stretches.append(Stretch(start, end, self.class_names[label], score, face, voice))
        return stretches


def predict_video(
    model: ExpressionModule | str | Path,
    video: str | Path,
    *,
    crops: str | Path | None = None,
    face_detector: str | Path | None = None,
    window: int | None = None,
    stride: int | None = None,
    frame_step: int | None = None,
    weighting: Weighting | None = None,
    average: Average | None = None,
    image_size: int | None = None,
    audio_context: float | None = None,
    batch_size: int | None = None,
    clip_samples: int | None = None,
    num_workers: int = 0,
    device: torch.device | str | None = None,
    compile: bool = False,
    trust: Sequence[str] = (),
) -> VideoPrediction:
    """Recognise the expression in every frame of one video.

    The same engine as ``abaw predict``: frames and sound stream from the disk in chunks, each face passes its
    encoder once, the head votes over overlapping windows. Memory grows by the features alone.

    Args:
        model: A module, or the folder of a run of ``abaw fit``, whose best checkpoint and settings are taken,
            and what ``abaw tune`` has chosen.
        video: Any file that FFmpeg reads; its voice counts as absent where there is no sound track.
        crops: The folder of the face crops, ``00001.jpg`` and so on, a frame without a face having none.
        face_detector: Where there are no crops: the file of YuNet's weights, to find the largest face of each
            picture with. Without either, the pictures themselves are taken as face crops.
        window: Frames of a window. This and what follows down to ``clip_samples`` should be what it was in
            training: ``None`` means what the run says, and for a module the defaults of
            :class:`~abaw.data.AffWild2DataModule` and :class:`~abaw.callbacks.SlidingWindowInference`.
        stride: Steps between the starts of windows.
        frame_step: Frames from one frame of a window to the next.
        weighting: Weight of a frame by its place in the window.
        average: Whether the windows' probabilities or their logits are averaged.
        image_size: Height and width of the crops.
        audio_context: Seconds of sound before a chunk's first frame and after its last.
        batch_size: Chunks that are encoded at once.
        clip_samples: Least length of a chunk's sound, samples; some networks depend on it.
        num_workers: Processes that read ahead; 0 reads ahead in a thread.
        device: Where to compute; ``None`` means where the module is, for a run a GPU if there is one. A
            module stays there.
        compile: Whether the encoders and the head are compiled (``torch.compile`` with static shapes), which
            pays on long videos; a module's encoders stay so.
        trust: Packages whose classes a run may name, beside abaw's: their code is run.

    Returns:
        Scores and labels of all frames.

    Raises:
        InputError: The video, the crops, the weights or the run can't be read.

    Example:
        >>> prediction = predict_video("runs/quickstart", "clip.mp4", face_detector="yunet.onnx")
        ... # doctest: +SKIP
        >>> for stretch in prediction.timeline():  # doctest: +SKIP
        ...     print(f"{stretch.start:6.2f}-{stretch.end:6.2f} s  {stretch.expression}")
    """
    reading: dict[str, Any] = {
        "window": window,
        "frame_step": frame_step,
        "image_size": image_size,
        "audio_context": audio_context,
        "batch_size": batch_size,
        "clip_samples": clip_samples,
    }
    voting: dict[str, Any] = {
        "window": window,
        "stride": stride,
        "frame_step": frame_step,
        "weighting": weighting,
        "average": average,
    }
    reading, voting = _given(reading), _given(voting)
    postprocessing = half = None
    if not isinstance(model, ExpressionModule):
        run = TrainedRun.load(Path(model), trust)
        model, reading, voting = run.model, run.reading | reading, run.voting | voting
        postprocessing, half = run.postprocessing, run.half
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device is not None:
        model = model.to(device)
    voter = WindowVoter(**voting, compile=compile)
    if compile:
        compile_encoders(model)
    autocast = nullcontext() if half is None else torch.autocast(model.device.type, half)
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad(), _evaluating(model), autocast:
        if crops is None and model.visual_encoder is not None:
            crops = Path(scratch) / "crops"
            if face_detector is None:
                warnings.warn("neither crops nor face_detector: whole pictures count as faces", stacklevel=2)
            write_crops(video, crops, FaceDetector(face_detector) if face_detector else _whole_picture)
        chunks = open_video(video, crops, Path(scratch) / "sound", num_workers=num_workers, **reading)
        features = _encode(model, _ahead(chunks))
        scores, covered = voter.vote(model.fusion, features, len(model.class_names))
    scores, covered = scores.cpu(), covered.cpu()
    labels = likeliest(scores, covered)
    if postprocessing is not None:
        labels = postprocessing(scores, covered, features.video_id)[1]
    return VideoPrediction(
        video_id=features.video_id,
        class_names=model.class_names,
        time=features.time,
        scores=scores,
        labels=labels,
        covered=covered,
        video_mask=features.video_mask.cpu(),
        audio_mask=features.audio_mask.cpu(),
    )


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@contextmanager
def _evaluating(model: ExpressionModule) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _ahead(chunks: Loader) -> Iterator[Batch]:
    """Read the next batch while the last one is being computed, even where no process is asked for."""
    with ThreadPoolExecutor(1) as reader:
        batches = iter(chunks)
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _encode(model: ExpressionModule, chunks: Iterator[Batch]) -> VideoFeatures:
    assembler = VideoAssembler()
    for batch in chunks:
        batch = model.transfer_batch_to_device(batch, model.device, 0)
        for video in assembler.add(model.encode(batch), batch):
            return video
    raise AssertionError("the last chunk completes the video")


def _whole_picture(picture: Picture) -> Picture:
    return picture
