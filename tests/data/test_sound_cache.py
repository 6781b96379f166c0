import os
from pathlib import Path

import numpy as np
import pytest
from aff_wild2_files import write_media
from small import little_room

from abaw.data import sound_cache
from abaw.data.audio import SoundTrack
from abaw.data.sound_cache import open_sounds
from abaw.errors import InputError


def sources(folder: Path, names: str) -> dict[str, Path]:
    for name in names:
        write_media(folder / f"{name}.mp4", num_frames=10, sound=np.zeros(4000 + 1000 * (ord(name) - 97)))
    return {name: folder / f"{name}.mp4" for name in names}


def test_only_what_is_missing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    decoded = []

    def counting(source: Path, cache: Path):
        decoded.append(source.stem)
        return original(source, cache)

    original = sound_cache.cache_sound
    monkeypatch.setattr(sound_cache, "cache_sound", counting)
    raw = sources(tmp_path, "abc")
    cache = tmp_path / "deep" / "cache"
    first = open_sounds(raw, cache, num_threads=2)
    assert list(first) == ["a", "b", "c"]
    assert sorted((path.name[:2], path.suffix) for path in cache.iterdir()) == [
        (f"{name}-", suffix) for name in "abc" for suffix in (".safetensors", ".wav")
    ]
    assert sorted(decoded) == ["a", "b", "c"]
    (entry,) = cache.glob("b-*.safetensors")
    entry.write_bytes(b"broken")
    again = open_sounds(raw, cache, num_threads=2)
    assert sorted(decoded) == ["a", "b", "b", "c"]
    for name in "abc":
        np.testing.assert_array_equal(again[name].spans, first[name].spans)


def pitch(track: SoundTrack) -> float:
    """The frequency of the sound, Hz."""
    samples = track.read(4000, 4000).astype(float)
    return float(np.abs(np.fft.rfft(samples)).argmax() * 16_000 / 4000)


def tone(hertz: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)


def test_two_corpora_share_a_cache_and_neither_hears_the_other(tmp_path: Path):
    cache, files = tmp_path / "cache", {}
    for hertz in (440, 880):
        files[hertz] = tmp_path / f"corpus{hertz}" / "v.mp4"
        files[hertz].parent.mkdir()
        write_media(files[hertz], num_frames=25, sound=tone(hertz))
        os.utime(files[hertz], (1, 1))
    first = open_sounds({"v": files[440]}, cache, 1)["v"]
    second = open_sounds({"v": files[880]}, cache, 1)["v"]
    assert [pitch(first), pitch(second)] == [440, 880]  # the first is still open
    again = open_sounds({"v": files[440]}, cache, 1)["v"]
    assert again.path == first.path != second.path


def test_a_video_that_was_replaced_is_noticed_though_size_and_time_are_the_same(tmp_path: Path):
    source, cache = tmp_path / "v.avi", tmp_path / "cache"
    write_media(source, num_frames=25, sound=tone(440))
    before = open_sounds({"v": source}, cache, 1)["v"]
    old = source.stat()
    write_media(source, num_frames=25, sound=tone(880))
    assert source.stat().st_size == old.st_size  # PCM: as many samples
    os.utime(source, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (source.stat().st_size, source.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    after = open_sounds({"v": source}, cache, 1)["v"]
    assert [pitch(before), pitch(after)] == [440, 880]


@pytest.mark.parametrize("where", ["all", "head", "tail"])
def test_sound_that_a_crash_has_zeroed_is_decoded_again(tmp_path: Path, where: str):
    raw, cache = sources(tmp_path, "a"), tmp_path / "cache"
    write_media(raw["a"], num_frames=25, sound=tone(440))
    track = open_sounds(raw, cache, 1)["a"]
    content = track.path.read_bytes()
    half = len(content) // 2
    spoilt = {
        "all": bytes(len(content)),
        "head": bytes(half) + content[half:],
        "tail": content[:half] + bytes(len(content) - half),
    }
    track.path.write_bytes(spoilt[where])
    again = open_sounds(raw, cache, 1)["a"]
    assert again.path == track.path
    assert track.path.read_bytes() == content


def test_names_as_long_as_a_file_system_takes(tmp_path: Path):
    name = "표정" * 40  # 240 bytes
    write_media(tmp_path / f"{name}.mp4", num_frames=5, sound=tone(440))
    (track,) = open_sounds({name: tmp_path / f"{name}.mp4"}, tmp_path / "cache", 1).values()
    assert track.path.is_file()


def test_a_video_whose_name_is_no_utf8_is_heard(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9")
    write_media(tmp_path / "v.mp4", num_frames=25, sound=tone(440))
    source = (tmp_path / "v.mp4").rename(tmp_path / f"{name}.mp4")
    first = open_sounds({name: source}, tmp_path / "cache", 1)[name]
    assert pitch(first) == 440
    (entry,) = (tmp_path / "cache").glob("*.safetensors")
    written = entry.stat().st_mtime_ns
    assert open_sounds({name: source}, tmp_path / "cache", 1)[name].path == first.path
    assert entry.stat().st_mtime_ns == written, "decoded again"
    with pytest.raises(InputError, match=r"caf\\udce9: is not UTF-8"):
        open_sounds({name: source}, tmp_path / name, 1)


def test_cache_that_is_whole_may_lie_in_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch):
    raw = sources(tmp_path, "a")
    open_sounds(raw, tmp_path / "cache", 1)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert list(open_sounds(raw, tmp_path / "cache", 1)) == ["a"]


def test_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/cache: .*set cache_dir"):
        open_sounds(sources(tmp_path, "a"), tmp_path / "file" / "cache", 1)


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="set cache_dir"):
        open_sounds(sources(tmp_path, "a"), tmp_path / "cache", 1)


@pytest.mark.parametrize("room", [100, 1000])
def test_disk_that_is_full(tmp_path: Path, room: int):
    raw = sources(tmp_path, "a")
    with little_room(room), pytest.raises(InputError, match=r"set cache_dir\. \(.*File too large"):
        open_sounds(raw, tmp_path / "cache", 1)
    assert not list((tmp_path / "cache").glob(".*"))


def test_video_that_cannot_be_read_is_named(tmp_path: Path):
    raw = sources(tmp_path, "ab")
    raw["b"].write_bytes(raw["b"].read_bytes()[:1000])
    with pytest.raises(InputError, match=r"b\.mp4"):
        open_sounds(raw, tmp_path / "cache", 2)


def test_link_to_a_video_that_is_gone_is_named(tmp_path: Path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match=r"a\.mp4: can't be read .*No such file"):
        open_sounds({"a": tmp_path / "a.mp4"}, tmp_path / "cache", 1)
