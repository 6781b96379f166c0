import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from small import little_room

from abaw.files import replacing
from abaw.tensor_file import write_tensors


@pytest.mark.parametrize("tensor", [torch.arange(9), np.arange(9)])
def test_tensors_are_written(tmp_path: Path, tensor: torch.Tensor | np.ndarray):
    path = tmp_path / "new" / "v.safetensors"
    write_tensors(path, {"a": tensor}, {"said": "x"})
    with safe_open(path, "np") as file:
        assert file.metadata() == {"said": "x"}
        np.testing.assert_array_equal(file.get_tensor("a"), np.arange(9))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("tensor", [torch.zeros(10_000), np.zeros(10_000)])
def test_a_full_disk_is_told_with_the_files_name(tmp_path: Path, tensor: torch.Tensor | np.ndarray):
    path = tmp_path / "v.safetensors"
    path.write_text("old")
    with little_room(), pytest.raises(OSError, match="File too large") as caught:
        write_tensors(path, {"a": tensor}, {})
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_so_it_is_of_every_file(tmp_path: Path):
    path = tmp_path / "v.txt"
    with (
        little_room(),
        pytest.raises(OSError, match="File too large") as caught,
        replacing(path) as temporary,
    ):
        temporary.write_text("x" * 10_000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []


def test_what_another_file_is_refused_with_stays(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "v.txt"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")
