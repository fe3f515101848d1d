"""The built wheel works outside the checkout, with its BaseConfigs and task tables inside."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from claf2.task import shipped_dir

ROOT = shipped_dir("tasks").parent

LOWEST_EXTRAS = ("hub", "ja", "ko", "sentencepiece")
"""The extras that `make test-lowest` installs."""


def requirements() -> list[str]:
    """Return what setup.py requires, with the extras that `make test-lowest` installs."""
    (call,) = (
        node.value for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )  # fmt: skip
    arguments = {
        keyword.arg: ast.literal_eval(keyword.value)
        for keyword in call.keywords
        if keyword.arg in ("install_requires", "extras_require")
    }
    extras = arguments["extras_require"]
    return [*arguments["install_requires"], *(line for name in LOWEST_EXTRAS for line in extras[name])]


def test_constraints_lowest_are_the_lower_bounds_of_setup_py() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w-]+)==(\S+)$", lines, re.MULTILINE)
    constraints = {canonicalize_name(name): Version(version) for name, version in pins}
    for requirement in map(Requirement, requirements()):
        (bound,) = (Version(part.version) for part in requirement.specifier if part.operator == ">=")
        assert constraints[canonicalize_name(requirement.name)] == bound, requirement


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, offline."""
    source = tmp_path_factory.mktemp("source") / "claf2"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "logs")
    shutil.copytree(ROOT, source, ignore=ignored)
    target = tmp_path_factory.mktemp("wheel")
    words = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(target),
        str(source),
    ]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return next(target.glob("*.whl"))


def test_the_wheel_brings_everything_along(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "base_config").rglob("*.*sonnet")}
    assert configs
    assert {f"claf2/{name}" for name in configs} <= names
    assert {"claf2/py.typed", "claf2/tasks/glue.py", "claf2/base_config/klue/korquad_bert.json"} <= names
    board = ROOT / "claf2/board"
    assets = {path.relative_to(ROOT).as_posix() for path in (*board.glob("assets/*.*"), *board.glob("templates/*.*"))}
    assert {name for name in assets if not name.endswith((".md", ".sh"))} <= names
    assert {"claf2/board/assets/board.css", "claf2/board/templates/page.html"} <= names
    assert not [name for name in names if name.startswith(("tests", "base_config", "tasks"))]


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that borrows the libraries of this one, but not this claf2."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env/bin/python"
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "zz_libraries.pth").write_text(f"import sys; sys.path.append({libraries!r})\n")

    def claf2(*words: str) -> str:
        code = "import claf2, sys; from claf2.cli.main import main; print(claf2.__file__, file=sys.stderr); main()"
        done = subprocess.run(
            [str(python), "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert str(site) in done.stderr
        return done.stdout

    assert "korquad " in claf2("tasks", "list")
    assert "klue/korquad_bert" in claf2("config", "list").splitlines()
    assert f"{site}/claf2/base_config/glue/rte_bert.jsonnet" in claf2("config", "show", "glue/rte_bert")
