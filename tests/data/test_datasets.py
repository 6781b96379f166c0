from pathlib import Path

import numpy as np
import pytest
import torch
from aff_wild2_files import shade
from torch.utils.data import DataLoader, SequentialSampler

from abaw.data.augment import Augmentation
from abaw.data.crops import CropFiles, list_crops
from abaw.data.datasets import ChunkDataset, Loader, WindowDataset, WindowLoader
from abaw.data.samplers import VideoShardSampler, WindowSampler
from abaw.data.windows import Recording, WindowReader, collate
from abaw.errors import InputError


def recording(name: str, target, crops: Path | None = None) -> Recording:
    return Recording(
        video_id=name,
        target=np.array(target),
        time=np.arange(len(target)) / 25,
        crops=list_crops(crops).of(len(target)) if crops else CropFiles.none(len(target)),
        sound=None,
        broken=torch.zeros(len(target), dtype=torch.bool).share_memory_(),
    )


READER = WindowReader(num_samples=160, image_size=8, audio_context=0.0)


def windows(*lengths: int, **arguments) -> WindowDataset:
    videos = [recording(f"v{n}", np.arange(length) % 8) for n, length in enumerate(lengths)]
    return WindowDataset(videos, READER, **{"window": 8} | arguments)


def drawn(dataset: WindowDataset, epochs: int) -> list[tuple[str, list[int]]]:
    samples = (dataset[(epoch, index)] for epoch in range(epochs) for index in range(len(dataset)))
    return [(sample["video_id"], sample["frame"].tolist()) for sample in samples]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, 5 + 1 + 1), ({"frame_step": 2}, 3 + 1 + 1), ({"stride": 4}, 10 + 2 + 1), ({"stride": 100}, 3)],
)
def test_an_epoch_has_a_window_for_each_stride_of_each_video(arguments: dict, expected: int):
    assert len(windows(40, 8, 3, **arguments)) == expected


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 15, 16, 17, 22, 23, 24, 60])
@pytest.mark.parametrize("balanced", [False, True])
def test_windows_are_whole_and_every_frame_is_reached(length: int, step: int, balanced: bool):
    dataset = windows(length, frame_step=step, balanced=balanced)
    seen = set()
    for _, frames in drawn(dataset, epochs=600 // len(dataset)):
        present = [frame for frame in frames if frame >= 0]
        assert frames == present + [-1] * (8 - len(present))
        assert np.all(np.diff(present) == step)
        if length >= 7 * step + 1 and (length - 7 * step >= step):
            assert len(present) == 8, "a window that fits is not padded"
        seen |= set(present)
    assert seen == set(range(length))


def test_starts_are_uniform():
    starts = [frames[0] for _, frames in drawn(windows(17), epochs=1500)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    assert np.abs(counts / len(starts) - 0.1).max() < 0.02


def test_windows_are_a_function_of_seed_epoch_and_index():
    one, other = windows(200, 90), windows(200, 90, seed=1)
    assert drawn(one, 2) == drawn(windows(200, 90), 2)
    assert drawn(one, 1) != drawn(other, 1)
    epochs = drawn(one, 2)
    assert epochs[: len(one)] != epochs[len(one) :]
    assert one[3]["frame"].tolist() == one[(0, 3)]["frame"].tolist()


def test_balanced_windows_draw_classes_alike():
    # Class 5 is one frame in 400, some frames are not annotated, and classes 1 to 4 don't occur.
    rare = np.zeros(399, dtype=int)
    rare[100:150] = -1
    rare[200] = 5
    dataset = WindowDataset(
        [recording("a", rare), recording("b", np.full(100, 7))], READER, window=8, balanced=True, stride=1
    )
    targets = torch.stack([dataset[(epoch, 0)]["target"] for epoch in range(3000)])
    assert (targets == 5).any(dim=1).float().mean() == pytest.approx(1 / 3, abs=0.03)
    assert (targets == 7).any(dim=1).float().mean() == pytest.approx(1 / 3, abs=0.03)
    # The drawn frame is anywhere in the window.
    places = np.bincount((targets == 5).nonzero()[:, 1], minlength=8) / (targets == 5).sum().item()
    np.testing.assert_allclose(places, 1 / 8, atol=0.03)


def test_number_of_workers_changes_nothing():
    def batches(num_workers: int) -> list[dict]:
        dataset = windows(100, 50, 7)
        dataset.reader = WindowReader(160, 8, 0.0, Augmentation())
        sampler = WindowSampler(dataset)
        loader = Loader(
            dataset,
            batch_size=4,
            sampler=sampler,
            collate_fn=collate,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )
        found = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            found += list(loader)
        return found

    none, two = batches(0), batches(2)
    assert len(none) == len(two) == 2 * 6
    for one, other in zip(none, two, strict=True):
        assert one["video_id"] == other["video_id"]
        assert torch.equal(one["frame"], other["frame"])
    half = len(none) // 2
    assert any(not torch.equal(a["frame"], b["frame"]) for a, b in zip(none[:half], none[half:], strict=True))


@pytest.mark.parametrize("batch_size", [1, 2, 7])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_chunks_hold_every_frame_once_and_in_order(batch_size: int, ranks: int):
    lengths = {"a": 20, "b": 1, "c": 8, "d": 33}
    videos = [recording(name, np.arange(length) % 8) for name, length in lengths.items()]
    dataset = ChunkDataset(videos, READER, chunk=8, batch_size=batch_size)
    found: dict[str, list[int]] = {name: [] for name in lengths}
    for rank in range(ranks):
        sampler = VideoShardSampler(dataset, num_replicas=ranks, rank=rank)
        for batch in DataLoader(dataset, batch_size=None, sampler=sampler):
            if batch["num_frames"] == [0]:
                assert (batch["frame"] == -1).all()
                continue
            (name,) = set(batch["video_id"])
            assert len(batch["video_id"]) <= batch_size
            assert batch["num_frames"] == [lengths[name]] * len(batch["video_id"])
            assert batch["frame"].shape == (len(batch["video_id"]), 8)
            frames = batch["frame"].flatten()
            real = frames[frames >= 0]
            assert torch.equal(frames[: len(real)], real), "padding comes last"
            np.testing.assert_allclose(
                np.array(batch["audio_start"])[:, None] + batch["time"].numpy(),
                np.where(batch["frame"] >= 0, batch["frame"] / 25, np.array(batch["audio_start"])[:, None]),
                atol=1e-6,
            )
            assert torch.equal(batch["target"].flatten()[: len(real)], real % 8)
            found[name] += real.tolist()
    assert found == {name: list(range(length)) for name, length in lengths.items()}


def test_windows_are_augmented_and_chunks_are_not(corpus):
    corpus.add_crops("a", range(16))
    videos = [recording("a", np.zeros(16, int), crops=corpus.root / "cropped_aligned/a")]
    augmenting = WindowReader(160, 112, 0.0, Augmentation(flip=1))
    chunks = ChunkDataset(videos, augmenting, chunk=16, batch_size=1)[0]["video"]
    window = WindowDataset(videos, augmenting, window=16)[0]["video"]
    # The left half is bright.
    assert (chunks[0, 1:, :, :, :50].float().mean() - chunks[0, 1:, :, :, 62:].float().mean()) > 30
    assert (window[1:, :, :, :40].float().mean() - window[1:, :, :, 72:].float().mean()) < -20


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_crops_are_told_once_with_their_number(corpus, num_workers: int):
    corpus.add_crops("a", range(24))
    corpus.add_crops("b", range(8))
    for path in ("a/00003.jpg", "a/00020.jpg", "b/00008.jpg"):
        (corpus.root / "cropped_aligned" / path).write_bytes(b"broken")
    videos = [
        recording(name, np.zeros(n, int), crops=corpus.root / "cropped_aligned" / name)
        for name, n in (("a", 24), ("b", 8))
    ]
    dataset = ChunkDataset(videos, READER, chunk=8, batch_size=2)
    loader = Loader(dataset, batch_size=None, sampler=VideoShardSampler(dataset), num_workers=num_workers)
    with pytest.warns(UserWarning, match=r"3 crops of 2 videos can't be read") as caught:
        batches = list(loader) + list(loader)
    assert len(caught) == 1
    assert sum(int(batch["video_mask"].sum()) for batch in batches) == 2 * (32 - 3)
    assert batches[0]["video"][0, 4, 0, :, 0].float().mean() == pytest.approx(shade(4), abs=3)


def test_unreadable_crops_that_are_found_later_are_told_with_the_rest(corpus):
    corpus.add_crops("a", range(24))
    folder = corpus.root / "cropped_aligned/a"
    (folder / "00003.jpg").write_bytes(b"broken")
    dataset = ChunkDataset([recording("a", np.zeros(24, int), crops=folder)], READER, chunk=8, batch_size=2)
    loader = Loader(dataset, batch_size=None, sampler=VideoShardSampler(dataset))
    with pytest.warns(UserWarning, match="1 crops of 1 videos") as caught:
        list(loader)
    (folder / "00020.jpg").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="2 crops of 1 videos") as caught:
        list(loader) + list(loader)
    assert len(caught) == 1


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    "error",
    [InputError("/v.safetensors: is damaged; remove it"), FileNotFoundError(2, "No such file", "/v.jpg")],
)
def test_what_is_wrong_with_a_file_is_one_line_whoever_reads(num_workers: int, error: Exception):
    class Broken(WindowReader):
        def read(self, *args, **kwargs):
            raise error

    dataset = ChunkDataset([recording("a", np.zeros(24, int))], Broken(160, 8, 0.0), chunk=8, batch_size=2)
    loader = Loader(
        dataset,
        batch_size=None,
        sampler=VideoShardSampler(dataset),
        num_workers=num_workers,
        timeout=60 * num_workers,
    )
    with pytest.raises(type(error)) as caught:
        list(loader)
    assert str(caught.value) == str(error)


