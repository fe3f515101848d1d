"""The batches of a pre-training: ``(seed, phases, step) → rows → ids and labels``, with no state but the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claf2.corpus.batches import InputLayout, MaskDraws
from claf2.corpus.corpus import Corpus
from claf2.corpus.order import shard_order, unread_spans, window_bounds
from claf2.corpus.rows import Rows
from claf2.corpus.section import Phase
from claf2.data.batch import Batch
from claf2.errors import ConfigError, DataError
from claf2.runtime.seed import generator

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CorpusStream"]


@dataclass(frozen=True)
class _Step:
    """The rows of one optimizer step, over all processes."""

    step: int
    length: int
    rows: Rows


@dataclass
class _Position:
    """A place in the endless sequence of rows: inside a window of an epoch."""

    epoch: int = 0
    window: int = 0
    offset: int = 0
    recut: Rows | None = None
    """The rows of the window, where a change of length has divided them anew."""
    recuts: int = 0
    """How often it has."""

    def enter_next(self, windows: int) -> None:
        """Move to the start of the next window."""
        self.window, self.offset, self.recut, self.recuts = self.window + 1, 0, None, 0
        if self.window == windows:
            self.epoch, self.window = self.epoch + 1, 0


class CorpusStream:
    """The training data of a pre-training as a seeded sequence of (task, micro-batches of one batch).

    It is a function of the seed, the phases and the step. The number of processes and of workers, and where a training
    was interrupted, change nothing. It has one epoch, which ends with the last phase.

    Args:
        task: the name under which batches are yielded.
        corpus: the text.
        phases: consecutive parts, each with a length and a batch size.
        seed: the run's seed.
        rank: which of several processes this is; it gets every ``world_size``-th row of a batch.
        world_size: the number of processes.
        workers: threads that prepare batches ahead; with 0 a batch is prepared when it is needed.
        max_tokens: the most tokens of a micro-batch, padding included; ``None``: a process's rows are one micro-batch.
            A single row may exceed it.

    Raises:
        ConfigError: if the phases do not follow each other, or are empty.
    """

    def __init__(
        self,
        task: str,
        corpus: Corpus,
        phases: Sequence[Phase],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 1,
        max_tokens: int | None = None,
    ) -> None:
        import numpy as np

        ends = [phase.until for phase in phases]
        if not ends or ends != sorted(set(ends)):
            raise ConfigError("phases", f"must end one after another, got the steps {ends}")
        self.epochs = 1
        self._task = task
        self._corpus = corpus
        self._phases = list(phases)
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._workers = workers
        self._max_tokens = max_tokens
        self._layout = InputLayout(corpus.tokenizer, corpus.instances)
        self._weights = np.array([corpus.section.sources[block.source].weight for block in corpus.blocks], float)
        self._orders: dict[int, np.ndarray] = {}
        self._windows: dict[tuple[int, int, int], Rows] = {}

    @property
    def steps_per_epoch(self) -> int:
        """The number of optimizer steps of all phases."""
        return self._phases[-1].until

    def epoch(self, epoch: int, start: int = 0, paused: Collection[str] = ()) -> Iterator[tuple[str, list[Batch]]]:
        """Yield (task, micro-batches) for the steps of an epoch.

        Args:
            epoch: the number of the epoch, from 0.
            start: the first step to yield.
            paused: has no effect, since there is one task.
        """
        steps = self._steps(epoch * self.steps_per_epoch + start)
        if self._workers == 0:
            yield from ((self._task, self._load(step)) for step in steps)
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="claf2-batch") as pool:
            pending: deque[Future[list[Batch]]] = deque()
            try:
                for step in steps:
                    pending.append(pool.submit(self._load, step))
                    if len(pending) > 2 * self._workers:
                        yield self._task, pending.popleft().result()
                while pending:
                    yield self._task, pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _steps(self, start: int) -> Iterator[_Step]:
        """Yield the rows of each step from ``start`` on."""
        position, begin, length = _Position(), 0, 0
        for phase in self._phases:
            if length not in (0, phase.max_seq_length):
                self._change_length(position, length, phase.max_seq_length)
            length = phase.max_seq_length
            if start >= phase.until:
                self._skip(position, (phase.until - begin) * phase.batch_size, length)
            else:
                first = max(start, begin)
                self._skip(position, (first - begin) * phase.batch_size, length)
                for step in range(first, phase.until):
                    yield _Step(step, length, self._take(position, phase.batch_size, length))
            begin = phase.until

    def _skip(self, position: _Position, rows: int, length: int) -> None:
        """Move a position over some rows. It never stays at the end of a window."""
        barren = position.epoch
        while True:
            size = self._window_size(position, length)
            if rows < size - position.offset:
                position.offset += rows
                return
            rows -= size - position.offset
            barren = position.epoch if size else barren
            position.enter_next(len(self._bounds(position.epoch)))
            if position.epoch > barren + self._patience():
                raise DataError("corpus", "contains no rows", hint="check the weights and the files of its sources")

    def _patience(self) -> int:
        """Return how many epochs without a row there may be: a source with a small weight is absent from most."""
        positive = self._weights[self._weights > 0]
        return 1 + int(1 / positive.min()) if len(positive) else 0

    def _take(self, position: _Position, count: int, length: int) -> Rows:
        """Return the next rows, and move the position over them."""
        parts = []
        while count:
            rows = self._window_rows(position, length)
            part = rows.take(slice(position.offset, position.offset + count))
            parts.append(part)
            count -= len(part)
            self._skip(position, len(part), length)
        return Rows.concatenate(parts)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {epoch: shard_order(self._weights, self._seed, epoch)}
        return self._orders[epoch]

    def _bounds(self, epoch: int) -> list[tuple[int, int]]:
        return window_bounds(len(self._order(epoch)), self._corpus.section.window, epoch)

    def _window_shards(self, position: _Position) -> list[int]:
        first, after = self._bounds(position.epoch)[position.window]
        shards: list[int] = self._order(position.epoch)[first:after].tolist()
        return shards

    def _window_size(self, position: _Position, length: int) -> int:
        if position.recut is not None:
            return len(position.recut)
        room = length - self._layout.special_tokens
        return sum(self._corpus.row_count(shard, room) for shard in self._window_shards(position))

    def _window_rows(self, position: _Position, length: int) -> Rows:
        """Return all rows of a window, shuffled."""
        if position.recut is not None:
            return position.recut
        key = (position.epoch, position.window, length)
        if key not in self._windows:
            room = length - self._layout.special_tokens
            shards = self._window_shards(position)
            rows = Rows.concatenate([_of_shard(self._corpus.rows(shard, room), shard) for shard in shards])
            self._windows = {key: self._shuffle(rows, position, length)}
        return self._windows[key]

    def _shuffle(self, rows: Rows, position: _Position, length: int) -> Rows:
        rng = generator(self._seed, "rows", position.epoch, position.window, length, position.recuts)
        return self._corpus.instances.arrange(rows.take(rng.permutation(len(rows))), rng)

    def _change_length(self, position: _Position, old: int, new: int) -> None:
        """Divide the unread text of the current window into rows of another length."""
        import numpy as np

        if position.recut is None and position.offset == 0:
            return
        rows = self._window_rows(position, old).take(slice(position.offset, None))
        room = new - self._layout.special_tokens
        parts = []
        for shard in np.unique(rows.shards).tolist():
            own = rows.shards == shard
            spans = unread_spans(rows.starts[own], rows.ends[own])
            parts.append(_of_shard(self._corpus.cut(shard, spans, room), shard))
        position.recuts += 1
        position.offset = 0
        position.recut = self._shuffle(Rows.concatenate(parts), position, new)

    def _load(self, step: _Step) -> list[Batch]:
        """Return this process's micro-batches of a step."""
        import numpy as np

        drawn = MaskDraws.of_step(self._seed, step.step, len(step.rows), step.length)
        own = np.arange(self._rank, len(step.rows), self._world_size)
        if not len(own):
            return [self._batch(step, np.array([0]), drawn).dummy_batch()]
        size = len(own) if self._max_tokens is None else max(1, self._max_tokens // step.length)
        return [self._batch(step, own[first : first + size], drawn) for first in range(0, len(own), size)]

    def _batch(self, step: _Step, rows: np.ndarray, drawn: MaskDraws) -> Batch:
        own = replace(drawn, draws=drawn.draws[:, rows], order=drawn.order[rows])
        return Batch(
            self._layout.arrays(
                step.rows.take(rows), self._corpus.shard, step.length, self._corpus.masks, own, step.step
            )
        )


def _of_shard(rows: Rows, shard: int) -> Rows:
    return replace(rows, shards=rows.shards + shard)
