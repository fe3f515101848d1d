"""List the public names of the package that are defined twice, so that one word keeps one meaning.

A name is public unless it begins with an underscore. Two definitions of one name count as homonyms when they are

* two classes, functions or constants at the top of different modules, or
* a method of a public class and a function at the top of another module: the function should say what it acts on.

Some names are defined twice and mean the same, by these rules rather than by a list:

* constants with the same value, such as ``logger`` or a type variable;
* a function that passes the call on to the one of its name: a command of the command line (``PASSES_ON``), or a method.

What a module imports is no second definition. Methods of two classes are not compared, since an abstract method is
implemented by many classes, and since the class of an object says which method is meant.

Usage: ``python scripts/homonyms.py [PACKAGE]``; the exit code is 1 if there are homonyms.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PASSES_ON = ("api", "cli")
"""Parts of the package whose functions may have the name of the function that they call."""


@dataclass(frozen=True)
class Definition:
    """One definition of a public name."""

    name: str
    path: Path
    node: ast.stmt
    owner: ast.ClassDef | None = None
    """The class of a method; ``None`` at the top of a module."""

    def __str__(self) -> str:
        qualified = f"{self.owner.name}.{self.name}" if self.owner else self.name
        return f"  {self.path}:{self.node.lineno} {qualified}"

    @property
    def value(self) -> str | None:
        """The source of a constant's value; ``None`` for a class or a function."""
        if isinstance(self.node, ast.Assign | ast.AnnAssign) and self.node.value is not None:
            return ast.unparse(self.node.value)
        return None

    def passes_on(self) -> bool:
        """Say whether the body calls the function of the same name, or hands the name to the command line."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Call):
                # `evaluate(…)` or, in a function, `inference.evaluate(…)`; a method's `x.read(…)` is another method.
                names = {getattr(node.func, "id", None), None if self.owner else getattr(node.func, "attr", None)}
                arguments = {child.value for child in ast.walk(node) if isinstance(child, ast.Constant)}
                if self.name in names or (self.owner is None and self.name in arguments):
                    return True
        return False


def public_definitions(path: Path) -> Iterator[Definition]:
    """Yield the public classes, functions, constants and methods of one file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for name in _names(node):
            yield Definition(name, path, node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                # A property is a noun, like a field: `tokenizer.digest` is what `digest` would return.
                if isinstance(member, ast.FunctionDef) and not _is_property(member):
                    yield from (Definition(name, path, member, node) for name in _names(member))


def _names(node: ast.stmt) -> list[str]:
    """Return the public names that a statement defines."""
    names: list[str] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        names = [node.target.id]
    return [name for name in names if not name.startswith("_")]


def _is_property(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("property") for decorator in function.decorator_list)


def homonyms(package: Path) -> dict[str, list[Definition]]:
    """Return the names that have more than one meaning, with their definitions.

    Args:
        package: the folder of the package.
    """
    by_name: dict[str, list[Definition]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for definition in public_definitions(path):
            by_name[definition.name].append(definition)
    distinct = {name: _distinct(definitions, package) for name, definitions in sorted(by_name.items())}
    return {name: definitions for name, definitions in distinct.items() if definitions}


def _distinct(definitions: list[Definition], package: Path) -> list[Definition]:
    """Return those of one name's definitions which differ in meaning; none where all mean the same."""
    tops, values = [], set()
    for definition in definitions:
        forwards = definition.path.relative_to(package).parts[0].removesuffix(".py") in PASSES_ON
        if definition.owner or (forwards and definition.passes_on()):
            continue
        if definition.value is None or definition.value not in values:
            tops.append(definition)
        values.add(definition.value)
    is_function = any(isinstance(definition.node, ast.FunctionDef) for definition in tops)
    paths = {definition.path for definition in tops}
    methods = [] if not is_function else _first_methods([d for d in definitions if d.path not in paths])
    return [*tops, *methods] if len(paths) > 1 or methods else []


def _first_methods(definitions: list[Definition]) -> list[Definition]:
    """Return the methods among the definitions, without overrides and without those that pass the call on."""
    owners = {definition.owner.name for definition in definitions if definition.owner}
    return [
        definition
        for definition in definitions
        if definition.owner
        and not definition.passes_on()
        and not owners & {ast.unparse(base).split("[")[0] for base in definition.owner.bases}
    ]


def main() -> None:
    """Print the homonyms of the package, and exit with 1 if there are any."""
    package = Path(sys.argv[1] if len(sys.argv) > 1 else "claf2")
    names = homonyms(package)
    for name, definitions in names.items():
        sys.stdout.write("\n".join([f"{name!r} is defined {len(definitions)} times:", *map(str, definitions)]) + "\n")
    sys.exit(1 if names else 0)


if __name__ == "__main__":
    main()
