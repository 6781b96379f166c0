"""What of transformers' configurations makes it fetch code and run it, which nothing here is to do."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from abaw.errors import InputError

# Arguments of loading, no entries of a network: some run code of a repository, others reach elsewhere.
_LOADING: Final = frozenset(
    (
        *(
            "trust_remote_code",
            "code_revision",
            "auto_map",
            "custom_pipelines",
            "use_kernels",
            "kernel_config",
        ),
        *(
            "cache_dir",
            "force_download",
            "local_files_only",
            "proxies",
            "token",
            "use_auth_token",
            "revision",
        ),
        *("subfolder", "gguf_file", "adapter_kwargs", "quantization_config", "backbone_kwargs"),
        *("name_or_path", "return_unused_kwargs"),
    )
)
# All that needs no code but PyTorch's: others come from the hub.
_ATTENTION: Final = (None, "eager", "sdpa", "flex_attention")
_ATTENTION_KEYS: Final = ("attn_implementation", "experts_implementation")


def check_overrides(overrides: Mapping[str, Any] | None) -> None:
    """Refuse overrides that are no entries of a network but tell transformers how to load it.

    Raises:
        InputError: If one is, at any depth.
    """
    for key, value in _entries(overrides or {}):
        name = key.rpartition(".")[2]
        # transformers' own settings begin with an underscore.
        if name in _LOADING or name.startswith("_"):
            raise InputError(
                f"config_overrides: {key} is no entry of the network, but tells how to load it: leave it out"
            )
        if name in _ATTENTION_KEYS:
            _check_attention(f"config_overrides: {key}", value)


def check_config(model_name: str, config: Any) -> None:
    """Refuse a network's configuration that asks for code from elsewhere.

    Args:
        model_name: What it was read from, for the message.
        config: transformers' configuration.

    Raises:
        InputError: If it does; ``auto_map`` is left to ``trust_remote_code=False``.
    """
    for key, value in _entries(config.to_dict()):
        name = key.rpartition(".")[2]
        if name in ("quantization_config", "backbone_kwargs", "trust_remote_code", "use_kernels") and value:
            raise InputError(f"{model_name}: its configuration has {key}, which can fetch code: take another")
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        for name in _ATTENTION_KEYS:
            _check_attention(f"{model_name}: {name}", getattr(part, f"_{name}", None))


def _check_attention(where: str, value: Any) -> None:
    for name in value.values() if isinstance(value, Mapping) else [value]:
        if name not in _ATTENTION:
            raise InputError(
                f"{where} is {name!r}, which can fetch code from the hub; there are "
                f"{', '.join(filter(None, _ATTENTION))}"
            )


def _entries(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All entries of nested dictionaries and lists, inner ones too, with their dotted keys."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            inner = f"{key}.{name}" if key else str(name)
            yield inner, value
            yield from _entries(value, inner)
    elif isinstance(tree, (list, tuple)):
        for number, value in enumerate(tree):
            yield from _entries(value, f"{key}.{number}")
