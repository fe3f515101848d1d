"""Features → batches, and the seeded stream of (task, batch). The order depends on seed and epoch alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING

from claf2.features import FeatureSet
from claf2.samplers import MtDnn, Sampler
from claf2.seed import generator
from claf2.split import Costs, cut, share

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

__all__ = ["Batch", "Source", "Stream", "by_length"]

GROWTH = 4
"""How many times the rows of the first batch of an evaluation a later one may have."""

ABSENT = -1
"""An id that no tokenizer gives."""


@dataclass(frozen=True)
class Batch:
    """B features as rectangular arrays: ``input_ids``, ``attention_mask``, ``token_type_ids`` of shape (B, L), with L
    the longest of them (of several texts a feature: (B, C, L)), and the inputs and targets of the head, (B,) or
    more."""

    arrays: Mapping[str, np.ndarray]
    counts: bool = True
    """Whether its loss counts; it does not where a process has no row of a batch and keeps the others company."""

    def __len__(self) -> int:
        return len(self.arrays["input_ids"])

    def tensors(self, device: torch.device) -> dict[str, torch.Tensor]:
        """Return the arrays as tensors on ``device``, without waiting for it, whole numbers as int64, others as
        float32; and the rows' ``lengths`` in tokens, (B,), on the host."""
        import torch

        tensors = {"lengths": torch.from_numpy(self.arrays["attention_mask"].sum(-1))}
        for name, each in self.arrays.items():
            tensor = torch.from_numpy(each).to(torch.int64 if each.dtype.kind == "i" else torch.float32)
            if device.type == "cuda":
                tensor = tensor.pin_memory()
            tensors[name] = tensor.to(device, non_blocking=True)
        return tensors

    def company(self) -> Batch:
        """Return its first row as a batch that keeps other processes company: its loss does not count."""
        return Batch({name: each[:1] for name, each in self.arrays.items()}, counts=False)

    def halves(self) -> list[Batch]:
        """Return the batch as two of half its rows, or as itself where it has one row."""
        middle = len(self) // 2
        if not middle:
            return [self]
        cuts = (slice(0, middle), slice(middle, None))
        return [Batch({name: each[rows] for name, each in self.arrays.items()}, self.counts) for rows in cuts]


