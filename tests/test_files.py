from pathlib import Path

import pytest

from abaw.errors import InputError
from abaw.files import expand, is_stray, make_writable, replacing, visible


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}: is a folder"), replacing(tmp_path):
        raise AssertionError("nothing is to be written")


def test_a_folder_is_made_and_the_probe_leaves_nothing(tmp_path):
    for _ in range(2):
        make_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    # A folder that even the superuser cannot write to.
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/self")):
        with pytest.raises(InputError, match=f"^{folder}: cannot be written"):
            make_writable(folder)


def test_what_systems_leave_in_a_folder_is_not_seen(tmp_path):
    strays = [".DS_Store", "._v.txt", "Thumbs.db", "thumbs.db", "Desktop.ini", "@eaDir", "__MACOSX", ".git"]
    for name in ("b.txt", "A.TXT", "c", *strays):
        (tmp_path / name).touch()
    assert visible(tmp_path) == [tmp_path / name for name in ("A.TXT", "b.txt", "c")]
    assert visible(tmp_path, ".txt") == [tmp_path / "A.TXT", tmp_path / "b.txt"]
    assert visible(tmp_path / "nowhere") == []
    assert not any(map(is_stray, ("v.txt", "x.DS_Store", "my@eaDir", "v..txt")))


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/corpus") == tmp_path / "corpus"
    assert expand(tmp_path / "~") == tmp_path / "~"
    with pytest.raises(InputError, match="~nobody-at-all/x: nobody here has that home folder"):
        expand("~nobody-at-all/x")
