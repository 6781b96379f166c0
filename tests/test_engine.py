from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from abaw import ExpressionModule
from abaw.data import Batch
from abaw.encoders import ConvVisualEncoder, SoundEncoder
from abaw.encoding import Features
from abaw.engine import VideoAssembler, VideoFeatures, WindowVoter
from abaw.fusion import DualBranchTransformer
from abaw.postprocess import SoftVoting


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


def test_a_videos_own_frame_step_is_kept() -> None:
    features, batch = chunks("v", [[0, 1]], 2)
    (plain,) = VideoAssembler().add(features, batch)
    (own,) = VideoAssembler().add(features, Batch(**batch, frame_step=[2]))
    assert (plain.frame_step, own.frame_step) == (None, 2)
    assert own.without_audio().frame_step == 2


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


def test_padding_before_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="v: padding comes before a frame"):
        list(VideoAssembler().add(*chunks("v", [[0, -1], [1, 2]], 3)))


class Loudness(SoundEncoder):
    """Features without autocast, which the meta device knows nothing of."""

    def __init__(self) -> None:
        super().__init__(out_features=1, span=400, stride=400)

    def encode_sound(self, audio: Tensor) -> Tensor:
        return audio.unfold(1, 400, 400).abs().mean(dim=2, keepdim=True)


@torch.no_grad()
def test_nothing_waits_for_the_device_before_a_video_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device there are no values: whatever asks for one raises."""
    device = torch.device("meta")
    model = ExpressionModule(
        ConvVisualEncoder(8, width=8), Loudness(), DualBranchTransformer(8, 1, 8, dim=8, num_heads=2)
    )
    model = model.to(device).eval()
    batch = chunks("v", [[0, 1], [2, -1]], 3)[1]
    batch["video"] = torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8)
    batch["audio"] = torch.zeros(2, 16000)
    batch = model.transfer_batch_to_device(batch, device, 0)
    (video,) = VideoAssembler().add(model.encode(batch), batch)
    assert (video.visual.device.type, video.visual.shape, len(video.time)) == ("meta", (3, 8), 3)

    waited = []
    finished = torch.zeros(3, 8, device=device), torch.ones(3, dtype=torch.bool, device=device)
    monkeypatch.setattr(SoftVoting, "finish", lambda self: waited.append(self) or finished)
    monkeypatch.setattr(SoftVoting, "num_excluded", 0)
    WindowVoter(window=2, stride=1, batch_size=1).vote(model.fusion, video, num_classes=8)
    assert len(waited) == 1


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
