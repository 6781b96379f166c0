"""What jsonargparse says of a wrong configuration, in one line."""

import re
from typing import Final

from abaw.data.base import WindowDataModule
from abaw.encoders import AudioEncoder, VisualEncoder
from abaw.fusion import FusionHead, ModalityDropout
from abaw.losses import FrameLoss

SLOTS: Final[dict[str, type]] = {
    "model.visual_encoder": VisualEncoder,
    "model.audio_encoder": AudioEncoder,
    "model.fusion": FusionHead,
    "model.loss": FrameLoss,
    "model.modality_dropout": ModalityDropout,
    "data": WindowDataModule,
}
# The types that a value was tried against say nothing beyond the reasons why it fitted none.
_NOISE = re.compile(
    r"(Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Expected a path but|Problem with given class_path|Not a valid subclass of Tensor"
    r"|Subclass types expect one of|a class path \(str\)|a dict with)"
)


def explain(error: Exception) -> str:
    """One line for a parser's error; a wrong class name is answered with the names there are."""
    text = str(error)
    slot = re.search(r"model\.\w+|\bdata\b", text)
    name = re.search(r"Expected a dot import path string: (\S+)", text) or re.search(
        r"module 'abaw\.\w+' has no attribute '(\w+)'", text
    )
    if name and slot and slot[0] in SLOTS:
        kind = SLOTS[slot[0]]
        return (
            f"{slot[0]}: {name[1]} is no {kind.__name__} that can be imported; there are "
            f"{', '.join(class_names(kind))}, or the path of one of your own: module.Class"
        )
    lines = [line.strip(" -\t") for line in text.splitlines()]
    said = " ".join(line for line in lines if line and not _NOISE.match(line)) or " ".join(lines)
    if "arguments are required" in said:
        said += "; give --config FILE, or --run RUN"
    return re.sub(r'^Parser key "(.+?)":', r"\1:", said)


def class_names(kind: type) -> list[str]:
    """Names of the library's own classes that fit a slot."""
    found = {kind, *_subclasses(kind)}
    # Hooks for subclasses are abstract, and so cannot be meant.
    usable = (
        c for c in found if not getattr(c, "__abstractmethods__", None) and c.__module__.startswith("abaw.")
    )
    return sorted(c.__name__ for c in usable)


def _subclasses(kind: type) -> set[type]:
    direct: set[type] = set(kind.__subclasses__())
    return direct.union(*map(_subclasses, direct))
