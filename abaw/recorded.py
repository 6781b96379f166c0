"""Remembering how an object was made, so that a checkpoint can say it in plain data."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pydoc import locate
from types import MappingProxyType
from typing import Any, cast


class Recorded:
    """Mix-in whose instances remember the arguments they were made with.

    The slots of :class:`~abaw.ExpressionModule` inherit it. Their arguments go into the checkpoint as the
    ``class_path`` and ``init_args`` of a YAML file, so that ``ExpressionModule.load_from_checkpoint(path)``
    builds the same model again whether the command line or plain Python made it.

    Attributes:
        init_args: The arguments given to the constructor, by name; those left at their defaults are not in
        it.
    """

    # What a class without a constructor of its own was made with.
    init_args: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def describe(self) -> dict[str, Any]:
        """How to make this object again: ``{"class_path": …, "init_args": …}``.

        Raises:
            TypeError: If an argument is not plain data (text, numbers, lists and dicts of them, tensors and
                arrays of numbers).
        """
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        init_args = {}
        for argument, value in self.init_args.items():
            # A tensor or an array is told by its numbers.
            init_args[argument] = plain = value.tolist() if hasattr(value, "tolist") else value
            if not _is_plain(plain):
                raise TypeError(f"{name} was made with {argument}={value!r}, which is not plain data")
        return {"class_path": name, "init_args": init_args}


def class_of(spec: Any) -> type:
    """The class that a parsed ``class_path`` names."""
    return cast(type, locate(spec.class_path))


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Recorded, *args: Any, **kwargs: Any) -> None:
        # The outermost constructor is the one that was called; those of base classes leave its record alone.
        # A torch module forbids nothing here: plain attributes may be set before nn.Module.__init__.
        if "init_args" not in vars(self):
            given = dict(signature.bind(self, *args, **kwargs).arguments)
            given.pop(next(iter(signature.parameters)))
            self.init_args = given
        init(self, *args, **kwargs)

    return wrapper


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, (str, int, float, bool))
