"""The house: imports point one way, families keep to themselves, what is public is said to be."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import claf2

ROOT = Path(claf2.__file__).parent

LAYERS = (
    ("errors", "registry"),
    ("readers", "tokenizers", "metrics"),
    ("task", "overrides", "seed", "samples"),
    ("ranks", "features", "networks", "heads", "split", "samplers", "batch", "optim", "hub", "data"),
    ("models", "report"),
    ("shards",),
    ("objectives",),
    ("loop", "process"),
    ("judge",),
    ("observe", "store"),
    ("trainers",),
    ("schema",),
    ("fill",),
    ("config",),
    ("handbook",),
    ("build",),
    ("teachers",),
    ("prepare",),
    ("run", "inference", "estimate"),
    ("bench", "explain"),
    ("cli",),
)
"""A line imports from its own and from the lines above."""

FAMILIES = ("readers", "metrics", "heads", "trainers", "samples")
"""Packages whose members never import each other."""

SHARED = {"samples": {"lexicon"}}
"""What members of a family may share besides their package."""

HEAVY = ("torch", "transformers", "sklearn", "scipy", "pyarrow", "seqeval", "tensorboard", "tokenizers")


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """Return the module or package of claf2 that a dotted name belongs to."""
    return name.split(".")[1] if name.startswith("claf2.") else ""


def upward(root: Path) -> list[str]:
    """Return the imports that point the wrong way, and the parts that no layer names."""
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    wrong = []
    for path in sorted(root.rglob("*.py")):
        mine = path.relative_to(root).parts[0].removesuffix(".py")
        if mine == "__init__":
            continue
        if mine not in layer:
            wrong.append(f"{mine} is in no layer")
            continue
        for name in imports(path):
            other = part(name)
            if other in layer and layer[other] > layer[mine]:
                wrong.append(f"{path.name} imports {name}")
    return wrong


def cycle(root: Path) -> list[str]:
    """Return one cycle among the parts, or nothing."""
    edges: dict[str, set[str]] = {}
    known = {name for names in LAYERS for name in names}
    for path in root.rglob("*.py"):
        mine = path.relative_to(root).parts[0].removesuffix(".py")
        edges.setdefault(mine, set()).update(part(name) for name in imports(path) if part(name) in known - {mine})
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        found = next((each for other in sorted(edges.get(name, ())) if (each := walk(other, [*way, name]))), [])
        done.add(name)
        return found

    return next((found for name in sorted(edges) if (found := walk(name, []))), [])


def siblings(root: Path) -> list[str]:
    """Return where a member of a family imports another one."""
    wrong = []
    for family in FAMILIES:
        for path in (root / family).glob("*.py"):
            for name in imports(path):
                parts = name.split(".")
                if path.stem != "__init__" and parts[:2] == ["claf2", family] and len(parts) > 2:
                    other = parts[2]
                    is_member = (root / family / f"{other}.py").is_file() and other not in SHARED.get(family, ())
                    if is_member and other != path.stem:
                        wrong.append(f"{family}/{path.name} imports {name}")
    return wrong


def test_imports_point_one_way() -> None:
    assert upward(ROOT) == []


def test_a_wrong_import_and_an_unknown_part_are_seen(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("def f():\n    from claf2.loop import fit\n")
    (tmp_path / "utils.py").write_text("")
    assert upward(tmp_path) == [
        "errors.py imports claf2.loop",
        "errors.py imports claf2.loop.fit",
        "utils is in no layer",
    ]


def test_there_is_no_cycle() -> None:
    assert cycle(ROOT) == []


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("import claf2.seed\n")
    (tmp_path / "seed.py").write_text("import claf2.task\n")
    assert cycle(tmp_path) == ["seed", "task", "seed"]


def test_members_of_a_family_do_not_import_each_other() -> None:
    assert siblings(ROOT) == []


def test_a_sibling_import_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "heads"
    folder.mkdir()
    (folder / "a.py").write_text("from claf2.heads.b import x\n")
    (folder / "b.py").write_text("x = 1\n")
    assert siblings(tmp_path) == ["heads/a.py imports claf2.heads.b", "heads/a.py imports claf2.heads.b.x"]


def test_task_tables_use_the_public_interface_only_and_nothing_imports_them() -> None:
    tables = ROOT.parent / "tasks"
    for path in tables.glob("*.py"):
        for name in imports(path):
            assert (
                not name.startswith("claf2")
                or name.split(".")[:2] in (["claf2"], ["claf2", "Task"])
                or part(name) in ("readers", "metrics", *claf2.__all__)
            ), f"{path.name} imports {name}"
    assert not [path for path in ROOT.rglob("*.py") for name in imports(path) if name.split(".")[0] == "tasks"]


def test_config_and_command_line_import_nothing_heavy() -> None:
    code = (
        "import sys, claf2.config, claf2.cli\n"
        "from claf2.task import tasks\n"
        "tasks.names()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def modules() -> list[str]:
    """Return the dotted name of every module of the package."""
    return ["claf2", *(each.name for each in pkgutil.walk_packages(claf2.__path__, "claf2."))]


def test_all_names_exist_and_public_definitions_have_docstrings() -> None:
    for name in modules():
        module = importlib.import_module(name)
        assert module.__doc__, f"{name} has no docstring"
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.__all__ names {public}"


def public_without_docstring(path: Path) -> list[str]:
    """Return the public functions and classes at the top of a file that say nothing of themselves."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]
    return [f"{path.name}: {node.name}" for node in found if not ast.get_docstring(node)]


def test_public_functions_and_classes_have_docstrings(tmp_path: Path) -> None:
    assert [each for path in ROOT.rglob("*.py") for each in public_without_docstring(path)] == []
    (tmp_path / "x.py").write_text("def bare():\n    pass\n")
    assert public_without_docstring(tmp_path / "x.py") == ["x.py: bare"]


def too_big(path: Path) -> list[str]:
    """Return a file of more than 400 lines, and functions of more than 60."""
    text = path.read_text(encoding="utf-8")
    big = [path.name] if text.count("\n") > 400 else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60:
            big.append(f"{path.name}: {node.name}")
    return big


def test_nothing_is_a_junk_room() -> None:
    banned = ("util", "helper", "manager", "mixin", "factory", "base", "common", "misc")
    paths = list(ROOT.rglob("*.py"))
    assert [path.name for path in paths if any(word in path.stem for word in banned)] == []
    assert [each for path in paths for each in too_big(path)] == []
