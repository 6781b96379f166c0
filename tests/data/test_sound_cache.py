from pathlib import Path

import numpy as np
import pytest
from aff_wild2_files import write_media

from abaw.data import sound_cache
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
    assert sorted(path.name for path in cache.iterdir()) == [
        f"{name}.{suffix}" for name in "abc" for suffix in ("safetensors", "wav")
    ]
    assert sorted(decoded) == ["a", "b", "c"]
    (cache / "b.safetensors").write_bytes(b"broken")
    again = open_sounds(raw, cache, num_threads=2)
    assert sorted(decoded) == ["a", "b", "b", "c"]
    for name in "abc":
        np.testing.assert_array_equal(again[name].spans, first[name].spans)


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


def test_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("abaw.data.audio.save_file", full)
    with pytest.raises(InputError, match=r"set cache_dir\. \(No space left"):
        open_sounds(sources(tmp_path, "a"), tmp_path / "cache", 1)


def test_video_that_cannot_be_read_is_named(tmp_path: Path):
    raw = sources(tmp_path, "ab")
    raw["b"].write_bytes(raw["b"].read_bytes()[:1000])
    with pytest.raises(InputError, match=r"b\.mp4"):
        open_sounds(raw, tmp_path / "cache", 2)


def test_link_to_a_video_that_is_gone_is_named(tmp_path: Path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match=r"a\.mp4: can't be read .*No such file"):
        open_sounds({"a": tmp_path / "a.mp4"}, tmp_path / "cache", 1)
