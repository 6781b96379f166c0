"""A synthetic corpus in Aff-Wild2's layout, to try everything on before the real one is at hand."""

from abaw.synth.corpus import write_corpus

__all__ = ["write_corpus"]
