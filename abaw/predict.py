"""One video, one call: expressions over time, without a corpus or a Trainer."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from abaw.data.batch import Batch
from abaw.data.datasets import Loader
from abaw.data.faces import FaceDetector, FaceFollower, Picture, write_crops
from abaw.data.single import VOICE_RATE, open_video
from abaw.data.video import picture_rate
from abaw.engine import VideoAssembler, VideoFeatures, WindowVoter, compile_encoders
from abaw.errors import InputError
from abaw.labels import IGNORE_INDEX
from abaw.module import ExpressionModule
from abaw.postprocess import Average, Weighting, likeliest
from abaw.scratch import scratch_folder
from abaw.timeline import Stretch, VideoPrediction
from abaw.trained_run import TrainedRun

__all__ = ["Stretch", "VideoPrediction", "predict_video"]

Tell = Callable[[int, int], object]
"""Is called with how many frames are done, and of how many."""


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
    frame_rate: float | None = None,
    num_workers: int = 0,
    device: torch.device | str | None = None,
    compile: bool = False,
    trust: Sequence[str] = (),
    progress: bool | None = None,
) -> VideoPrediction:
    """Recognise the expression in every frame of one video.

    The same engine as ``abaw predict``: frames and sound stream from the disk in chunks, each face passes its
    encoder once, the head votes over overlapping windows. Memory grows by the features alone.

    A file that holds sound alone (its cover is no picture) is a voice without a face, of 30 frames a second;
    a picture is a video of one frame.

    Args:
        model: A module, or the folder of a run of ``abaw fit``, whose best checkpoint and settings are taken,
            and what ``abaw tune`` has chosen.
        video: Any file that FFmpeg reads; its voice counts as absent where there is no sound track.
        crops: The folder of the face crops, ``00001.jpg`` and so on, a frame without a face having none.
        face_detector: Where there are no crops: the file of YuNet's weights, to find the largest face of each
            picture with, staying with a person where others are as large, see
            `abaw.data.faces.FaceFollower`. Without either, the pictures themselves are taken as face crops.
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
        frame_rate: Frames a second of a window, in place of ``frame_step``, see
            :class:`~abaw.data.AffWild2DataModule`. A run warns where windows of this video span another time
            than in training; this mends it.
        num_workers: Processes that read ahead; 0 reads ahead in a thread.
        device: Where to compute; ``None`` means where the module is, for a run a GPU if there is one. A
            module stays there.
        compile: Whether the encoders and the head are compiled (``torch.compile`` with static shapes), which
            pays on long videos; a module's encoders stay so.
        trust: Packages whose classes a run may name, beside abaw's: their code is run.
        progress: Whether to show on stderr how far it is, and how long it will take; ``None``: in a terminal.

    Returns:
        Scores and labels of all frames.

    Raises:
        InputError: The video, the crops, the weights or the run can't be read; or the file holds sound alone,
            and the model only looks, or crops are given.

    Warns:
        UserWarning: If several persons are in the pictures; if no face was found; if neither face nor voice
            is in any frame, so that nothing is told; each with its number.

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
        "frame_rate": frame_rate,
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
        run = TrainedRun.load(Path(model).expanduser(), trust)
        if {"frame_step", "frame_rate"} & reading.keys():  # the run's own choice of the two is off
            run.reading.update(frame_step=1, frame_rate=None)
        model, reading, voting = run.model, run.reading | reading, run.voting | voting
        postprocessing, half = run.postprocessing, run.half
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device is not None:
        model = model.to(device)
    video = Path(video).expanduser()
    rate = picture_rate(video)
    if rate is None:
        _check_voice_alone(model, video, crops)
    voter = WindowVoter(**voting, compile=compile)
    if compile:
        compile_encoders(model)
    autocast = nullcontext() if half is None else torch.autocast(model.device.type, half)
    with (
        scratch_folder() as scratch,
        _Steps(progress) as steps,
        torch.no_grad(),
        _evaluating(model),
        autocast,
    ):
        if crops is None and model.visual_encoder is not None and rate is not None:
            crops = scratch / "crops"
            _find_faces(video, crops, face_detector, steps.step("Finding faces"))
        chunks = open_video(video, crops, scratch / "sound", num_workers=num_workers, **reading)
        features = _encode(model, _ahead(chunks), steps.step("Encoding"))
        scores, covered = voter.vote(model.fusion, features, len(model.class_names))
    scores, covered = scores.cpu(), covered.cpu()
    video_mask, audio_mask = features.video_mask.cpu(), features.audio_mask.cpu()
    given = video_mask | audio_mask
    if not given.any():
        _warn_of_nothing(model, video, len(given))
    answered = covered & given
    labels = likeliest(scores, answered)
    if postprocessing is not None:
        labels = postprocessing(scores, answered, features.video_id)[1]
    return VideoPrediction(
        video_id=features.video_id,
        class_names=model.class_names,
        time=features.time,
        scores=scores * answered[:, None],
        labels=labels.masked_fill(~given, IGNORE_INDEX),
        covered=covered,
        video_mask=video_mask,
        audio_mask=audio_mask,
        frame_seconds=1 / (rate or VOICE_RATE),
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


def _encode(model: ExpressionModule, chunks: Iterator[Batch], tell: Tell) -> VideoFeatures:
    assembler = VideoAssembler()
    done = 0
    for batch in chunks:
        done += int((batch["frame"] >= 0).sum())
        tell(done, batch["num_frames"][0])
        batch = model.transfer_batch_to_device(batch, model.device, 0)
        for video in assembler.add(model.encode(batch), batch):
            return video
    raise AssertionError("the last chunk completes the video")


def _find_faces(video: Path, crops: Path, weights: str | Path | None, tell: Tell) -> None:
    """Write the crops of one person's face, and say in words what is odd about them."""
    if weights is None:
        warnings.warn("neither crops nor face_detector: whole pictures count as faces", stacklevel=3)
        write_crops(video, crops, _whole_picture, tell)
        return
    follower = FaceFollower(FaceDetector(weights))
    found = write_crops(video, crops, follower, tell)
    if not found.any():
        warnings.warn(f"{video}: no face was found in any of its {len(found)} pictures", stacklevel=3)
    if rivals := follower.describe():
        warnings.warn(f"{video}: {rivals}", stacklevel=3)


def _check_voice_alone(model: ExpressionModule, video: Path, crops: str | Path | None) -> None:
    if model.audio_encoder is None:
        raise InputError(f"{video}: holds no picture, sound alone, and the model only looks; give a video.")
    if crops is not None:
        raise InputError(
            f"{video}: holds no picture, sound alone, that crops could belong to; leave crops out, or give "
            "the video."
        )


def _warn_of_nothing(model: ExpressionModule, video: Path, num_frames: int) -> None:
    missing = "neither face nor voice"
    if model.audio_encoder is None:
        missing = "no face, and the model only looks"
    elif model.visual_encoder is None:
        missing = "no voice, and the model only listens"
    warnings.warn(
        f"{video}: in all of its {num_frames} frames there is {missing}; nothing is told of them",
        stacklevel=3,
    )


class _Steps:
    """Bars on stderr, one for each step; none where nobody looks."""

    def __init__(self, show: bool | None) -> None:
        console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "left:", TimeRemainingColumn())
        show = (console.is_terminal or console.is_jupyter) if show is None else show
        self._bars = Progress(*columns, console=console, disable=not show)

    def __enter__(self) -> "_Steps":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, description: str) -> Tell:
        """Add a bar, and return what moves it."""
        task = self._bars.add_task(description, total=None)
        return lambda done, total: self._bars.update(task, completed=done, total=total)


def _whole_picture(picture: Picture) -> Picture:
    return picture
