import inspect
import pickle
from abc import ABC

import numpy as np
import pytest
import torch
from torch import nn

from abaw.recorded import Recorded


class Base(Recorded, nn.Module, ABC):
    def __init__(self, size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)


class Child(Base):
    """Its arguments are not those of its base."""

    def __init__(self, names: list[str], *, deep: bool = False) -> None:
        super().__init__(len(names), scale=2.0)


class GrandChild(Child):
    pass


def test_remembers_what_was_given_by_name() -> None:
    assert Base(3).init_args == {"size": 3}
    assert Base(scale=0.5, size=2).init_args == {"size": 2, "scale": 0.5}


def test_remembers_the_outermost_constructor() -> None:
    assert Child(["a", "b"], deep=True).init_args == {"names": ["a", "b"], "deep": True}
    assert GrandChild(["a"]).init_args == {"names": ["a"]}


class Plain(Recorded, nn.Module):
    pass


def test_a_class_without_a_constructor_was_made_with_nothing() -> None:
    assert Plain().describe() == {"class_path": f"{__name__}.Plain", "init_args": {}}


def test_describes_itself_as_a_yaml_slot() -> None:
    described = GrandChild(["a"]).describe()
    assert described == {"class_path": f"{__name__}.GrandChild", "init_args": {"names": ["a"]}}


def test_describes_tensors_and_arrays_by_their_numbers() -> None:
    described = Child(torch.tensor([1.0, 2.5])).describe()  # type: ignore[arg-type]
    assert described["init_args"] == {"names": [1.0, 2.5]}
    assert Base(np.int64(3)).describe()["init_args"] == {"size": 3}  # type: ignore[arg-type]


def test_refuses_to_describe_live_objects() -> None:
    with pytest.raises(TypeError, match=r"names=.*not plain data"):
        Child([nn.Linear(1, 1)]).describe()  # type: ignore[list-item]


def test_signature_stays_readable() -> None:
    assert list(inspect.signature(Child).parameters) == ["names", "deep"]


def test_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(Base(3))).init_args == {"size": 3}
