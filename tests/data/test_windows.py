from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from aff_wild2_files import find_clicks, shade

from abaw.data.audio import SoundTrack
from abaw.data.augment import Augmentation
from abaw.data.crops import CropFiles, list_crops
from abaw.data.windows import Recording, WindowReader, clip_samples, collate, warn_of_clips


class MemoryTrack(SoundTrack):
    """A sound track whose samples are in memory."""

    def read(self, first: int, count: int) -> np.ndarray:
        index = np.arange(first, first + count)
        inside = (index >= 0) & (index < len(self.path))
        return np.where(inside, self.path[index.clip(0, len(self.path) - 1)], 0).astype(np.int16)


def track(samples: np.ndarray, start: float = 0.0) -> MemoryTrack:
    return MemoryTrack(samples, start, np.array([[0, len(samples)]]), np.zeros(0))


def recording(crops: Path | None = None, num_frames: int = 20, fps: float = 25, sound=None, missing=()):
    files = list_crops(crops).of(num_frames) if crops else CropFiles.none(num_frames)
    files.pattern[list(missing)] = 0
    return Recording(
        video_id="v",
        target=np.arange(num_frames) % 8,
        time=np.arange(num_frames) / fps,
        crops=files,
        sound=sound,
        broken=torch.zeros(num_frames, dtype=torch.bool),
    )


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    for frame in range(20):
        picture = np.zeros((112, 112, 3), np.uint8)
        picture[:, :56] = (0, 0, shade(frame))  # red, in OpenCV's order
        cv2.imwrite(str(tmp_path / f"{frame + 1:05d}.jpg"), picture)
    return tmp_path


def reader(**arguments) -> WindowReader:
    return WindowReader(**{"num_samples": 16_000, "image_size": 112, "audio_context": 0.25} | arguments)


def test_window_holds_what_the_batch_says(crops: Path):
    sample = reader().read(recording(crops, sound=track(np.ones(9000))), np.array([3, 5, 7, -1]))
    shapes = {k: (tuple(v.shape), v.dtype) for k, v in sample.items() if isinstance(v, torch.Tensor)}
    assert shapes == {
        "video": ((4, 3, 112, 112), torch.uint8),
        "video_mask": ((4,), torch.bool),
        "audio": ((16_000,), torch.float32),
        "audio_mask": ((4,), torch.bool),
        "time": ((4,), torch.float32),
        "target": ((4,), torch.int64),
        "frame": ((4,), torch.int64),
    }
    assert sample["frame"].tolist() == [3, 5, 7, -1]
    assert sample["target"].tolist() == [3, 5, 7, -1]
    assert sample["video_id"] == "v"
    assert sample["num_frames"] == 20
    np.testing.assert_allclose(
        sample["audio_start"] + sample["time"][:3].numpy(), [3 / 25, 5 / 25, 7 / 25], atol=1e-6
    )
    assert sample["time"][0] == pytest.approx(0.25, abs=1 / 16_000)


def test_padding_is_absent_and_zero(crops: Path):
    sample = reader().read(recording(crops, sound=track(np.ones(99_000))), np.array([18, 19, -1, -1]))
    assert sample["video_mask"].tolist() == [True, True, False, False]
    assert sample["audio_mask"].tolist() == [True, True, False, False]
    assert sample["time"][2:].tolist() == [0, 0]
    assert not sample["video"][2:].any()


def test_crops_are_rgb_and_those_of_their_frames(crops: Path):
    sample = reader().read(recording(crops, missing=[4]), np.array([3, 4, 5]))
    assert sample["video_mask"].tolist() == [True, False, True]
    assert not sample["video"][1].any()
    for place, frame in ((0, 3), (2, 5)):
        red, green, blue = sample["video"][place, :, :, 8].float().mean(dim=1)
        assert red == pytest.approx(shade(frame), abs=3)
        assert max(green, blue) < 12
        assert sample["video"][place, :, :, 70:].float().mean() < 3


def test_crops_are_resized(crops: Path):
    sample = reader(image_size=32).read(recording(crops), np.array([0, 1]))
    assert sample["video"].shape == (2, 3, 32, 32)
    assert sample["video"][1, 0, :, 4].float().mean() == pytest.approx(shade(1), abs=3)


