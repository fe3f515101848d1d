"""A corpus: its blocks of text, and their shards, each of which is made when it is first needed."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from claf2.corpus.blocks import block_digest, list_blocks, read_block
from claf2.corpus.rows import Rows
from claf2.corpus.section import CorpusSection
from claf2.corpus.shards import Shard, make_shard, open_shard, shard_key
from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer

__all__ = ["Corpus"]

OPEN_WINDOWS = 3
"""How many windows of shards stay open: the one that is read, the next one, and the remains of the last one."""


class Corpus:
    """The text of a corpus as shards of token ids.

    Args:
        section: what it consists of.
        tokenizer: the tokenizer.
        cache_dir: the folder of the shards.
        data_dir: the folder that relative paths of sources start from; ``None``: the working folder.
        workers: how many shards are made at a time.

    Raises:
        DataError: if a source has no files.
    """

    def __init__(
        self,
        section: CorpusSection,
        tokenizer: Tokenizer,
        *,
        cache_dir: Path,
        data_dir: Path | None = None,
        workers: int = 1,
    ) -> None:
        self.section = section
        self.tokenizer = tokenizer
        self.instances = section.instances.chosen()
        self.masks = section.masks.chosen()
        self.blocks = list_blocks(section.sources, section.shard_bytes, data_dir)
        self.workers = workers
        self._folder = cache_dir / "corpus"
        self._tokenizer_digest = tokenizer.digest
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._keys: dict[int, str] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.blocks)

    def shard(self, number: int) -> Shard:
        """Return a shard, which is made if it is missing or damaged.

        Raises:
            DataError: if its text cannot be read.
        """
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        shard = self._make(number)
        with self._lock:
            self._open[number] = shard
            while len(self._open) > OPEN_WINDOWS * self.section.window:
                self._open.popitem(last=False)
        return shard

    def _make(self, number: int) -> Shard:
        from filelock import FileLock

        block = self.blocks[number]
        key = shard_key(block_digest(block), block.text_field, self._tokenizer_digest)
        self._keys[number] = key
        folder = self._folder / key[:2] / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Several processes need the same shards at the same time. The first one makes it, the others wait.
        with contextlib.suppress(NotImplementedError), FileLock(folder.with_name(".lock")):
            make_shard(folder, key, read_block(block), self.tokenizer)
        return open_shard(folder, key)

    def rows(self, number: int, room: int) -> Rows:
        """Return the rows of a shard, in the order of its text.

        Args:
            number: the shard.
            room: the most tokens of a row, special tokens excluded.
        """
        import numpy as np

        shard = self.shard(number)
        return self.cut(number, np.array([[0, len(shard)]]), room)

    def row_count(self, number: int, room: int) -> int:
        """Return the number of rows of a shard; see ``rows``."""
        key = (number, room)
        if key not in self._counts:
            self._counts[key] = len(self.rows(number, room))
        return self._counts[key]

    def cut(self, number: int, spans: object, room: int) -> Rows:
        """Return the rows of some spans of a shard."""
        shard = self.shard(number)
        rng = generator(0, "lengths", self._keys[number], room)
        return self.instances.cut(shard.flags, spans, room, rng)  # type: ignore[arg-type]
