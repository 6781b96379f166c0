"""What jsonargparse says of a wrong configuration, in one line: where, what, and what there is instead."""

import importlib
import inspect
import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback

from abaw.bugs import own_place, what_is_said
from abaw.data.base import WindowDataModule
from abaw.encoders import AudioEncoder, VisualEncoder
from abaw.errors import InputError, OwnCodeError, did_you_mean
from abaw.fusion import FusionHead, ModalityDropout
from abaw.given import Given
from abaw.losses import FrameLoss

SLOTS: Final[dict[str, type]] = {
    "model.visual_encoder": VisualEncoder,
    "model.audio_encoder": AudioEncoder,
    "model.fusion": FusionHead,
    "model.loss": FrameLoss,
    "model.modality_dropout": ModalityDropout,
    "data": WindowDataModule,
    "trainer.callbacks": Callback,
}
# The types that a value was tried against say nothing beyond the reasons why it fitted none.
_NOISE = re.compile(
    r"(Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Expected a path but|Problem with given class_path|Not a valid subclass of (?!\w+\. Got)"
    r"|Import path \S+ does not correspond|Subclass types expect one of|a class path \(str\)|a dict with"
    r"|Parser key \")"
)


def explain(error: Exception, given: Given | None = None, known: Collection[str] = ()) -> str:
    """One line for a parser's error; a wrong name is answered with the nearest, or with all there are.

    Args:
        error: What the parser raised.
        given: Where the user gave what; ``None`` names no places.
        known: All keys of the command.
    """
    text = _without_alternative(str(error))
    given = given or Given()
    if unknown := re.search(r"does not accept option '(.+?)'", text):
        place = given.place(unknown[1])
        return f"{place}there is no option {unknown[1]}{did_you_mean(unknown[1], known)}"
    if unknown := re.search(r"unrecognized arguments: (\S+)", text):
        return _unknown_argument(unknown[1], known)
    if wrong := re.search(r"Key must be a string, got: (.+)\.", text):
        return (
            f"{given.place_of_name(wrong[1])}the key {wrong[1]} is no name; put it in quotes if it is meant"
        )
    if wrong := re.search(r"Unable to load config '(.*)'", text):
        section = re.findall(r'Parser key "(.+?)":', text)[-1]
        return f"{section}: {wrong[1]} is no file of options; give them one by one: --{section}.NAME VALUE"
    keys = re.findall(r'Parser key "(.+?)":', text)
    key = ".init_args.".join(keys)
    if loss := re.search(r"given class_path 'torch\.nn\.(?:\w+\.)*(\w+)'(?s:.*)subclass of Tensor", text):
        arguments = f"{{loss: {loss[1]}, arguments: {{{keys[-1]}: […]}}}}"
        return (
            f"{given.place(key)}{key}: no configuration holds a tensor: take class_path: "
            f"abaw.losses.TorchLoss and init_args: {arguments}, where lists stand for tensors"
        )
    # Where a slot takes two kinds of classes, what is wrong with one says more than that it isn't the other.
    said = _option_problem(text, key) or (_class_problem(text, key) if len(keys) == 1 else None)
    if said is None:
        said = f"{key}: {_reasons(text)}" if key else _reasons(text)
    else:
        key = said.partition(":")[0]
    value = re.search(r"Got value: (.+?)(?:; |$)", said)
    return f"{given.place(key, value and value[1])}{said}"


def _without_alternative(text: str) -> str:
    """What was said of a loss, without that it is none of torch's, or none of ours where it is torch's."""
    refusal = "Import path \\S+ does not correspond to a subclass of {}\\b"
    kinds = [kind for kind in ("_Loss", "FrameLoss") if re.search(refusal.format(kind), text)]
    return re.sub(f".*{refusal.format(kinds[0])}.*", "", text) if kinds else text


def _unknown_argument(argument: str, known: Collection[str]) -> str:
    name = argument.partition("=")[0]
    if not name.startswith("-"):
        meant = "; options begin with --" + (f", as in --{argument}" if name in known else "")
        return f"{argument} belongs to no option{meant}"
    return f"there is no option {name}{did_you_mean(name, [f'--{key}' for key in known])}"


def _class_problem(text: str, key: str) -> str | None:
    """What is wrong with a class that was named, or with its not being named."""
    kind = next((kind for slot, kind in SLOTS.items() if key == slot or text.startswith(slot)), None)
    if abstract := re.search(r"but (\S+) is abstract", text):
        found = _import(abstract[1])
        if found is None or found is kind:
            return f"{key}: class_path is missing, or names a base class{_there_are(kind)}"
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        return f"{key}: {found.__name__} ({inspect.getsourcefile(found)}) lacks {lacking}"
    if other := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", text):
        return f"{key}: {other[1]} is no {other[2]}{_there_are(kind)}"
    if name := re.search(r"Expected a dot import path string: (\S+)", text):
        what = kind.__name__ if kind else "class"
        return f"{key}: {name[1]} is no {what} that can be imported{_instead(name[1], kind)}"
    if missing := re.search(r"module '(\S+)' has no attribute '(\w+)'", text):
        if kind and missing[1].startswith("abaw."):
            instead = _instead(missing[2], kind)
            return f"{key}: {missing[2]} is no {kind.__name__} that can be imported{instead}"
        module = vars(importlib.import_module(missing[1]))
        return f"{key}: {missing[1]} has no {missing[2]}{did_you_mean(missing[2], module)}"
    if path := re.search(r"Problem with given class_path '(\S+)':\s+(No module named .+)", text):
        return f"{key}: {path[1]} cannot be imported: {path[2]}"
    if value := re.search(r"Not a valid subclass of (\w+)\. Got value: (.+)", text):
        if "'init_args'" in value[2] and "'class_path'" not in value[2]:
            return f"{key}: class_path is missing{_there_are(kind)}"
        return (
            f"{key}: expects a {value[1]}, given by class_path and its arguments under init_args, "
            f"not {value[2]}{_there_are(kind)}"
        )
    return None