@pytest.mark.parametrize("content", [b"", b"no picture", None, "half"])
def test_unreadable_crop_is_an_absent_frame_and_counted(crops: Path, content):
    path = crops / "00003.jpg"
    video = recording(crops)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:400] if content == "half" else content)
    sample = reader().read(video, np.array([1, 2, 3]))
    assert sample["video_mask"].tolist() == [True, False, True]
    assert not sample["video"][1].any()
    assert video.broken.nonzero().tolist() == [[2]]


@pytest.mark.parametrize("start", [0.0, 0.5, -0.013, 1.7])
@pytest.mark.parametrize("fps", [15, 25, 30_000 / 1001])
def test_sound_at_a_frames_time_is_the_sound_of_that_frame(start: float, fps: float):
    samples = np.zeros(64_000)
    clicked = [frame for frame in range(8, 90, 9) if frame / fps - start >= 0]
    for frame in clicked:
        begin = round((frame / fps - start) * 16_000)
        samples[begin : begin + 64] = 8000 * np.sin(np.arange(64) * 0.9)[: len(samples[begin : begin + 64])]
    video = recording(num_frames=90, fps=fps, sound=track(samples, start))
    for first in (0, 5, 41):
        frames = np.arange(first, first + 12)
        sample = reader(num_samples=int((11 / fps + 0.5) * 16_000) + 1).read(video, frames)
        inside = [frame for frame in clicked if frame in frames]
        if not inside:
            continue
        # The sound before the first frame and after the last is there too.
        heard = find_clicks(sample["audio"].numpy()) / 16_000
        expected = [sample["time"][frame - first].item() for frame in inside]
        for moment in expected:
            assert np.abs(heard - moment).min() < 1e-3


def test_audio_mask_is_what_the_track_covers():
    video = recording(num_frames=50, sound=track(np.ones(16_000), start=0.3))  # 0.3 s to 1.3 s
    sample = reader(num_samples=40_000).read(video, np.arange(50))
    assert sample["audio_mask"].nonzero().flatten().tolist() == list(range(8, 33))
    covered = sample["audio"].nonzero().flatten()
    np.testing.assert_allclose(
        sample["audio_start"] + covered[[0, -1]].numpy() / 16_000, [0.3, 1.3 - 1 / 16_000], atol=1e-4
    )
    assert sample["audio"].max() == pytest.approx(1 / 32768)


def test_video_without_a_track_is_silent_and_keeps_its_clock():
    for sound in (None, MemoryTrack(np.zeros(1), 0.0, np.zeros((0, 2), np.int64), np.zeros(0))):
        sample = reader(augmentation=Augmentation()).read(
            recording(sound=sound), np.arange(4), np.random.default_rng(0)
        )
        assert not sample["audio_mask"].any()
        assert not sample["audio"].any()
        np.testing.assert_allclose(sample["time"], 0.25 + np.arange(4) / 25, atol=1e-4)


def test_augmentation_is_one_draw_for_the_window(crops: Path):
    for frame in range(20):  # the same picture everywhere
        (crops / f"{frame + 1:05d}.jpg").write_bytes((crops / "00001.jpg").read_bytes())
    video = recording(crops, sound=track(np.full(3000, 1000)), missing=[2])
    augmenting = reader(augmentation=Augmentation(noise=0.01))

    def read(seed: int):
        return augmenting.read(video, np.arange(5), np.random.default_rng(seed))

    one, two = read(0), read(1)
    present = one["video"][one["video_mask"]]
    assert (present == present[:1]).all()
    assert not torch.equal(one["video"], two["video"])
    assert not torch.equal(one["audio"], two["audio"])
    assert torch.equal(one["video"], read(0)["video"])
    assert torch.equal(one["audio"], read(0)["audio"])
    assert not one["video"][2].any(), "an absent frame stays zero"
    assert not one["audio"][:4000].any(), "what the track doesn't cover stays zero"
    assert one["audio"][4000:7000].all()
    assert not one["audio"][7000:].any()
    plain = augmenting.read(video, np.arange(5))
    assert not torch.equal(plain["video"], one["video"])


