"""Name → component. A family's members are found when a name is first asked for: the order of imports cannot matter."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from claf2.errors import RegistryError, nearest

ENTRY_POINTS = "claf2.plugins"
"""The entry point group through which an installed package brings components."""

T = TypeVar("T")


class Component(BaseModel):
    """A frozen description of one part of an experiment: its fields are its schema, and a member adds one verb."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)


def varies(default: Any = ..., **constraints: Any) -> Any:
    """Declare a field that a fair comparison may vary (path, model, device): it stays out of the recipe digest."""
    return Field(default, json_schema_extra={"recipe": False}, **constraints)


class Registry(Generic[T]):
    """The members of one family by name.

    Args:
        kind: what a member is called in messages, e.g. ``"reader"``.
        home: the module, or the package with all its modules, that is imported at the first look-up; ``None`` where
            members live beside the registry.
    """

    def __init__(self, kind: str, home: str | None = None) -> None:
        self.kind = kind
        self._home = home
        self._members: dict[str, T] = {}
        self._origins: dict[str, str] = {}

    def register(self, name: str, *aliases: str) -> Callable[[T], T]:
        """Return a decorator that files a member under ``name`` and its ``aliases``.

        Raises:
            RegistryError: when another member already owns one of the names.
        """

        def decorate(member: T) -> T:
            for each in (name, *aliases):
                self.add(each, member, origin=_origin(member))
            return member

        return decorate

    def add(self, name: str, member: T, *, origin: str) -> None:
        """File ``member`` under ``name``; adding the same thing again is allowed, a second owner is not."""
        if name in self._members and self._origins[name] != origin:
            raise RegistryError(
                f"{self.kind} {name!r} is registered twice: by {self._origins[name]} and by {origin}; rename one"
            )
        self._members[name] = member
        self._origins[name] = origin

    def get(self, name: str) -> T:
        """Return the member called ``name``.

        Raises:
            RegistryError: when there is none; the message names the nearest ones.
        """
        self.discover()
        if name not in self._members:
            raise RegistryError(
                f"{self.kind} {name!r} is not registered; {nearest(name, self._members)} "
                "(a component of your own is brought in with --plugin FILE)"
            )
        return self._members[name]

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self.discover()
        return sorted(self._members)

    def name_of(self, member: T) -> str:
        """Return the first name under which ``member`` was registered."""
        self.discover()
        return next(name for name, each in self._members.items() if each is member)

    def origin(self, name: str) -> str:
        """Return the module that registered ``name``."""
        self.get(name)
        return self._origins[name]

    def discover(self) -> None:
        """Import the family's own modules and the installed plug-ins, once."""
        home, self._home = self._home, None
        if home is not None:
            package = importlib.import_module(home)
            inside = package.__path__ if package.__spec__ is not None and package.__spec__.parent == home else []
            for module in pkgutil.iter_modules(inside, prefix=f"{home}."):
                importlib.import_module(module.name)
        load_entry_points()


def _origin(member: object) -> str:
    return f"{getattr(member, '__module__', '?')}.{getattr(member, '__qualname__', '?')}"


_plugins: dict[str, str] = {}


def load_entry_points() -> None:
    """Load the plug-ins that installed packages declare under the entry point group ``claf2.plugins``, once."""
    if ENTRY_POINTS in _plugins:
        return
    _plugins[ENTRY_POINTS] = ENTRY_POINTS
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except ImportError as error:
            raise RegistryError(f"plug-in {point.name!r} ({point.value}) cannot be imported: {error}") from error


def load_plugin(plugin: str) -> None:
    """Import a plug-in, once: a path of a Python file, or the dotted name of an importable module.

    Raises:
        RegistryError: when there is no such file or module, or it cannot be imported.
    """
    path = Path(plugin)
    if path.suffix != ".py":
        try:
            importlib.import_module(plugin)
        except ImportError as error:
            raise RegistryError(
                f"plug-in {plugin!r} cannot be imported: {error}; give a file ending in .py, or an importable module"
            ) from error
        return
    if not path.is_file():
        raise RegistryError(f"plug-in {plugin!r}: no such file")
    key = str(path.resolve())
    if key in _plugins:
        return
    name = f"claf2_plugin_{hashlib.sha256(key.encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise RegistryError(f"plug-in {plugin!r} cannot be imported: {error}") from error
    _plugins[key] = name


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
