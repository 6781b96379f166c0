"""Tiny corpora in Aff-Wild2's layout."""

from pathlib import Path

import pytest
from aff_wild2_files import Corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """An empty corpus."""
    return Corpus(tmp_path / "corpus")


@pytest.fixture
def small_corpus(corpus: Corpus) -> Corpus:
    """Three training videos, two of them persons of one raw video, and two to validate on."""
    corpus.add("a", [0, 1, 2, 3, 4] * 8, missing=[3, 4])
    corpus.add("b_left", [1] * 30 + [-1] * 5, raw="batch2/b.mp4")
    corpus.add("b_right", [2] * 35, raw="")
    corpus.add("c", [5, 6, 7] * 9, split="Validation_Set", crops="cropped_aligned_new_50_vids")
    corpus.add("d", [0] * 50, split="Validation_Set", raw="new_vids/d.avi")
    return corpus