@dataclass(frozen=True)
class Source:
    """The features of one task, and how a batch of them is filled up."""

    features: FeatureSet
    pad_id: int
    fields: Mapping[str, int]
    """What the head reads and learns from besides the ids, and what fills it up."""
    multiple: int = 1
    """Rows are filled up to a multiple of this many tokens, so that few shapes occur."""
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further fields, with a value for each feature, (M, …)."""

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each feature, (M,)."""
        return self.features.lengths()

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the features at ``rows``, (B,), as one batch; targets only where the data has them."""
        import numpy as np

        padding = {"input_ids": self.pad_id, "token_type_ids": 0}
        padding |= {name: fill for name, fill in self.fields.items() if name in self.features.table.column_names}
        table = self.features.take(rows, padding)
        columns = {name: table[name].combine_chunks() for name in padding}
        arrays = {name: _rectangle(columns[name], fill) for name, fill in padding.items()}
        arrays["attention_mask"] = (_rectangle(columns["input_ids"], ABSENT) != ABSENT).astype(np.int64)
        length = arrays["input_ids"].shape[-1]
        if length % self.multiple:
            fills = {**padding, "attention_mask": 0}
            arrays = {
                name: _longer(each, length, -length % self.multiple, fills[name]) for name, each in arrays.items()
            }
        return Batch({**arrays, **{name: np.array(each[rows]) for name, each in self.more.items()}})


class Stream:
    """The training data of one or more tasks as an endless, seeded sequence of (task, parts of one batch).

    Every epoch shuffles each task's rows anew by (seed, task, epoch) and cuts them into batches, the last one partial;
    where there are several tasks a sampler says which one each step is of, by (seed, epoch). Nothing else is drawn
    from, so a position in it is two numbers: the epoch and the step within.

    Args:
        sources: the data of each task.
        batch_sizes: the rows of a part, for each task.
        parts: how many parts an optimizer step takes: a step has ``batch_size * parts`` rows.
        seed: the run's seed.
        workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
        costs: how a step's rows are cut into parts by their length; ``None``: into ``parts`` as they come.
        sampler: how tasks are mixed.
        epochs: how many epochs are planned, for samplers that change from the first to the last.
        rank: which of several processes this is: each gets its share of every batch.
        ranks: how many they are.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        batch_sizes: Mapping[str, int],
        parts: int = 1,
        seed: int,
        workers: int = 1,
        costs: Costs | None = None,
        sampler: Sampler | None = None,
        epochs: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._rank = rank
        self._ranks = ranks
        self._sources = dict(sources)
        self._batch_sizes = batch_sizes
        self._parts = parts
        self._seed = seed
        self._workers = workers
        self._costs = costs
        self._sampler = sampler or MtDnn()
        self.epochs = epochs
        self._sizes = {
            task: -(-len(source.features) // (batch_sizes[task] * parts)) for task, source in self._sources.items()
        }

    @property
    def steps_per_epoch(self) -> int:
        """The number of optimizer steps of an epoch: as many as all tasks have batches."""
        return sum(self._sizes.values())

    def imbalance(self) -> tuple[float, float]:
        """Return by how much the longest share of a batch exceeds the mean share in tokens, in percent: over the first
        epoch, and in its worst batch."""
        import numpy as np

        sums = []
        for task, rows in self._order(0, ()):
            lengths = self._sources[task].lengths[rows]
            shares = (share(lengths, rank, self._ranks) for rank in range(self._ranks))
            sums.append([int(lengths[mine].sum()) for mine in shares])
        longest, mean = np.max(sums, 1), np.mean(sums, 1)
        return 100.0 * float(longest.sum() / mean.sum() - 1), 100.0 * float((longest / mean).max() - 1)

    def epoch(self, epoch: int, start: int = 0, resting: Collection[str] = ()) -> Iterator[tuple[str, list[Batch]]]:
        """Yield (task, parts) of an epoch, counted from 0, from its step ``start`` on; the steps of tasks that rest go
        to the others."""
        steps = self._order(epoch, resting)[start:]
        if self._workers == 0:
            yield from ((task, self._load(task, rows)) for task, rows in steps)
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="claf2-batch") as pool:
            ahead: deque[tuple[str, Future[list[Batch]]]] = deque()
            try:
                for task, rows in steps:
                    ahead.append((task, pool.submit(self._load, task, rows)))
                    if len(ahead) > 2 * self._workers:
                        yield _result(ahead)
                while ahead:
                    yield _result(ahead)
            finally:
                for _, future in ahead:
                    future.cancel()

    def _order(self, epoch: int, resting: Collection[str]) -> list[tuple[str, np.ndarray]]:
        sizes = {task: size for task, size in self._sizes.items() if task not in resting} or self._sizes
        batches = {task: self._batches(task, epoch) for task in sizes}
        names = list(sizes) * self.steps_per_epoch
        if len(sizes) > 1:
            progress = min(1.0, epoch / (self.epochs - 1)) if self.epochs > 1 else 0.0
            names = self._sampler.order(sizes, self.steps_per_epoch, progress, generator(self._seed, "mix", epoch))
        return [(task, next(batches[task])) for task in names]

    def _batches(self, task: str, epoch: int) -> Iterator[np.ndarray]:
        """Yield the rows of one batch after another, shuffled anew after each pass over the task."""
        step = self._batch_sizes[task] * self._parts
        for again in count():
            names = (task, epoch, again) if again else (task, epoch)
            rows = generator(self._seed, "order", *names).permutation(len(self._sources[task].features))
            yield from (rows[start : start + step] for start in range(0, len(rows), step))

    def _load(self, task: str, rows: np.ndarray) -> list[Batch]:
        source, size = self._sources[task], -(-self._batch_sizes[task] // self._ranks)
        if self._ranks > 1:
            mine = share(source.lengths[rows], self._rank, self._ranks)
            if not len(mine):
                return [source.batch(rows[:1]).company()]
            rows = rows[mine]
        if self._costs is None:
            return [source.batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        return [source.batch(rows[part]) for part in cut(source.lengths[rows], replace(self._costs, max_rows=size))]


def _result(ahead: deque[tuple[str, Future[list[Batch]]]]) -> tuple[str, list[Batch]]:
    task, future = ahead.popleft()
    return task, future.result()


def by_length(lengths: np.ndarray, size: int) -> Sequence[np.ndarray]:
    """Cut all rows into batches with the longest features first, so that little of a batch is padding. The first one
    has ``size`` rows, and later ones as many as make no more tokens than it has, but at most ``GROWTH`` times its rows,
    since some outputs grow with the rows and not with the tokens."""
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    budget = size * int(lengths.max(initial=1))
    while start < len(order):
        rows = min(GROWTH * size, max(size, budget // max(1, int(lengths[order[start]]))))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def _longer(array: np.ndarray, length: int, more: int, fill: int) -> np.ndarray:
    """Fill up the last axis where it is that of the tokens."""
    import numpy as np

    if array.ndim < 2 or array.shape[-1] != length:
        return array
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, more)], constant_values=fill)


def _rectangle(array: pa.Array, fill: int) -> np.ndarray:
    """Turn an array of numbers into (B,), one of lists into (B, L), one of lists of lists into (B, C, L) …"""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(array.type):
        return np.array(array.to_numpy(zero_copy_only=False))
    lengths = pc.list_value_length(array).to_numpy()
    values = _rectangle(array.flatten(), fill)
    present = np.arange(lengths.max())[None, :] < lengths[:, None]
    filled = np.full((*present.shape, *values.shape[1:]), fill, dtype=values.dtype)
    filled[present] = values
    return filled
