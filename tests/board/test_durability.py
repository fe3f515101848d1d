"""What is answered is on the disk: kills lose and double nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from claf2.task import shipped_dir


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills"), [(1000, 4)], ids=["1000-writes"])
def test_kills_lose_and_double_nothing(tmp_path: Path, count: int, kills: int) -> None:
    """With ``benchmarks/board.py``: 8 clients write while the server is killed with SIGKILL and started again."""
    path = shipped_dir("tasks").parent / "benchmarks/board.py"
    spec = importlib.util.spec_from_file_location("board_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = module.write_through_kills(str(tmp_path / "board.sqlite"), clients=8, count=count, kills=kills)
    assert result == {"lost": 0, "doubled": 0, "answered": count, "stored": count}
