"""The table (shard, length) → number of rows, by which a resumed run finds its place without reading any text."""

from __future__ import annotations

import zlib
from pathlib import Path
from threading import Lock

__all__ = ["RowCounts"]


class RowCounts:
    """Numbers of rows that have been counted once, in a file to which each process appends what it counts.

    Each line has a checksum. A line that a killed process has written in part is skipped, and counted again.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: dict[tuple[int, int], int] = {}
        self._lock = Lock()
        if path.is_file():
            for line in path.read_text(encoding="ascii", errors="replace").splitlines():
                fields, _, checksum = line.rpartition(" ")
                if checksum == _checksum(fields):
                    shard, room, count = map(int, fields.split())
                    self._counts[shard, room] = count

    def has(self, shard: int, room: int) -> bool:
        """Say whether a number is known."""
        return (shard, room) in self._counts

    def get(self, shard: int, room: int) -> int:
        """Return the number of rows of a shard that have room for this many tokens."""
        return self._counts[shard, room]

    def add(self, shard: int, room: int, count: int) -> int:
        """Note a number, and return what was noted first."""
        with self._lock:
            if (shard, room) not in self._counts:
                self._counts[shard, room] = count
                self.path.parent.mkdir(parents=True, exist_ok=True)
                fields = f"{shard} {room} {count}"
                with self.path.open("a", encoding="ascii") as file:
                    file.write(f"{fields} {_checksum(fields)}\n")
            return self._counts[shard, room]


def _checksum(fields: str) -> str:
    return f"{zlib.crc32(fields.encode()):08x}"
