import pytest
import torch.distributed as dist

from abaw.data.samplers import VideoShardSampler, WindowSampler


class Chunks:
    """As much of a `ChunkDataset` as the sampler sees: ten frames a batch."""

    def __init__(self, num_frames: list[int]) -> None:
        self.num_frames = num_frames

    def __len__(self) -> int:
        return sum(-(-n // 10) for n in self.num_frames)

    def batches_of(self, video: int) -> range:
        first = sum(-(-n // 10) for n in self.num_frames[:video])
        return range(first, first - (-self.num_frames[video] // 10))


def test_windows_carry_their_epoch():
    sampler = WindowSampler(list(range(20)), seed=3)
    assert len(sampler) == 20
    first = list(sampler)
    assert [epoch for epoch, _ in first] == [0] * 20
    assert sorted(index for _, index in first) == list(range(20))
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [epoch for epoch, _ in second] == [1] * 20
    assert [index for _, index in second] != [index for _, index in first]
    other = [index for _, index in WindowSampler(list(range(20)), seed=4)]
    assert other != [index for _, index in first]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_windows_in_equal_numbers(ranks: int):
    shares = [list(WindowSampler(list(range(20)), num_replicas=ranks, rank=rank)) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert {index for share in shares for _, index in share} == set(range(20))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 6])
def test_videos_are_whole_and_every_batch_comes_once(ranks: int):
    dataset = Chunks([95, 10, 33, 200, 7])
    shares = [list(VideoShardSampler(dataset, num_replicas=ranks, rank=rank)) for rank in range(ranks)]
    for rank, share in enumerate(shares):
        assert len(VideoShardSampler(dataset, num_replicas=ranks, rank=rank)) == len(share)
    batches = [index for share in shares for index in share if index is not None]
    assert sorted(batches) == list(range(len(dataset)))
    for video in range(5):
        owners = [share for share in shares if set(dataset.batches_of(video)) & set(share)]
        assert len(owners) == 1
        start = owners[0].index(dataset.batches_of(video)[0])
        assert owners[0][start : start + len(dataset.batches_of(video))] == list(dataset.batches_of(video))


def test_process_without_a_video_has_one_batch_without_frames():
    shares = [list(VideoShardSampler(Chunks([20, 5]), num_replicas=4, rank=rank)) for rank in range(4)]
    assert shares == [[0, 1], [2], [None], [None]]


def test_videos_are_shared_out_by_length():
    dataset = Chunks([100, 100, 100, 300])
    shares = [list(VideoShardSampler(dataset, num_replicas=2, rank=rank)) for rank in range(2)]
    assert [len(share) for share in shares] == [30, 30]


def test_running_processes_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    assert list(VideoShardSampler(Chunks([20, 10]))) == [2]
    assert len(list(WindowSampler([0, 1, 2, 3]))) == 2
