import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.data import DataLoader

from abaw.bugs import own_place, tell_bug
from abaw.postprocess import smooth


def own_module(path: Path, text: str) -> ModuleType:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_innermost_place_of_the_users_own_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own_part.py"
    text = "import torch\n\ndef f():\n    g()\n\ndef g():\n    torch.zeros(2) @ torch.zeros(3)\n"
    module = own_module(path, text)
    with pytest.raises(RuntimeError) as caught:
        module.f()
    told = tell_bug(caught.value)
    assert told.startswith(f"{path}, line 7: RuntimeError: ")
    assert told.endswith("(an error in code of your own; --debug shows the way to it)")
    assert "\n" not in told


def test_so_is_that_of_a_module_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "own_part.py"
    with pytest.raises(SyntaxError) as caught:
        own_module(path, "x = 1\ndef f(:\n")
    assert tell_bug(caught.value).startswith(f"{path}, line 2: SyntaxError: invalid syntax (an error in code")


def test_so_is_that_of_a_loaders_process(tmp_path: Path) -> None:
    path = tmp_path / "own_data.py"
    text = (
        "class Data:\n  def __len__(self):\n    return 2\n  def __getitem__(self, i):\n    return {}['a']\n"
    )
    module = own_module(path, text)
    loader: DataLoader[object] = DataLoader(module.Data(), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(KeyError) as caught:
        next(iter(loader))
    assert own_place(caught.value) == f"{path}, line 5"


def test_a_bug_of_abaw_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # This file is nobody's own here.
    monkeypatch.setattr("abaw.bugs._INSTALLED", (str(Path(__file__).parent),) + _installed())
    with pytest.raises(AttributeError) as caught:
        smooth("no tensor", None)  # type: ignore[arg-type]
    told = tell_bug(caught.value)
    assert "abaw/postprocess/smoothing.py, line " in told
    assert told.endswith("(a bug: please report it, with what --debug shows)")


def _installed() -> tuple[str, ...]:
    from abaw import bugs

    return bugs._INSTALLED


def test_memory_that_does_not_suffice_is_no_bug() -> None:
    told = tell_bug(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB."))
    assert told.startswith("out of memory: take a smaller data.batch_size")