class Counting(WindowDataset):
    """Writes down which windows are read."""

    def __getitem__(self, key):
        self.read = [*getattr(self, "read", []), key]
        return super().__getitem__(key)


def window_loader(epoch: int = 0) -> WindowLoader:
    dataset = Counting([recording("v", np.zeros(80))], READER, window=8)
    sampler = WindowSampler(dataset)
    sampler.set_epoch(epoch)
    return WindowLoader(dataset, batch_size=3, sampler=sampler, collate_fn=collate)


def test_a_restored_loader_reads_only_what_is_left_of_the_epoch():
    order = list(window_loader(1).sampler)
    loader = window_loader(1)
    batches = iter(loader)
    next(batches), next(batches)
    state = loader.state_dict()
    assert state == {"epoch": 1, "batches": 2}

    restored = window_loader(1)
    restored.load_state_dict(state)
    assert restored.state_dict() == state
    assert len(restored) == 4
    assert len(list(restored)) == 2
    assert restored.dataset.read == order[6:]
    assert restored.state_dict() == {"epoch": 1, "batches": 4}
    assert len(list(restored)) == 4, "the iteration after that is whole"


@pytest.mark.parametrize("state", [{"epoch": 1, "batches": 4}, {"epoch": 0, "batches": 2}])
def test_a_loader_restored_at_the_end_of_an_epoch_skips_nothing(state: dict[str, int]):
    loader = window_loader(1)
    loader.load_state_dict(state)
    assert len(list(loader)) == 4


