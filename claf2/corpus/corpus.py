"""A corpus: its blocks of text, and their shards, each of which is made when it is first needed."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from claf2.corpus.batches import InputLayout, MaskDraws
from claf2.corpus.blocks import block_digest, list_blocks, read_block
from claf2.corpus.encoding import BEGINS_DOCUMENT
from claf2.corpus.row_counts import RowCounts
from claf2.corpus.rows import Rows
from claf2.corpus.section import CorpusSection
from claf2.corpus.shards import SHARD_FORMAT, Shard, id_width, make_shard, open_shard, shard_key
from claf2.corpus.sources import Document, format_of
from claf2.data.features import FeatureList
from claf2.errors import ConfigError, DataError
from claf2.heads.predicted_tokens import NO_TARGET
from claf2.registry import digest
from claf2.runtime.files import wait_for_lock
from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("claf2")

__all__ = ["Corpus", "ShardTotals"]

LOGGED_EVERY = 30.0
"""Seconds between two log lines about shards that are made."""
ROWS_FORMAT = 1
"""Raised when the same text gets other rows, so that it is not reported as changed."""
HELD_OUT_SHARDS = 16
"""The most shards from which documents are held out."""
OPEN_WINDOWS = 3
"""How many windows of shards stay open: the one that is read, the next one, and the remains of the last one."""


@dataclass(frozen=True)
class ShardTotals:
    """The size of all shards of a corpus."""

    documents: int
    tokens: int
    stored_bytes: int


class Corpus:
    """The text of a corpus as shards of token ids.

    Args:
        section: what it consists of.
        tokenizer: the tokenizer.
        cache_dir: the folder of the shards.
        data_dir: the folder that relative paths of sources start from; ``None``: the working folder.
        workers: how many shards are made at a time.

    Raises:
        DataError: if a source has no files, or a file is named twice.
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
        self.folder = cache_dir / "corpus"
        """The folder of the shards."""
        self.id_width = id_width(tokenizer)
        """The bytes of an id in shards."""
        self._tokenizer_digest = tokenizer.digest
        self._held_out = self._choose_held_out()
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._keys: dict[int, str] = {}
        self._counts = RowCounts(self.folder / "rows" / f"{self._digest()}.txt")
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.blocks)

    def shard(self, number: int, stopped: Event | None = None) -> Shard:
        """Return a shard, which is made if it is missing or damaged.

        Args:
            number: its number, or that of a repeated reading; see ``shard_order``.
            stopped: is set when the shard is no longer needed.

        Raises:
            DataError: if its text cannot be read, or has changed since the shard was opened before.
            CancelledError: if it was no longer needed before it was made.
        """
        number %= len(self)
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        shard = self._make(number, stopped)
        with self._lock:
            self._open[number] = shard
            while len(self._open) > OPEN_WINDOWS * self.section.window:
                self._open.popitem(last=False)
        return shard

    def _choose_held_out(self) -> dict[int, int]:
        """Return how many documents of which shards are held out: shards that are evenly spread over the corpus."""
        wanted = self.section.valid_documents
        read = [number for number, block in enumerate(self.blocks) if self.section.sources[block.source].weight > 0]
        count = min(len(read), HELD_OUT_SHARDS, wanted)
        chosen = [read[index * len(read) // count] for index in range(count)]
        # The first ones give one document more where the number does not divide evenly.
        return {number: wanted // count + (place < wanted % count) for place, number in enumerate(chosen)}

    def _digest(self) -> str:
        """Return the digest of what the numbers of rows depend on. Files are compared by size and time, since reading
        them takes too long."""
        paths = dict.fromkeys((block.path, block.text_field) for block in self.blocks)
        files = [[str(path.absolute()), field, path.stat().st_size, path.stat().st_mtime_ns] for path, field in paths]
        kind = [self.section.instances.name, self.instances.model_dump(mode="json")]
        held_out = sorted(self._held_out.items())
        return digest(
            [SHARD_FORMAT, ROWS_FORMAT, files, self.section.shard_bytes, self._tokenizer_digest, kind, held_out]
        )

    def _make(self, number: int, stopped: Event | None) -> Shard:
        block = self.blocks[number]
        key = shard_key(block_digest(block), format_of(block.path), block.text_field, self._tokenizer_digest)
        if self._keys.setdefault(number, key) != key:
            raise DataError(block.path, "has changed since the run began", hint="start a new run")
        folder = self.folder / key[:2] / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Several processes need the same shards at the same time. The first one makes it, the others wait.
        with wait_for_lock(folder.with_name(".lock")):
            make_shard(folder, key, _until(stopped, read_block(block)), self.tokenizer, self.id_width)
        return open_shard(folder, key)

    def rows(self, number: int, room: int) -> Rows:
        """Return the training rows of a shard, in the order of its text.

        Args:
            number: the shard.
            room: the most tokens of a row, special tokens excluded.

        Raises:
            DataError: if its text cannot be read, or has changed since it was read before.
        """
        import numpy as np

        rows = self.cut(number, np.array([[self.held_out_tokens(number), len(self.shard(number))]]), room)
        known = self._counts.add(number % len(self), room, len(rows))
        if known != len(rows):
            block = self.blocks[number % len(self)]
            problem = f"has other text than when it was read before ({len(rows)} rows instead of {known})"
            raise DataError(block.path, problem, hint=f"start a new run; delete {self._counts.path}")
        return rows

    def row_count(self, number: int, room: int) -> int:
        """Return the number of training rows of a shard; see ``rows``."""
        if not self.knows_rows(number, room):
            self.rows(number, room)
        return self._counts.get(number % len(self), room)

    def knows_rows(self, number: int, room: int) -> bool:
        """Say whether the number of rows of a shard is known without opening it."""
        return self._counts.has(number % len(self), room)

    def open_shards(
        self,
        numbers: Sequence[int],
        *,
        share: float = 0.0,
        stopped: Event | None = None,
        on_open: Callable[[int], None] | None = None,
    ) -> None:
        """Open some shards, and make those that are missing, several at a time.

        Args:
            numbers: the shards.
            share: where to begin, as a share of them; processes that begin at different ones divide the work.
            stopped: is set when the shards are no longer needed.
            on_open: is called with the number of shards that are open, after each of them; ``None``: a log line says
                how long it will take, every half minute.

        Raises:
            DataError: if a text cannot be read.
            CancelledError: if they were no longer needed.
        """
        first = int(share * len(numbers))
        progress = _ShardLog(len(numbers))
        missing = [number for number in [*numbers[first:], *numbers[:first]] if number % len(self) not in self._open]
        with ThreadPoolExecutor(max(1, self.workers), thread_name_prefix="claf2-shards") as pool:
            futures = [pool.submit(self.shard, number, stopped) for number in missing]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    (on_open or progress)(len(numbers) - len(missing) + done)
            finally:
                for future in futures:
                    future.cancel()

    def build(self, on_open: Callable[[int], None] | None = None) -> ShardTotals:
        """Make all shards that are missing, and return their size.

        Args:
            on_open: is called with the number of shards that have been made or found, after each of them.

        Raises:
            DataError: if a text cannot be read.
        """
        documents = tokens = stored = 0
        for first in range(0, len(self), self.section.window):
            numbers = range(first, min(len(self), first + self.section.window))
            self.open_shards(numbers, on_open=on_open and partial(_add, on_open, first))
            for number in numbers:
                shard = self.shard(number)
                documents += shard.documents
                tokens += len(shard)
                stored += shard.ids.nbytes + shard.flags.nbytes
        return ShardTotals(documents, tokens, stored)

    def held_out_tokens(self, number: int) -> int:
        """Return how many tokens at the start of a shard are held out for evaluation: those of its first documents."""
        import numpy as np

        share = self._held_out.get(number % len(self), 0)
        if not share:
            return 0
        shard = self.shard(number)
        # Training keeps at least half of a shard's documents.
        share = min(share, shard.documents // 2)
        return int(np.flatnonzero(shard.flags & BEGINS_DOCUMENT)[share]) if share else 0

    def valid_rows(self, max_seq_length: int) -> FeatureList:
        """Return the rows of the held-out documents with fixed masks: 15 % of the tokens, chosen one by one, or 60 % of
        the words if words are deleted, whatever the masks of the training are. They depend on the text, the tokenizer
        and the length alone, so that losses can be compared.

        Args:
            max_seq_length: the length of the longest row in tokens, special tokens included.

        Returns:
            ``example``, ``input_ids``, ``token_type_ids`` and ``labels`` of each row, and for pairs
            ``next_sentence_label``.

        Raises:
            ConfigError: if no documents are held out.
        """
        import numpy as np

        self.open_shards(list(self._held_out))
        layout = InputLayout(self.tokenizer, self.instances, hides=self.masks.effect == "hide")
        room = max_seq_length - layout.special_tokens
        parts = [
            self.cut(number, np.array([[0, self.held_out_tokens(number)]]), room).of_shard(number, len(self))
            for number in self._held_out
        ]
        if not sum(map(len, parts)):
            raise ConfigError("valid_documents", "no documents are held out", hint="raise it, or give more documents")
        rows = self.instances.arrange(Rows.concatenate(parts), generator(0, "valid", max_seq_length))
        draws = MaskDraws.of_step(0, "valid", len(rows), max_seq_length)
        arrays = layout.arrays(rows, self.shard, max_seq_length, self.masks.for_evaluation(), draws, 0)
        lengths = arrays.pop("attention_mask").sum(1)
        # Where tokens are deleted, there are more labels than tokens.
        is_label = arrays["labels"] != NO_TARGET
        ends = np.where(is_label.any(1), max_seq_length - is_label[:, ::-1].argmax(1), 0)
        counts = {name: np.maximum(lengths, ends) if name == "labels" else lengths for name in arrays}
        return FeatureList(
            [
                {"example": row}
                | {
                    name: int(array[row]) if array.ndim == 1 else array[row, : counts[name][row]].tolist()
                    for name, array in arrays.items()
                }
                for row in range(len(rows))
            ]
        )

    @property
    def bytes_per_token(self) -> float:
        """The mean UTF-8 bytes of a token, over the shards with held-out documents."""
        shards = [self.shard(number) for number in self._held_out]
        return sum(shard.text_bytes for shard in shards) / max(1, sum(map(len, shards)))

    def cut(self, number: int, spans: np.ndarray, room: int) -> Rows:
        """Return the rows of some spans of a shard; see ``Instances.cut``."""
        shard = self.shard(number)
        rng = generator(0, "lengths", self._keys[number % len(self)], room)
        return self.instances.cut(shard.flags, spans, room, rng)


def _add(on_open: Callable[[int], None], before: int, done: int) -> None:
    on_open(before + done)


class _ShardLog:
    """Logs how many shards are ready, and how long the others will take.

    Args:
        total: the number of shards.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = self._logged = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        self._first = done - 1 if self._first is None else self._first
        if now - self._logged >= LOGGED_EVERY:
            self._logged = now
            left = (now - self._start) * (self._total - done) / (done - self._first)
            logger.info("shards of text: %d of %d are ready, %.0f s left", done, self._total, left)


def _until(stopped: Event | None, documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents until they are no longer needed.

    Raises:
        CancelledError: when they are not.
    """
    for document in documents:
        if stopped is not None and stopped.is_set():
            raise CancelledError
        yield document