def _option_problem(text: str, key: str) -> str | None:
    """What is wrong with the arguments of a class."""
    owner = re.findall(r"Problem with given class_path '(\S+?)'", text)
    found = _import(owner[-1]) if owner else None
    name = found.__name__ if found else "the class"
    if option := re.search(r"Option '(.+?)' is not accepted", text):
        if found in SLOTS.values():  # the parser took the base class for one that wasn't named
            return f"{key}: class_path is missing{_there_are(found)}"
        near = did_you_mean(option[1], _parameters(found)) if found else ""
        return f"{key}.init_args.{option[1]}: {name} has no argument '{option[1]}'{near}"
    if owner and (required := re.search(r"following arguments are required: (.+)", text)):
        first = required[1].partition(",")[0]
        return f"{key}: {name} needs {required[1]}: give --{key}.{first} VALUE, --config FILE, or --run RUN"
    return None


def _reasons(text: str) -> str:
    """What is left of a parser's text when what says nothing is taken out."""
    lines = [line.strip(" -\t") for line in text.splitlines()]
    said = "; ".join(line for line in lines if line and not _NOISE.match(line)) or " ".join(lines)
    if "arguments are required" in said:
        said += "; give --config FILE, or --run RUN"
    value = re.search(r"Given value: (.+)", text)
    if value and "Got value" not in said and re.search(r"Expected an? <class", said):
        said += f". Got value: {value[1]}"
    said = re.sub(r"Expected a typing\.Literal\[(.+?)\]", r"expects one of \1", said)
    return re.sub(r"Expected an? <class '(\w+)'>", r"expects \1", said)


def _there_are(kind: type | None) -> str:
    # Lightning's own are too many for a line.
    if kind is None or not kind.__module__.startswith("abaw."):
        return ""
    return f"; there are {', '.join(class_names(kind))}, or the path of one of your own: module.Class"


def _instead(name: str, kind: type | None) -> str:
    near = did_you_mean(name, class_names(kind)) if kind else ""
    there_are = _there_are(kind)
    return near + (there_are.replace("; t", " T", 1) if near else there_are)


def _import(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) else None


def _parameters(kind: type) -> list[str]:
    constructors = (vars(base).get("__init__") for base in kind.__mro__[:-1])
    return sorted({name for init in constructors if init for name in inspect.signature(init).parameters})


def explain_constructor(
    error: Exception, config: Namespace, fixed: Mapping[str, type], given: Given
) -> Exception:
    """What to raise where the making of a part failed: with its key, its class, and the place if it is own.

    Args:
        error: What its constructor raised. A ``ValueError`` means that it refuses an argument; an
            ``InputError`` that begins with an argument's name gets its key.
        config: The command's whole configuration.
        fixed: The sections whose class is not chosen.
        given: Where the user gave what.
    """
    wrapped = ("Problem with given class_path", "Call to compute_fn of link")
    while isinstance(error.__cause__, Exception) and str(error).startswith(wrapped):
        error = error.__cause__  # the parser's word on what a constructor raised
    key, kind = _being_made(error, config, fixed)
    refused = isinstance(error, (ValueError, MisconfigurationException))
    said = " ".join(str(error).split())
    place = own_place(error)
    if kind is None:
        return InputError(said) if refused else error
    if refused:
        taken = _parameters(kind)
        if isinstance(error, InputError) and said.partition(" ")[0] not in taken:
            return error
        argument = next((word for word in re.findall(r"\w+", said) if word in taken), None)
        full = ".".join(filter(None, (key, "" if key in fixed or not argument else "init_args", argument)))
        own = f" ({kind.__name__}, {place})" if place else ""
        return InputError(f"{given.place(full)}{full}: {said}{own}")
    if place:
        return OwnCodeError(
            f"{given.place(key)}{key}: {kind.__name__} cannot be made: {what_is_said(error)} ({place}; "
            "--debug shows the way to it)"
        )
    return error


def _being_made(error: Exception, config: Namespace, fixed: Mapping[str, type]) -> tuple[str, type | None]:
    """The key and the class of the innermost part in whose constructor an error arose."""
    asked = {kind: key for key, kind in fixed.items()}
    for key, path in _class_paths(config, ""):
        if kind := _import(path):
            asked[kind] = key
    found: tuple[str, type | None] = "", None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        made = type(frame.f_locals.get("self"))
        if made in asked:
            found = asked[made], made
    return found


def _class_paths(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every class that a configuration names, with the key of the part that it is for."""
    if isinstance(value, list):
        for item in value:
            yield from _class_paths(item, key)
    elif isinstance(value, Namespace):
        if isinstance(path := value.get("class_path"), str):
            yield key, path
        for name, nested in vars(value).items():
            yield from _class_paths(nested, f"{key}.{name}" if key else name)


def class_names(kind: type) -> list[str]:
    """Names of the classes of the library, and of Lightning, that fit a slot."""
    found = {kind, *_subclasses(kind)}
    # Hooks for subclasses are abstract, and so cannot be meant.
    usable = (
        c
        for c in found
        if not getattr(c, "__abstractmethods__", None) and c.__module__.startswith(("abaw.", "lightning."))
    )
    return sorted(c.__name__ for c in usable)


def _subclasses(kind: type) -> set[type]:
    direct: set[type] = set(kind.__subclasses__())
    return direct.union(*map(_subclasses, direct))
