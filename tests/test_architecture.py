"""The house: imports point one way, families keep to themselves, what is public is said to be."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import claf2

ROOT = Path(claf2.__file__).parent

WINGS = (
    ("runtime", "errors", "registry"),
    ("storage", "notifications"),
    ("task", "readers", "tokenizers", "heads", "metrics"),
    ("data",),
    ("corpus",),
    ("models", "adapters"),
    ("evaluation",),
    ("training",),
    ("config",),
    ("runs",),
    ("export",),
    ("benchmarking", "vocabulary"),
    ("retrieval", "hygiene"),
    ("machine",),
    ("board",),
    ("serving",),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""Each wing imports from its own line and from the lines above."""

FAMILIES = (
    "readers",
    "metrics",
    "heads",
    "corpus/instances",
    "corpus/masks",
    "adapters",
    "training/callbacks",
    "training/trainers",
    "data/samples",
)
"""Packages whose members never import each other."""

SHARED = {
    "data/samples": {"lexicon"},
    "heads": {"soft", "request", "predicted_tokens", "templates", "prompts", "chat", "pooling", "numbers"},
    "readers": {"tags", "text"},
}
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


def wing(name: str) -> str:
    """Return the wing of claf2 that a dotted name belongs to."""
    return name.split(".")[1] if name.startswith("claf2.") else ""


def module_of(path: Path, root: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(["claf2", *(parts[:-1] if parts[-1] == "__init__" else parts)])


def upward_imports(root: Path) -> list[str]:
    """Return the imports that point the wrong way, and the files that belong to no wing."""
    level = {name: number for number, names in enumerate(WINGS) for name in names}
    wrong = []
    for path in sorted(root.rglob("*.py")):
        own_wing = wing(f"{module_of(path, root)}.")
        if path == root / "__init__.py":
            continue
        if own_wing not in level:
            wrong.append(f"{own_wing} is not a wing")
            continue
        wrong += [
            f"{path.name} imports {name}"
            for name in imports(path)
            if wing(name) in level and level[wing(name)] > level[own_wing]
        ]
    return wrong


def import_cycle(root: Path) -> list[str]:
    """Return one cycle among the modules of the package, or nothing.

    A package may name its own members, as an index of them.
    """
    paths = {module_of(path, root): path for path in root.rglob("*.py")}
    edges = {
        module: sorted(
            name
            for name in set(imports(path)) - {module, "claf2"}
            if name in paths and not (path.name == "__init__.py" and name.startswith(f"{module}."))
        )
        for module, path in paths.items()
    }
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        cycle = next((cycle for other in edges[module] if (cycle := walk(other, [*way, module]))), [])
        done.add(module)
        return cycle

    return next((cycle for module in sorted(edges) if (cycle := walk(module, []))), [])


def sibling_imports(root: Path) -> list[str]:
    """Return where a member of a family imports another one."""
    wrong = []
    for family in FAMILIES:
        package = ".".join(["claf2", *family.split("/")])
        members = {path.stem for path in (root / family).glob("*.py")} - SHARED.get(family, set()) - {"__init__"}
        for path in (root / family).glob("*.py"):
            for name in imports(path):
                member = name.removeprefix(f"{package}.").split(".")[0]
                if path.stem in members and name.startswith(f"{package}.") and member in members - {path.stem}:
                    wrong.append(f"{family}/{path.name} imports {name}")
    return wrong


def test_imports_point_one_way() -> None:
    assert upward_imports(ROOT) == []


def test_a_wrong_import_and_an_unknown_wing_are_seen(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("def f():\n    from claf2.training.loop import fit\n")
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/text.py").write_text("")
    assert upward_imports(tmp_path) == [
        "errors.py imports claf2.training.loop",
        "errors.py imports claf2.training.loop.fit",
        "utils is not a wing",
    ]


def test_there_is_no_cycle() -> None:
    assert import_cycle(ROOT) == []


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "task.py").write_text("import claf2.runtime.seed\n")
    (tmp_path / "runtime/seed.py").write_text("from claf2.task import Task\n")
    assert import_cycle(tmp_path) == ["claf2.runtime.seed", "claf2.task", "claf2.runtime.seed"]


def test_members_of_a_family_do_not_import_each_other() -> None:
    assert sibling_imports(ROOT) == []


def test_a_sibling_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads/a.py").write_text("from claf2.heads.b import x\n")
    (tmp_path / "heads/b.py").write_text("x = 1\n")
    assert sibling_imports(tmp_path) == ["heads/a.py imports claf2.heads.b", "heads/a.py imports claf2.heads.b.x"]


def test_task_tables_use_the_public_interface_only_and_nothing_imports_them() -> None:
    tables = ROOT.parent / "tasks"
    for path in tables.glob("*.py"):
        for name in imports(path):
            assert (
                not name.startswith("claf2")
                or name.split(".")[:2] in (["claf2"], ["claf2", "Task"])
                or wing(name) in ("readers", "metrics", *claf2.__all__)
            ), f"{path.name} imports {name}"
    assert not [path for path in ROOT.rglob("*.py") for name in imports(path) if name.split(".")[0] == "tasks"]


def test_config_and_command_line_import_nothing_heavy() -> None:
    code = (
        "import sys, claf2.config, claf2.cli.main\n"
        "from claf2.task import tasks\n"
        "tasks.names()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def modules() -> list[str]:
    """Return the dotted name of every module of the package."""
    return ["claf2", *(module.name for module in pkgutil.walk_packages(claf2.__path__, "claf2."))]


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
    public = [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]
    return [f"{path.name}: {node.name}" for node in public if not ast.get_docstring(node)]


def test_public_functions_and_classes_have_docstrings(tmp_path: Path) -> None:
    assert [name for path in ROOT.rglob("*.py") for name in public_without_docstring(path)] == []
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
    assert [name for path in paths for name in too_big(path)] == []


@pytest.mark.slow
def test_a_fine_tuning_imports_nothing_of_the_rest_of_the_factory(tmp_path: Path) -> None:
    others = (
        "claf2.storage.",
        "claf2.notifications.",
        "claf2.board.",
        "claf2.vocabulary.",
        "claf2.benchmarking.",
        "claf2.export.",
    )
    libraries = ("obstore", "apprise", "fastapi", "sqlalchemy", "datasketch", "onnx", "onnxscript", "onnxruntime",
                 "peft", "bitsandbytes")  # fmt: skip
    code = (
        "import sys, claf2\n"
        f"claf2.train(claf2.load('scratch/nsmc', sample=True, num_steps=20, log_dir={str(tmp_path / 'run')!r}))\n"
        f"print([name for name in sys.modules if name.startswith({others!r}) or name in {libraries!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
