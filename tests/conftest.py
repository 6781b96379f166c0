"""Fixtures that many tests share: a corpus on disk, and the real clips where they are."""

import os
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log handler keeps the stream of the moment: not a single test's
import pytest
import torch

torch.set_num_threads(1)

CHECKOUT = Path(__file__).parents[1]
REAL = CHECKOUT.parent / "shared" / "real"


@pytest.fixture(autouse=True)
def _checkout_stays_clean() -> Iterator[None]:
    """What a test writes goes into its own folder, never where it could be committed."""
    before = set(os.listdir(CHECKOUT))
    yield
    left = {name for name in set(os.listdir(CHECKOUT)) - before if not name.startswith(".")}
    assert not left, f"left in the checkout: {left}"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus in Aff-Wild2's layout, with every trap."""
    from abaw.synth import write_corpus

    root = tmp_path_factory.mktemp("corpus") / "root"
    write_corpus(root, videos=16, frames=90, seed=0, progress=False)
    return root


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real talking-face clips and of the face detector's weights."""
    if not (REAL / "README.md").is_file():
        pytest.skip(f"the real clips are not there: {REAL}")
    return REAL
