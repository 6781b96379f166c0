"""The classes of the challenge and the label that means "not annotated"."""

from typing import Final

EXPRESSIONS: Final = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
"""The 8 expressions in Aff-Wild2's order. A corpus names its own classes in its annotations' header: this
constant is for code without a corpus."""

IGNORE_INDEX: Final = -1
"""The target of a frame that is not annotated, or is padding."""
