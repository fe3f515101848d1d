"""The windows of a run: which shards each consists of, and its rows in the order in which they are read."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

from claf2.corpus.corpus import Corpus
from claf2.corpus.order import shard_order, unread_spans, window_bounds
from claf2.corpus.rows import Rows
from claf2.runtime.seed import generator

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Windows"]


class Windows:
    """The windows of a corpus in the order of a seed.

    Args:
        corpus: the text.
        seed: the run's seed.
        special_tokens: how many tokens of a row are special ones.
        share: the place of this process among those that make shards, in [0, 1): they begin at different ones.
    """

    def __init__(self, corpus: Corpus, *, seed: int, special_tokens: int, share: float = 0.0) -> None:
        import numpy as np

        self._corpus = corpus
        self._seed = seed
        self._special_tokens = special_tokens
        self._share = share
        self._weights = np.array([corpus.section.sources[block.source].weight for block in corpus.blocks], float)
        self._orders: dict[int, np.ndarray] = {}
        self._rows: dict[tuple[int, int, int], Future[Rows]] = {}
        self._stopped = Event()

    def patience(self) -> int:
        """Return how many epochs without a row there may be: a source with a small weight is absent from most."""
        positive = self._weights[self._weights > 0]
        return 1 + int(1 / positive.min()) if len(positive) else 0

    def count(self, epoch: int) -> int:
        """Return the number of windows of an epoch."""
        return len(window_bounds(len(self._shard_order(epoch)), self._corpus.section.window, epoch))

    def epoch_rows(self, length: int) -> int | None:
        """Return the number of rows of any epoch after the first whose rows have this length; ``None`` if epochs
        differ, because a weight is not a whole number."""
        if (self._weights % 1).any():
            return None
        return sum(self.size(1, window, length) for window in range(self.count(1)))

    def shards(self, epoch: int, window: int) -> list[int]:
        """Return the shards of a window; see ``shard_order`` for their numbers."""
        order = self._shard_order(epoch)
        bounds = window_bounds(len(order), self._corpus.section.window, epoch)
        # An epoch has no window where all weights are so small that no shard is read in it.
        first, after = bounds[window] if bounds else (0, 0)
        shards: list[int] = order[first:after].tolist()
        return shards

    def size(self, epoch: int, window: int, length: int) -> int:
        """Return the number of rows of a window whose rows have this length. Shards are opened only where the number
        is not known yet."""
        if (epoch, window, length) in self._rows:
            return len(self._rows[epoch, window, length].result())
        room = length - self._special_tokens
        shards = self.shards(epoch, window)
        if not all(self._corpus.knows_rows(shard, room) for shard in shards):
            self._corpus.open_shards(shards, share=self._share, stopped=self._stopped)
        return sum(self._corpus.row_count(shard, room) for shard in shards)

    def rows(self, epoch: int, window: int, length: int, pool: ThreadPoolExecutor | None) -> Rows:
        """Return all rows of a window, shuffled.

        Args:
            epoch: the number of the epoch.
            window: the number of the window in it.
            length: the length of its rows in tokens.
            pool: prepares the next window in the background; ``None``: nothing does.
        """
        key = (epoch, window, length)
        if key not in self._rows:
            self._rows = {key: _completed(self._prepare(*key))}
        rows = self._rows[key].result()
        following = (epoch, window + 1, length) if window + 1 < self.count(epoch) else (epoch + 1, 0, length)
        if pool is not None and following not in self._rows:
            self._rows = {key: self._rows[key], following: pool.submit(self._prepare, *following)}
        return rows

    def recut(self, rows: Rows, names: tuple[int, ...], length: int) -> Rows:
        """Divide the text of some rows anew, and shuffle the result.

        Args:
            rows: what has not been read.
            names: what the order is drawn by.
            length: the length of the new rows in tokens.
        """
        import numpy as np

        parts = [rows.take(slice(0, 0))]
        for shard in np.unique(rows.shards).tolist():
            own = rows.shards == shard
            spans = unread_spans(rows.starts[own], rows.ends[own])
            cut = self._corpus.cut(shard, spans, length - self._special_tokens)
            parts.append(cut.of_shard(shard, len(self._corpus)))
        return self._shuffle(Rows.concatenate(parts), (*names, length))

    def stop(self) -> None:
        """Give up what is being prepared in the background."""
        self._stopped.set()

    def _prepare(self, epoch: int, window: int, length: int) -> Rows:
        shards = self.shards(epoch, window)
        self._corpus.open_shards(shards, share=self._share, stopped=self._stopped)
        room, total = length - self._special_tokens, len(self._corpus)
        parts = [self._corpus.rows(shard, room).of_shard(shard, total) for shard in shards]
        rows = Rows.concatenate([Rows.empty(self._corpus.instances.segments), *parts])
        return self._shuffle(rows, (epoch, window, length))

    def _shuffle(self, rows: Rows, names: tuple[int, ...]) -> Rows:
        rng = generator(self._seed, "rows", *names)
        return self._corpus.instances.arrange(rows.take(rng.permutation(len(rows))), rng)

    def _shard_order(self, epoch: int) -> np.ndarray:
        orders = self._orders
        if epoch not in orders:
            # The next epoch is prepared while this one is read.
            recent = {number: order for number, order in orders.items() if number >= epoch - 1}
            orders = self._orders = {**recent, epoch: shard_order(self._weights, self._seed, epoch)}
        return orders[epoch]


def _completed(rows: Rows) -> Future[Rows]:
    future: Future[Rows] = Future()
    future.set_result(rows)
    return future
