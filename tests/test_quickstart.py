"""The notebook `docs/quickstart.ipynb` and the code of `docs/python.md` run.

The cells of the notebook are executed in order in a fresh interpreter, without Jupyter. They are plain Python, so a
kernel would test Jupyter and not claf2, and the tests need no further package.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claf2.task import shipped_dir

DOCS = shipped_dir("tasks").parent / "docs"
NOTEBOOK = DOCS / "quickstart.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    return list(notebook["cells"])


def test_it_is_a_valid_notebook_without_outputs(cells: list[dict[str, Any]]) -> None:
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        fields = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell.keys() == fields | {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert (cell["cell_type"], cell.keys()) == ("markdown", fields)
        assert re.fullmatch(r"[\w-]{1,64}", cell["id"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def to_script(cells: list[dict[str, Any]]) -> str:
    """Return the code of all cells, each of which prints the value of its last expression, as a notebook shows it."""
    lines = []
    for cell in cells:
        if cell["cell_type"] == "code":
            statements = ast.parse("".join(cell["source"])).body
            if isinstance(statements[-1], ast.Expr):
                shown = ast.Call(ast.Name("_show"), [ast.Constant(cell["id"]), statements[-1].value], [])
                statements[-1] = ast.Expr(shown)
            lines += [ast.unparse(statement) for statement in statements]
    return "def _show(cell, value):\n    if value is not None:\n        print(cell, repr(value))\n" + "\n".join(lines)


@pytest.mark.slow
def test_its_cells_run(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    words = [sys.executable, "-W", "error", "-c", to_script(cells)]
    process = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "\nvalid/accuracy: " in process.stdout
    shown = dict(line.split(" ", 1) for line in process.stdout.splitlines() if not line.startswith("valid/"))
    assert shown["load"] == "(['nsmc'], 0.0005)"
    assert re.fullmatch(r"\('[01]', [01]\.\d+\)", shown["predict"])
    assert re.fullmatch(r"\['[01]', '[01]'\]", shown["predict-many"])
    assert re.fullmatch(r"\[\('nsmc', 'accuracy', -?\d+\.\d, '\w[\w ]*'\)\]", shown["compare"])
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"quickstart", "quickstart-slow"}


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "python.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) > 4
    code = "\n".join([*blocks, "assert 'error_rate' in claf2.metrics.metrics.names()"])
    words = [sys.executable, "-W", "error", "-c", code]
    process = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "nsmc" in process.stdout.splitlines()[-1]
