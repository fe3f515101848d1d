"""The encoder factory on generated text, with each of its processes killed once."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "factory.py"


@pytest.mark.slow
def test_the_line_survives_the_death_of_each_process(tmp_path: Path) -> None:
    needed = ("obstore", "fastapi", "uvicorn", "sqlalchemy", "apprise")
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if not (shutil.which("rclone") or Path(sys.executable).with_name("rclone").is_file()):
        missing.append("rclone")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; make .venv/.tested-with installs them")
    command = [sys.executable, str(SCRIPT), "--kill", "--out", str(tmp_path / "factory")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("started it again") == 4
    assert "store: steps 30, 60, 90, 120; board: 24 cells" in done.stdout


def test_a_folder_of_something_else_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "holds something else" in done.stderr
    assert (tmp_path / "precious").exists()
