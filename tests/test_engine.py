from contextlib import nullcontext

import pytest
import torch

from abaw.data import Batch
from abaw.engine import VideoAssembler, VideoFeatures, WindowVoter
from abaw.module import Features


def chunks(name: str, frames: list[list[int]], total: int, start: float = 0.0) -> tuple[Features, Batch]:
    """Chunks whose features say which frame they are of; -1 is padding."""
    frame = torch.tensor(frames)
    value = frame[..., None].float()
    present = frame >= 0
    features = Features(visual=value, audio=-value, video_mask=present, audio_mask=present)
    batch = Batch(
        video_mask=present,
        audio_mask=present,
        time=torch.full(frame.shape, 0.25),
        target=frame % 3,
        frame=frame,
        video_id=[name] * len(frames),
        audio_start=[start + row for row in range(len(frames))],
        num_frames=[total] * len(frames),
    )
    return features, batch


def test_joins_chunks_and_leaves_padding_out() -> None:
    assembler = VideoAssembler()
    assert list(assembler.add(*chunks("v", [[0, 1], [2, 3]], 5))) == []
    (video,) = assembler.add(*chunks("v", [[4, -1]], 5, start=2.0))
    assert (video.video_id, video.num_frames, video.lead) == ("v", 5, 0.25)
    assert video.visual.flatten().tolist() == [0, 1, 2, 3, 4]
    assert video.audio.flatten().tolist() == [0, -1, -2, -3, -4]
    assert video.target.tolist() == [0, 1, 2, 0, 1]
    assert video.time.dtype == torch.float64
    assert video.time.tolist() == [0.25, 0.25, 1.25, 1.25, 2.25]


def test_another_name_ends_a_video_that_was_cut_short() -> None:
    assembler = VideoAssembler()
    assert list(assembler.add(*chunks("v", [[0, 1]], 9))) == []
    videos = list(assembler.add(*chunks("w", [[0, -1]], 1)))
    assert [(video.video_id, video.num_frames) for video in videos] == [("v", 2), ("w", 1)]
    assert list(assembler.flush()) == []


def test_a_video_without_frames_is_no_video() -> None:
    assembler = VideoAssembler()
    assert list(assembler.add(*chunks("", [[-1, -1]], 0))) == []
    assert list(assembler.flush()) == []


def test_chunks_of_two_videos_in_a_batch_are_refused() -> None:
    features, batch = chunks("v", [[0], [1]], 2)
    batch["video_id"] = ["v", "w"]
    with pytest.raises(ValueError, match=r"one video, got \['v', 'w'\]"):
        list(VideoAssembler().add(features, batch))


def test_a_video_without_a_modality() -> None:
    (video,) = VideoAssembler().add(*chunks("v", [[1, 2]], 2))
    silent, blind = video.without_audio(), video.without_video()
    assert not silent.audio_mask.any()
    assert silent.audio.abs().sum() == 0
    assert silent.video_mask.all()
    assert torch.equal(silent.visual, video.visual)
    assert not blind.video_mask.any()
    assert blind.visual.abs().sum() == 0
    assert torch.equal(blind.audio, video.audio)


def test_a_voter_counts_the_votes_that_are_not_finite_of_the_last_video() -> None:
    def head(visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        return visual.masked_fill(visual < 0, torch.nan)

    present, zeros = torch.ones(5, dtype=torch.bool), torch.zeros(5, 1)
    voter = WindowVoter(window=2, stride=1, frame_step=2)
    for visual, excluded in [([1, -1, -1, 1, 1], 3), ([1, 1, 1, -1, 1], 1), ([1, 1, 1, 1, 1], 0)]:
        features = torch.tensor(visual).float()[:, None].repeat(1, 2)
        video = VideoFeatures(
            "v", features, zeros, present, present, torch.arange(5).double(), present.long(), lead=0.0
        )
        # Of frames 0, 2, 4 two windows see frame 2; one sees each of frames 1 and 3.
        with pytest.warns(UserWarning, match="not finite") if excluded else nullcontext():
            voter.vote(head, video, num_classes=2)
        assert voter.num_excluded == excluded