def test_clip_holds_the_longest_window_of_the_lowest_rate():
    times = [np.arange(100) / 25, 3.0 + np.arange(100) / 15, np.arange(10) / 5, np.arange(1) / 1.0]
    span, context = 31, 0.5
    assert clip_samples(times, span, context) == np.ceil(16_000 * (31 / 15 + 2 * context))
    irregular = np.cumsum([0, 0.04, 0.04, 0.08, 0.05, 0.04])
    assert clip_samples([irregular], 2, 0.0) == np.ceil(16_000 * 0.13 - 1e-6) == 2 * 1040
    assert clip_samples([np.zeros(0), np.zeros(1)], 5, 0.25) == 8000


def clocked(times: np.ndarray, sound=None) -> Recording:
    video = recording(num_frames=len(times), sound=sound)
    video.time[:] = times
    return video


def test_a_recording_in_bursts_is_heard_in_every_frame():
    """Four pictures, then a second without: the median interval says nothing of what a window spans."""
    times = np.cumsum(np.tile([1.0, 0.04, 0.04, 0.04], 40))
    video = clocked(times, track(np.ones(16_000 * 60)))
    for window in (64, 8, 160):
        samples = clip_samples([times], window - 1, 0.5)
        whole = reader(num_samples=samples, audio_context=0.5)
        for start in (0, 1, 3, 70):
            frames = np.arange(start, start + window)
            frames = np.where(frames < 160, frames, -1)
            sample = whole.read(video, frames)
            assert sample["audio_mask"].tolist() == (frames >= 0).tolist()
        with pytest.warns(UserWarning, match=r"each window carries [\d.]+ s of sound, since some") as caught:
            warn_of_clips([video], [window], whole)
        assert len(caught) == 1


@pytest.mark.parametrize("hole", [98.0, 3600.0])
def test_hole_in_the_timestamps_does_not_lengthen_every_clip(hole: float):
    times = np.concatenate([np.arange(50) / 25, 2 + hole + np.arange(50) / 25])
    samples = clip_samples([times], 20, 0.0)
    assert samples == pytest.approx(2 * 20 / 25 * 16_000, abs=1)
    video = clocked(times, track(np.ones(round(16_000 * (hole + 10)))))
    clips = reader(num_samples=samples, audio_context=0.0)
    sample = clips.read(video, np.arange(40, 60))
    assert sample["audio_mask"].tolist() == [True] * 10 + [False] * 10
    # Chunks of 20 begin at 0, 20, 40 ...: ten frames of one are lost. Without a track nothing is.
    even = clocked(np.arange(100) / 25, video.sound)
    told = r"the voice of 10 frames of 1 videos counts as absent.*The worst is v, with 10"
    with pytest.warns(UserWarning, match=told):
        warn_of_clips([even, video, clocked(times)], [20] * 3, clips)


def test_nothing_is_told_of_even_clocks(recwarn: pytest.WarningsRecorder):
    videos = [
        recording(num_frames=n, fps=fps, sound=track(np.ones(99_000))) for n, fps in ((100, 25), (1, 5))
    ]
    samples = clip_samples([video.time for video in videos], [39, 19], 0.5)
    assert samples == pytest.approx(16_000 * (39 / 25 + 1), abs=1)
    warn_of_clips(videos, [40, 20], reader(num_samples=samples, audio_context=0.5))
    # Nor where a run asks for more than its short videos do.
    warn_of_clips(videos[1:], [20], reader(num_samples=99 * samples, audio_context=0.5))
    assert not recwarn.list


def test_collate_stacks_tensors_and_lists_the_rest(crops: Path):
    video = recording(crops)
    batch = collate([reader().read(video, np.array([i, i + 1])) for i in range(3)] + [reader().padding(2)])
    assert batch["video"].shape == (4, 2, 3, 112, 112)
    assert batch["video_id"] == ["v", "v", "v", ""]
    assert batch["num_frames"] == [20, 20, 20, 0]
    assert batch["audio_start"] == pytest.approx([-0.25, 0.04 - 0.25, 0.08 - 0.25, 0.0])
    assert (batch["frame"][3] == -1).all()
    assert not batch["video_mask"][3].any()
    assert not batch["audio_mask"][3].any()