def test_a_loader_takes_the_sampler_of_a_trainer_that_overfits():
    dataset = windows(80)
    loader = WindowLoader(dataset, batch_size=3, sampler=SequentialSampler(dataset), collate_fn=collate)
    assert len(list(loader)) == 4


def test_nothing_is_told_where_nothing_is_broken(recwarn: pytest.WarningsRecorder):
    dataset = windows(16)
    list(Loader(dataset, batch_size=2, sampler=WindowSampler(dataset), collate_fn=collate))
    assert not recwarn.list


def test_each_video_can_have_a_frame_step_of_its_own():
    videos = [recording("slow", np.zeros(40)), recording("fast", np.zeros(83))]
    for balanced in (False, True):
        dataset = WindowDataset(videos, READER, window=8, frame_step=[1, 2], balanced=balanced)
        assert len(dataset) == 5 + 6
        seen: dict[str, set[int]] = {"slow": set(), "fast": set()}
        for name, frames in drawn(dataset, epochs=300):
            present = [frame for frame in frames if frame >= 0]
            assert set(np.diff(present)) == {1 if name == "slow" else 2}
            seen[name] |= set(present)
        assert seen == {"slow": set(range(40)), "fast": set(range(83))}
    chunks = ChunkDataset(videos, READER, chunk=8, batch_size=2, frame_steps=[1, 2])
    assert len(chunks) == 3 + 3
    found: dict[str, list[int]] = {"slow": [], "fast": []}
    for index in range(len(chunks)):
        batch = chunks[index]
        (name,) = set(batch["video_id"])
        step = 1 if name == "slow" else 2
        assert batch["frame_step"] == [step] * len(batch["video_id"])
        assert batch["frame"].shape[1] == 8 * step
        frames = batch["frame"].flatten()
        found[name] += frames[frames >= 0].tolist()
    assert found == {"slow": list(range(40)), "fast": list(range(83))}
    assert "frame_step" not in ChunkDataset(videos, READER, chunk=8, batch_size=2)[0]
