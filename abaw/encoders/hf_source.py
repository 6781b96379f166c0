"""Where a network of transformers comes from: a folder, the hub, or a checkpoint of this library."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abaw.encoders.kept import kept_of
from abaw.errors import InputError

OLDEST: Final = (5, 17)
"""The oldest transformers that this library runs on; the extra ``pretrained`` asks for it."""

_HUB_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""A name on the hub: "owner/name", or of old a single word."""


@dataclass(frozen=True)
class Source:
    """Where to look for a network's files.

    Attributes:
        name: What transformers is asked for: a folder, or a name on the hub.
        made_from: The arguments that settle the network: ``model_name``, ``config_overrides`` and, where it
            is pinned, ``revision``.
        here_only: Whether nothing but this machine's files is looked at.
        is_out_of_reach: Whether that is because the hub does not answer.
        kept: What a checkpoint keeps of the network; no file is then read.
    """

    name: str
    made_from: Mapping[str, Any]
    here_only: bool = True
    is_out_of_reach: bool = False
    kept: Mapping[str, Any] | None = None

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Entries of the configuration that are changed."""
        overrides: Mapping[str, Any] = self.made_from["config_overrides"]
        return overrides

    @property
    def revision(self) -> str:
        """The commit, branch or tag on the hub."""
        revision: str = self.made_from.get("revision", "main")
        return revision


def find_source(model_name: str, overrides: Mapping[str, Any] | None, revision: str | None = None) -> Source:
    """Say where the files of a network are, without waiting for a network that is not there.

    Args:
        model_name: A name on the hub or a folder.
        overrides: Entries of its configuration to change; with a ``model_type`` no file is needed.
        revision: The commit, branch or tag on the hub; the name's newest if it is not said.

    Raises:
        InputError: The folder is not there, or transformers is not, or is too old; or a revision is asked for
            of what is not from the hub.
    """
    _check_transformers()
    made_from: dict[str, Any] = {"model_name": model_name, "config_overrides": dict(overrides or {})}
    if revision is not None:  # checkpoints of before it could be said have no such entry
        made_from["revision"] = revision
        if "model_type" in (overrides or {}) or Path(model_name).expanduser().is_dir():
            raise InputError(
                f"revision {revision!r} is one of the hub, but {model_name!r} is not taken from there: leave "
                "revision out"
            )
    if "model_type" in (overrides or {}):
        return Source(model_name, made_from)
    if kept := kept_of(made_from):
        return Source(model_name, made_from, kept=kept)
    folder = Path(model_name).expanduser()
    if folder.is_dir():
        return Source(str(folder), made_from)
    if folder.exists():
        raise refusal(model_name, "it is a file")
    if model_name.startswith((".", "~")) or not _HUB_NAME.fullmatch(model_name):
        raise refusal(model_name, "there is no such folder")
    if "/" in model_name and folder.parent.is_dir() and not _in_cache(model_name, revision):
        raise refusal(
            model_name,
            f"the folder {folder.parent} is here, without a {folder.name} in it (if a network on the hub is "
            f"meant, say 'hf download {model_name}' first)",
        )
    answers = _hub_answers()
    return Source(model_name, made_from, here_only=not answers, is_out_of_reach=not answers)


def refusal(model_name: str, reason: str) -> InputError:
    """The line that an encoder which cannot be loaded is refused with."""
    return InputError(
        f"cannot load the encoder {model_name!r}: {reason}. Give a folder with config.json and weights, "
        "a hub name that can be reached, or pretrained=False and config_overrides with a model_type"
    )


def _check_transformers() -> None:
    wanted = ".".join(map(str, OLDEST))
    try:
        import huggingface_hub  # noqa: F401
        import transformers
    except ImportError as error:
        raise InputError(
            f"pretrained encoders need transformers {wanted} or later, which is not installed: "
            "pip install 'abaw[pretrained]'"
        ) from error
    if tuple(map(int, transformers.__version__.split(".")[:2])) < OLDEST:
        raise InputError(
            f"pretrained encoders need transformers {wanted} or later, and {transformers.__version__} is "
            "installed: pip install 'abaw[pretrained]'"
        )


def commit_of(source: Source) -> str | None:
    """The commit that a network's configuration was read of; None where it is not from the hub."""
    if Path(source.name).is_dir():
        return None
    cached = _in_cache(source.name, source.revision)
    return None if cached is None else cached.parent.name


def _in_cache(model_name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model_name, "config.json", revision=revision)
    return Path(found) if isinstance(found, str) else None


def _hub_answers() -> bool:
    """Ask the hub once: its client, left alone, asks six times for each file, with pauses."""
    import httpx
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except (OSError, httpx.HTTPError):
        return False
    return True
