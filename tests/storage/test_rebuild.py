"""A board that is rebuilt from cells in an object store."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_cells import write_cell

pytest.importorskip("fastapi", reason="the board's extra is not installed: pip install 'claf2[board]'")

from claf2.board.rebuild import rebuild
from claf2.board.records import Records
from claf2.storage.objects import open_folder


def test_a_board_from_a_store_equals_one_from_folders(s3_url: str, tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    for seed in (1, 2):
        write_cell(bench, "a", "rte", seed)
    remote = open_folder(s3_url)
    for path in bench.rglob("*"):
        if path.is_file():
            remote.write(path.relative_to(bench).as_posix(), path.read_bytes())
    contents = []
    for number, source in enumerate((str(bench), s3_url)):
        records = Records(str(tmp_path / f"{number}.sqlite"))
        assert rebuild([source], records).states == {"created": 2}
        contents.append(records.contents())
        records.close()
    assert contents[0] == contents[1]
