"""The commands of docs/storage.md, run as they are, with `moto_server` as the store."""

from __future__ import annotations

import re
import shlex
import urllib.request
from pathlib import Path

import pytest
from storage_servers import S3Server

from claf2.cli.main import main
from claf2.task import shipped_dir

PAGE = shipped_dir("tasks").parent / "docs/storage.md"


@pytest.mark.slow
def test_commands(
    moto: S3Server, keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    with urllib.request.urlopen(urllib.request.Request(f"{moto.endpoint}/bucket", method="PUT")):
        pass
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("claf2 ")]
    assert {shlex.split(command)[1] for command in commands} == {"train", "ls", "push", "pull"}
    for command in commands:
        with pytest.raises(SystemExit) as caught:
            main(shlex.split(command)[1:])
        assert caught.value.code == 0, f"{command}: {capsys.readouterr().err}"
    for name in ("metrics.json", "best/model.safetensors", "steps/step-000000008/model.safetensors"):
        assert Path("logs/moved", name).read_bytes() == Path("logs/pretrain", name).read_bytes()
    assert Path("step-4/config.json").read_bytes() == Path("models/step-000000004/config.json").read_bytes()
