"""jsonargparse's parser, reading files as the rest of the library does."""

from typing import Any, Final

import yaml
from jsonargparse import get_loader, set_loader
from jsonargparse.typing import Path_fr
from lightning.pytorch.cli import LightningArgumentParser

from abaw.files import expand
from abaw.yaml_files import parse_yaml, text_of

_default: Final = get_loader("yaml")


class ConfigParser(LightningArgumentParser):
    """Reads configuration files as UTF-8, whatever the locale is, and a name with a colon as a name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_loader("yaml", _load, exceptions=(yaml.YAMLError,))

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file, from whose folder the paths in it are seen."""
        whole = expand(path).absolute()
        with Path_fr(whole).relative_path_context():
            return self.parse_string(f"{text_of(whole)}\n", str(whole), *args, **kwargs)


def _load(text: str) -> Any:
    try:
        value = _default(text)
    except UnicodeEncodeError:  # bytes that are no UTF-8, as they were typed
        return text
    except yaml.YAMLError:
        # libyaml knows no lone surrogates, by which the parser dumps such bytes.
        if "\\uD" in text:
            return parse_yaml(text)
        raise
    # `Interview: part 1` is a name; a mapping of one line is typed in braces.
    one_line = "\n" not in text and not text.lstrip().startswith(("{", "class_path:"))
    return text if isinstance(value, dict) and one_line else value
