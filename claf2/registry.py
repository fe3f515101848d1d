"""Name → component. A family's members are imported at the first look-up, so the order of imports cannot matter."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from claf2.errors import Claf2Error, ConfigError, RegistryError, field_problem, nearest

ENTRY_POINTS = "claf2.plugins"
"""The entry point group through which an installed package brings components."""

LARGEST = 10**9
"""The upper bound of a number that has no natural one. It is beyond all sensible values, and arithmetic with it is
exact and finite."""

DISCOVERY = RLock()
"""Held while components are imported, so that other threads wait for the whole family."""

T = TypeVar("T")
ComponentT = TypeVar("ComponentT", bound="Component")


class Component(BaseModel):
    """A frozen description of one part of an experiment: its fields are its schema, and a member adds one verb."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )


def make_component(
    kind: type[ComponentT], fields: Mapping[str, Any], *, prefix: str = "", hint: str | None = None
) -> ComponentT:
    """Return a component with values that a user has given.

    Args:
        kind: the class.
        fields: field → value.
        prefix: what stands before the name of a field in messages, such as ``length.`` or ``--``.
        hint: what to do about a mistake; ``None``: the nearest names for a field that does not exist.

    Raises:
        ConfigError: if a field does not exist or is missing, or has a wrong value.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(map(str, problem["loc"]))
        message = field_problem(problem)
        if problem["type"] == "extra_forbidden":
            message = "no such field"
            if len(problem["loc"]) == 1:
                hint = hint or nearest(path, kind.model_fields)
        place = f"{prefix}{path}" if path else prefix.rstrip(".: ") or kind.__name__
        raise ConfigError(place, message, hint=hint) from error


def _check_name(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(fields.get("name"), str):
        raise ValueError("has no name")
    return fields


NamedFields = Annotated[Mapping[str, Any], AfterValidator(_check_name)]
"""The name of a component and its fields, as they are written to a file."""

UserPath = AfterValidator(lambda path: None if path is None else os.path.expanduser(path))
"""Marks a field that names a file or a folder: a leading ``~`` is the home folder, as in a shell."""


def not_in_recipe(default: Any = ..., *, written: bool = True, **constraints: Any) -> Any:
    """Declare a field that a fair comparison may vary (path, model, device): it is left out of the recipe digest.

    Args:
        default: the default.
        written: whether a complete config states the default. A field that was added later does not, so that the digest
            of an experiment without it stays the same.
        constraints: further arguments of ``pydantic.Field``.
    """
    extra: dict[str, Any] = {"recipe": False} if written else {"recipe": False, "written": False}
    return Field(default, json_schema_extra=extra, **constraints)


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
        self._discovering = False
        self._members: dict[str, T] = {}
        self._origins: dict[str, str] = {}

    def register(self, name: str, *aliases: str) -> Callable[[T], T]:
        """Return a decorator that registers a member under ``name`` and its ``aliases``.

        Raises:
            RegistryError: when one of the names is registered already, or the member lacks what the family needs.
        """

        def decorate(member: T) -> T:
            _check_member(f"{self.kind} {name!r}", member)
            for alias in (name, *aliases):
                self.add(alias, member, origin=_origin(member))
            return member

        return decorate

    def add(self, name: str, member: T, *, origin: str) -> None:
        """Register ``member`` under ``name``. Registering it again from the same place replaces it, as a reload does.

        Args:
            name: what the member is called.
            member: the component.
            origin: where it is defined, for messages.

        Raises:
            RegistryError: when a member from another place has the name.
        """
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
                "(add a component of your own with --plugin FILE)"
            )
        return self._members[name]

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self.discover()
        return sorted(self._members)

    def name_of(self, member: T) -> str:
        """Return the first name under which ``member`` was registered."""
        self.discover()
        return next(name for name, registered in self._members.items() if registered is member)

    def origin(self, name: str) -> str:
        """Return the module that registered ``name``."""
        self.get(name)
        return self._origins[name]

    def discover(self) -> None:
        """Import the family's own modules and the installed plug-ins. What has been imported is not imported again; an
        import that fails is tried again, and fails with the same error, at the next look-up."""
        with DISCOVERY:
            if self._home is not None and not self._discovering:  # members may look up others while they are imported
                self._discovering = True
                try:
                    self._import_home(self._home)
                finally:
                    self._discovering = False
                self._home = None
            load_entry_points()

    def _import_home(self, home: str) -> None:
        package = importlib.import_module(home)
        folders = package.__path__ if package.__spec__ is not None and package.__spec__.parent == home else []
        for module in pkgutil.iter_modules(folders, prefix=f"{home}."):
            if not module.ispkg:  # members are modules; a package inside holds what members share
                importlib.import_module(module.name)


def _origin(member: object) -> str:
    return f"{getattr(member, '__module__', '?')}.{getattr(member, '__qualname__', '?')}"


def _check_member(kind: str, member: object) -> None:
    """Check that a class has what its family declares without a value: methods and class attributes."""
    if not (isinstance(member, type) and issubclass(member, BaseModel)):
        return
    abstract = sorted(getattr(member, "__abstractmethods__", ()))
    lacking = [f"method {name}" for name in abstract]
    lacking += [f"class attribute {name}" for name in sorted(member.__class_vars__) if not hasattr(member, name)]
    if lacking:
        raise RegistryError(f"{kind}: class {member.__name__} lacks the {' and the '.join(lacking)}; define it")


_loaded_plugins: set[str] = set()


def load_entry_points() -> None:
    """Load the plug-ins that installed packages declare under the entry point group ``claf2.plugins``, each once.

    Raises:
        RegistryError: when one cannot be imported.
    """
    if ENTRY_POINTS in _loaded_plugins:
        return
    _loaded_plugins.add(ENTRY_POINTS)  # first, since a plug-in looks names up while it is imported
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            with _one_line(f"{point.name!r} ({point.value})"):
                point.load()
        except RegistryError:
            _loaded_plugins.discard(ENTRY_POINTS)
            raise


def load_plugin(plugin: str) -> None:
    """Import a plug-in once: a path of a Python file, or the dotted name of an importable module.

    Raises:
        RegistryError: when there is no such file or module, or it cannot be imported.
    """
    path = Path(plugin).expanduser()
    if path.suffix != ".py":
        with _one_line(repr(plugin), hint="; give a file ending in .py, or an importable module"):
            importlib.import_module(plugin)
        return
    if not path.is_file():
        raise RegistryError(f"plug-in {plugin!r}: no such file")
    key = str(path.resolve())
    if key in _loaded_plugins:
        return
    name = f"claf2_plugin_{hashlib.sha256(key.encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _one_line(repr(plugin)):
            spec.loader.exec_module(module)
            for member in vars(module).values():
                if isinstance(member, type) and issubclass(member, Component):
                    member.model_rebuild()  # fails where a field's type is not defined
    except BaseException:
        del sys.modules[name]
        raise
    _loaded_plugins.add(key)


@contextmanager
def _one_line(plugin: str, *, hint: str = "") -> Iterator[None]:
    """Turn what a plug-in raises while it is imported into one line with the place and the cause.

    Args:
        plugin: what the plug-in is called in the message.
        hint: what to add where something cannot be imported.
    """
    try:
        yield
    except Exception as error:
        # The statement of a module, since what fails inside a library says nothing about the plug-in.
        statements = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
        place = f"line {statements[-1].lineno} of {Path(statements[-1].filename).name}: " if statements else ""
        if isinstance(error, ValidationError):
            reason = _explain(error)
        elif isinstance(error, ImportError | SyntaxError | Claf2Error):
            reason = f"{error}{hint if isinstance(error, ImportError) else ''}"
        else:
            reason = f"{type(error).__name__}: {error}"
        raise RegistryError(f"plug-in {plugin} cannot be imported: {place}{reason}") from error


def _explain(error: ValidationError) -> str:
    """Return the first mistake in the fields of a component as one line."""
    # A mistyped name is reported twice: as missing, and as one that is not allowed.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    field = ".".join(str(key) for key in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{error.title}.{field}: " + ("is missing" if first["type"] == "missing" else field_problem(first))
    kinds = [Component]
    for kind in kinds:  # the list grows while it is read: all subclasses
        kinds += kind.__subclasses__()
    fields = {name for kind in kinds if kind.__name__ == error.title for name in kind.model_fields}
    return f"{error.title} has no field {field!r}; {nearest(field, fields)}"


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
