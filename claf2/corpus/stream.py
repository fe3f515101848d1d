"""The batches of a pre-training: ``(seed, phases, step) → rows → ids and labels``, with no state but the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claf2.corpus.batches import InputLayout, MaskDraws
from claf2.corpus.corpus import Corpus
from claf2.corpus.rows import Rows
from claf2.corpus.section import Phase
from claf2.corpus.windows import Windows
from claf2.data.batch import Batch
from claf2.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CorpusStream", "StepRows"]


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step, over all processes."""

    step: int
    length: int
    rows: Rows


class _Reader:
    """A place in the endless sequence of rows: inside a window of an epoch.

    Args:
        windows: the windows of the run.
        pool: prepares the next window in the background; ``None``: nothing does.
    """

    def __init__(self, windows: Windows, pool: ThreadPoolExecutor | None) -> None:
        self._windows = windows
        self._pool = pool
        self._epoch = self._window = self._offset = 0
        self._length = 0
        self._recut: Rows | None = None  # the rest of the window, where a change of length has divided it anew
        self._recuts = 0
        self._epochs_rows: int | None = None  # the rows of each epoch, 0 where they differ; not counted yet: None
        self._last_epoch = 0  # the last epoch in which a window had rows

    def skip(self, rows: int, length: int) -> None:
        """Move over some rows of this length. The numbers of rows suffice for that.

        Raises:
            DataError: if there are no rows at all.
        """
        if length != self._length:
            self._change_length(length)
        while rows > (left := self._size() - self._offset):
            rows -= left
            self._enter_next_window()
            if self._epoch > 0 and self._window == 0:
                rows = self._skip_epochs(rows)
        self._offset += rows

    def _skip_epochs(self, rows: int) -> int:
        """Move over whole epochs at once, and return how many rows remain."""
        if self._epochs_rows is None:
            self._epochs_rows = self._windows.epoch_rows(self._length) or 0
        # At least one row remains, so that a place at the end of an epoch stays there.
        if self._epochs_rows and (epochs := (rows - 1) // self._epochs_rows) > 0:
            self._epoch += epochs
            self._last_epoch = self._epoch - 1
            rows -= epochs * self._epochs_rows
        return rows

    def take(self, count: int) -> Rows:
        """Return the next rows, and move over them.

        Raises:
            DataError: if there are no rows at all.
        """
        parts = []
        while count:
            part = self._rows().take(slice(self._offset, self._offset + count))
            if len(part):
                parts.append(part)
                count -= len(part)
                self._offset += len(part)
            else:
                # Not before the next row is wanted, since its window may still be in preparation.
                self._enter_next_window()
        return Rows.concatenate(parts)

    def _change_length(self, length: int) -> None:
        """Divide what has not been read of the window into rows of another length."""
        if self._recut is not None or self._offset > 0:
            unread = self._rows().take(slice(self._offset, None))
            if len(unread):
                self._recuts += 1
                self._recut = self._windows.recut(unread, (self._epoch, self._window, self._recuts), length)
                self._offset = 0
            else:
                self._enter_next_window()
        self._length = length
        self._epochs_rows = None

    def _rows(self) -> Rows:
        if self._recut is not None:
            return self._recut
        return self._windows.rows(self._epoch, self._window, self._length, self._pool)

    def _size(self) -> int:
        if self._recut is not None:
            return len(self._recut)
        return self._windows.size(self._epoch, self._window, self._length)

    def _enter_next_window(self) -> None:
        if self._size():
            self._last_epoch = self._epoch
        self._window, self._offset, self._recut, self._recuts = self._window + 1, 0, None, 0
        if self._window >= self._windows.count(self._epoch):
            self._epoch, self._window = self._epoch + 1, 0
        if self._epoch > self._last_epoch + self._windows.patience():
            raise DataError("corpus", "contains no rows", hint="check the files and the weights of its sources")


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
        ends = [phase.until for phase in phases]
        if not ends or ends != sorted(set(ends)):
            raise ConfigError("phases", f"must end one after another, got the steps {ends}")
        self.epochs = 1
        self._task = task
        self._corpus = corpus
        self._phases = list(phases)
        self.seed = seed
        self._rank, self._world_size = rank, world_size
        self._workers = workers
        self._max_tokens = max_tokens
        self.layout = InputLayout(corpus.tokenizer, corpus.instances, hides=corpus.masks.effect == "hide")
        """How rows become inputs."""

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
        first = epoch * self.steps_per_epoch + start
        windows = Windows(
            self._corpus,
            seed=self.seed,
            special_tokens=self.layout.special_tokens,
            share=self._rank / self._world_size,
        )
        if self._workers == 0:
            yield from ((self._task, self._load(step)) for step in self._steps(first, windows, None))
            return
        # One thread more, which prepares the next window.
        with ThreadPoolExecutor(self._workers + 1, thread_name_prefix="claf2-batch") as pool:
            pending: deque[Future[list[Batch]]] = deque()
            try:
                for step in self._steps(first, windows, pool):
                    pending.append(pool.submit(self._load, step))
                    if len(pending) > 2 * self._workers:
                        yield self._task, pending.popleft().result()
                while pending:
                    yield self._task, pending.popleft().result()
            finally:
                windows.stop()
                for future in pending:
                    future.cancel()

    def _steps(self, start: int, windows: Windows, pool: ThreadPoolExecutor | None) -> Iterator[StepRows]:
        """Yield the rows of each step from ``start`` on."""
        reader = _Reader(windows, pool)
        begin = 0
        for phase in self._phases:
            if start >= phase.until:
                reader.skip((phase.until - begin) * phase.batch_size, phase.max_seq_length)
            else:
                first = max(start, begin)
                reader.skip((first - begin) * phase.batch_size, phase.max_seq_length)
                for step in range(first, phase.until):
                    yield StepRows(step, phase.max_seq_length, reader.take(phase.batch_size))
            begin = phase.until

    def step_rows(self, step: int) -> StepRows:
        """Return the rows of one step, over all processes."""
        windows = Windows(self._corpus, seed=self.seed, special_tokens=self.layout.special_tokens)
        return next(self._steps(step, windows, None))

    def _load(self, step: StepRows) -> list[Batch]:
        """Return this process's micro-batches of a step."""
        import numpy as np

        drawn = MaskDraws.of_step(self.seed, step.step, len(step.rows), step.length)
        own = np.arange(self._rank, len(step.rows), self._world_size)
        if not len(own):
            return [self._batch(step, np.array([0]), drawn).dummy_batch()]
        size = len(own) if self._max_tokens is None else max(1, self._max_tokens // step.length)
        return [self._batch(step, own[first : first + size], drawn) for first in range(0, len(own), size)]

    def _batch(self, step: StepRows, rows: np.ndarray, drawn: MaskDraws) -> Batch:
        own = replace(drawn, draws=drawn.draws[:, rows], order=drawn.order[rows])
        return Batch(
            self.layout.arrays(
                step.rows.take(rows), self._corpus.shard, step.length, self._corpus.masks, own, step.step
            )
        )
