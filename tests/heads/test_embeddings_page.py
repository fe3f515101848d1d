"""The commands of docs/embeddings.md, with a small encoder and generated samples."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from test_docs import ROOT, commands

from claf2.cli.main import main


@pytest.mark.slow
def test_every_command_of_the_page(
    model_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = commands(ROOT / "docs/embeddings.md")
    for line in lines:
        words = [str(model_folder()) if word == "klue/bert-base" else word for word in shlex.split(line)]
        with pytest.raises(SystemExit) as stopped:
            main(words[1:])
        assert stopped.value.code in (0, None), f"{line}: {capsys.readouterr().err}"
    assert len(lines) == 13
    for name in ("softmax", "simcse", "lines"):
        best = json.loads((tmp_path / f"logs/embed/{name}/metrics.json").read_text())
        assert best["metric_key"] == "average"
