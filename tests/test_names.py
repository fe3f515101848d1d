"""One public name has one meaning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import claf2

SCRIPT = Path(__file__).parents[1] / "scripts" / "homonyms.py"


def run_script(package: Path) -> tuple[int, list[str]]:
    """Return the exit code, and the names that the script lists."""
    process = subprocess.run([sys.executable, SCRIPT, package], capture_output=True, text=True, check=False)
    assert process.stderr == ""
    return process.returncode, [line.split("'")[1] for line in process.stdout.splitlines() if line.startswith("'")]


def write_package(folder: Path, **modules: str) -> Path:
    """Write modules into a package; `a__b` is the module `b` of the package `a`."""
    for name, source in modules.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return folder


def test_the_package_has_none() -> None:
    assert run_script(Path(claf2.__file__).parent) == (0, [])


READER = "class Reader:\n    def read(self): ...\n\nclass Json(Reader):\n    def read(self): ...\n"

HOMONYMS: dict[str, dict[str, str]] = {
    "Cell": {"a": "class Cell: ...\n", "b": "class Cell: ...\n"},
    "compare": {"a": "def compare(x): ...\n", "b": "def compare(x, y): ...\n"},
    "words": {"a": "words = Registry()\n", "b": "def words(): ...\n"},
    "WIDTH": {"a": "WIDTH = 24\n", "b": "WIDTH: int = 150\n"},
    "read": {"a": READER, "b": "def read(path): ...\n"},
    "train": {"cli": "def train():\n    main(['evaluate'])\n", "b": "def train(): ...\n"},
    "merge": {"a": "def merge(x): ...\n", "b": "import a\n\ndef merge(x):\n    a.merge(x)\n"},
}


@pytest.mark.parametrize("name", HOMONYMS)
def test_homonyms_are_listed(name: str, tmp_path: Path) -> None:
    assert run_script(write_package(tmp_path, **HOMONYMS[name])) == (1, [name])


ONE_MEANING: dict[str, dict[str, str]] = {
    "an import": {"a": "def load(): ...\n", "b": "from a import load as load\n"},
    "private names": {"a": "def _load(): ...\n", "b": "def _load(): ...\n", "c": "class _A:\n    def f(self): ...\n"},
    "equal constants": {"a": "logger = get('x')\nT = TypeVar('T')\n", "b": "logger = get('x')\nT = TypeVar('T')\n"},
    "a command that calls the function": {"a": "def train(): ...\n", "cli__main": "def train():\n    a.train()\n"},
    "a command that passes its name": {"a": "def train(): ...\n", "cli__main": "def train():\n    main(['train'])\n"},
    "a method that calls the function": {
        "a": "def evaluate(): ...\n",
        "b": "class Run:\n    def evaluate(self):\n        return evaluate()\n",
    },
    "a property": {"a": "def digest(x): ...\n", "b": "class A:\n    @property\n    def digest(self): ...\n"},
    "methods of several classes": {"a": READER, "b": "class Task:\n    def read(self, path): ...\n"},
    "a function and a method of one module": {"a": READER + "\ndef read(): ...\n"},
}


@pytest.mark.parametrize("case", ONE_MEANING)
def test_one_meaning_is_no_homonym(case: str, tmp_path: Path) -> None:
    assert run_script(write_package(tmp_path, **ONE_MEANING[case])) == (0, [])
