"""The commands and the Python of docs/retrieval.md, with a small encoder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from claf2.cli.main import main
from claf2.task import shipped_dir

PAGE = shipped_dir("tasks").parent / "docs/retrieval.md"
REAL_DATA = "DATA/"
"""What the commands with real data contain. Others with the same options are run."""


@pytest.mark.slow
def test_the_page(
    tmp_path: Path,
    model_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    ((name, content),) = re.findall(r"`(my_\w+\.json)`:\s+^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    Path(name).write_text(content, encoding="utf-8")
    ran = 0
    for language, block in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), {"claf2": __import__("claf2")})
        for line in block.splitlines() if not language else ():
            program, *words = shlex.split(line.replace("ENCODER", str(model_folder())))
            assert program == "claf2", line
            if REAL_DATA in line:
                continue
            with pytest.raises(SystemExit) as stopped:
                main(words)
            assert stopped.value.code in (0, None), f"{line}: {capsys.readouterr().err}"
            ran += 1
    assert ran == 14
