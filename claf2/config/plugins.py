"""Section `plugins` of a BaseConfig: the files and modules with components of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claf2.config.schema import parse_value
from claf2.config.source import TEXT, Override
from claf2.errors import ConfigError
from claf2.registry import load_plugin

__all__ = ["load_plugins"]


def load_plugins(named: Any, folder: Path, words: list[Override], given: Sequence[str]) -> list[str]:
    """Load the plug-ins of an experiment, and return them. Paths become absolute, because a finished run is also used
    from other working directories.

    Args:
        named: the section of the BaseConfig. Its files may be given relative to the BaseConfig.
        folder: the folder of the BaseConfig.
        words: the overrides; one of the section replaces ``named``, and is removed here.
        given: further files or modules.

    Raises:
        ConfigError: when the section is not a list of names.
        RegistryError: when a plug-in does not exist or cannot be imported.
    """
    origin = None
    for word in [word for word in words if word.key == "plugins"]:
        words.remove(word)
        named = parse_value(word.text or "", list[str]) if word.value is TEXT else word.value
        folder, origin = Path(), word.origin
    names = named or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError("plugins", f"{named!r:.80} is not a list of names", origin=origin, hint="use --plugin FILE")
    beside = [str(folder / name) if (folder / name).is_file() else name for name in names]
    plugins = [
        str(Path(name).expanduser().absolute()) if name.endswith(".py") else name for name in (*beside, *given)
    ]  # fmt: skip
    for plugin in plugins:
        load_plugin(plugin)
    return list(dict.fromkeys(plugins))
