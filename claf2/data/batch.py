"""Features → batches, and the seeded stream of (task, batch). The order depends on seed and epoch alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Protocol

from claf2.data.features import FeatureList, FeatureSet
from claf2.data.microbatch import CostModel, pack_microbatches, partition_by_length
from claf2.data.ragged import RaggedColumn
from claf2.data.samplers import MtDnnSampler, Sampler
from claf2.runtime.seed import generator

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Batch", "BatchStream", "Stream", "TaskDataset", "batches_by_length", "single_rows"]

MAX_GROWTH = 4
"""How many times the rows of the first evaluation batch a later batch may have."""

NO_ID = -1
"""An id that no tokenizer produces."""


@dataclass(frozen=True)
class Batch:
    """B features as rectangular arrays: ``input_ids``, ``attention_mask``, ``token_type_ids`` of shape (B, L), with L
    the longest of them (with C texts per feature: (B, C, L)), and the inputs and targets of the head, (B,) or
    (B, …)."""

    arrays: Mapping[str, np.ndarray]
    has_loss: bool = True
    """Whether its loss counts. It does not where a process has no row of a batch and only joins the passes of the
    others."""

    def __len__(self) -> int:
        return len(self.arrays["input_ids"])

    def tensors(self, device: torch.device, *, target_places: bool = False) -> dict[str, torch.Tensor]:
        """Return the arrays as tensors on ``device``, integers as int64, others as float32, without waiting for the
        device; and the ``lengths`` of the rows in tokens, (B,), on the host.

        Args:
            device: the device.
            target_places: also return ``target_places``, (M,): the places among B * L whose ``labels`` are not
                negative. They are found on the host, since a GPU would have to be waited for.
        """
        import numpy as np
        import torch

        tensors = {"lengths": torch.from_numpy(self.arrays["attention_mask"].sum(-1))}
        places = {"target_places": np.flatnonzero(self.arrays["labels"] >= 0)} if target_places else {}
        for name, array in {**self.arrays, **places}.items():
            tensor = torch.from_numpy(array).to(torch.int64 if array.dtype.kind == "i" else torch.float32)
            if device.type == "cuda":
                tensor = tensor.pin_memory()
            tensors[name] = tensor.to(device, non_blocking=True)
        return tensors

    def dummy_batch(self) -> Batch:
        """Return its first row as a batch without loss, for passes that all processes make together."""
        return Batch({name: array[:1] for name, array in self.arrays.items()}, has_loss=False)

    def halves(self) -> list[Batch]:
        """Return two batches with half of the rows each, or the batch itself where it has one row."""
        middle = len(self) // 2
        if not middle:
            return [self]
        halves = (slice(0, middle), slice(middle, None))
        return [Batch({name: array[rows] for name, array in self.arrays.items()}, self.has_loss) for rows in halves]


@dataclass(frozen=True)
class TaskDataset:
    """The features of one task, and how they are padded to batches."""

    features: FeatureSet | FeatureList
    pad_id: int
    fields: Mapping[str, int]
    """The features that the head reads and learns from besides the ids → the padding value."""
    multiple: int = 1
    """Rows are padded to a multiple of this many tokens, so that few shapes occur."""
    extra_columns: Mapping[str, RaggedColumn] = field(default_factory=dict)
    """Further fields, with an array for each feature."""
    unread: np.ndarray | None = None
    """Which texts of the features are left out of their batches, (M, C)."""

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each feature, (M,)."""
        return self.features.lengths()

    @cached_property
    def _token_fields(self) -> Set[str]:
        """The fields with a value for each token. A row may have as many values of another field by chance, so that
        the shortest and the longest row are looked at."""
        import numpy as np

        padding = dict.fromkeys({"input_ids", "token_type_ids", *self.fields} & set(self.features.names), 0)
        rows = [np.array([row]) for row in (self.lengths.argmin(), self.lengths.argmax())]
        samples = [self.features.arrays(row, padding) for row in rows]
        return {
            name
            for name in padding
            if all(part[name].ndim > 1 and part[name].shape[-1] == part["input_ids"].shape[-1] for part in samples)
        }

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the features at ``rows``, (B,), as one batch; with targets only where the data has them."""
        import numpy as np

        padding = {"input_ids": NO_ID, "token_type_ids": 0}
        padding |= {name: fill for name, fill in self.fields.items() if name in self.features.names}
        arrays = self.features.arrays(rows, padding)
        if self.unread is not None:
            arrays["input_ids"][self.unread[rows]] = NO_ID
        is_token = arrays["input_ids"] != NO_ID
        arrays["input_ids"] = np.where(is_token, arrays["input_ids"], self.pad_id)
        arrays["attention_mask"] = is_token.astype(np.int64)
        missing = -arrays["input_ids"].shape[-1] % self.multiple
        if missing:
            fills = {**padding, "input_ids": self.pad_id, "attention_mask": 0}
            for name in {"attention_mask", *self._token_fields} & arrays.keys():
                widths = [(0, 0)] * (arrays[name].ndim - 1) + [(0, missing)]
                arrays[name] = np.pad(arrays[name], widths, constant_values=fills[name])
        return Batch({**arrays, **{name: column[rows] for name, column in self.extra_columns.items()}})


class Stream(Protocol):
    """The training data of a run as an endless sequence of steps, which is divided into epochs: all that the loop needs
    to know of it. The same epoch from the same start always gives the same batches."""

    epochs: int
    """How many epochs are planned."""

    @property
    def steps_per_epoch(self) -> int:
        """The number of optimizer steps of an epoch."""

    def epoch(self, epoch: int, start: int = 0, paused: Collection[str] = ()) -> Iterator[tuple[str, list[Batch]]]:
        """Yield (task, micro-batches of this process) for the steps of an epoch, from step ``start`` on; without the
        ``paused`` tasks."""


class BatchStream:
    """The training data of one or more tasks as an endless, seeded sequence of (task, micro-batches of one batch).

    Every epoch shuffles each task's rows by (seed, task, epoch) and cuts them into batches, of which the last one may
    be smaller. With several tasks, a sampler chooses the task of each step by (seed, epoch). No other random number is
    drawn, so the position in the stream is two numbers: the epoch and the step within it.

    Args:
        datasets: the data of each task.
        batch_sizes: the most rows of a micro-batch, over all processes, for each task.
        accumulation_steps: micro-batches per optimizer step: a step has ``batch_size * accumulation_steps`` rows.
        seed: the run's seed.
        workers: threads that prepare batches ahead; with 0 a batch is prepared when it is needed.
        costs: how the rows of a step are divided into micro-batches by length; ``None``: into ``accumulation_steps``
            parts in the order of the rows.
        sampler: how tasks are mixed.
        rank: which of several processes this is; each gets its share of every batch.
        world_size: the number of processes.
    """

    def __init__(
        self,
        datasets: Mapping[str, TaskDataset],
        *,
        batch_sizes: Mapping[str, int],
        accumulation_steps: int = 1,
        seed: int,
        workers: int = 1,
        costs: CostModel | None = None,
        sampler: Sampler | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._rank = rank
        self._world_size = world_size
        self._datasets = dict(datasets)
        self._batch_sizes = batch_sizes
        self._accumulation_steps = accumulation_steps
        self._seed = seed
        self._workers = workers
        self._costs = costs
        self._sampler = sampler or MtDnnSampler()
        self.epochs = 1
        """How many epochs are planned, for samplers that change from the first epoch to the last."""
        self._sizes = {
            task: -(-len(dataset.features) // (batch_sizes[task] * accumulation_steps))
            for task, dataset in self._datasets.items()
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
            lengths = self._datasets[task].lengths[rows]
            shares = (partition_by_length(lengths, rank, self._world_size) for rank in range(self._world_size))
            sums.append([int(lengths[share].sum()) for share in shares])
        longest, mean = np.max(sums, 1), np.mean(sums, 1)
        return 100.0 * float(longest.sum() / mean.sum() - 1), 100.0 * float((longest / mean).max() - 1)

    def largest_microbatch(self, steps: int) -> int:
        """Return the tokens of this process's largest micro-batch in the first ``steps`` steps of the first epoch."""
        tokens = {task: dataset.features.token_counts() for task, dataset in self._datasets.items()}
        steps_of_epoch = self._order(0, ())[:steps]
        return max(int(tokens[task][part].sum()) for task, rows in steps_of_epoch for part in self._divide(task, rows))

    def epoch(self, epoch: int, start: int = 0, paused: Collection[str] = ()) -> Iterator[tuple[str, list[Batch]]]:
        """Yield (task, micro-batches) for the steps of an epoch.

        Args:
            epoch: the number of the epoch, from 0.
            start: the first step to yield.
            paused: tasks that are left out; their steps go to the other tasks.
        """
        steps = self._order(epoch, paused)[start:]
        if self._workers == 0:
            yield from ((task, self._load(task, rows)) for task, rows in steps)
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="claf2-batch") as pool:
            pending: deque[tuple[str, Future[list[Batch]]]] = deque()
            try:
                for task, rows in steps:
                    pending.append((task, pool.submit(self._load, task, rows)))
                    if len(pending) > 2 * self._workers:
                        yield _next_result(pending)
                while pending:
                    yield _next_result(pending)
            finally:
                for _, future in pending:
                    future.cancel()

    def _order(self, epoch: int, paused: Collection[str]) -> list[tuple[str, np.ndarray]]:
        """Return the task and the rows of each step of an epoch."""
        sizes = {task: size for task, size in self._sizes.items() if task not in paused} or self._sizes
        batches = {task: self._batches(task, epoch) for task in sizes}
        names = list(sizes) * self.steps_per_epoch
        if len(sizes) > 1:
            progress = min(1.0, epoch / (self.epochs - 1)) if self.epochs > 1 else 0.0
            names = self._sampler.order(sizes, self.steps_per_epoch, progress, generator(self._seed, "mix", epoch))
        return [(task, next(batches[task])) for task in names]

    def _batches(self, task: str, epoch: int) -> Iterator[np.ndarray]:
        """Yield the rows of one batch after another, shuffled again after each pass over the task."""
        step_rows = self._batch_sizes[task] * self._accumulation_steps
        for repeat in count():
            names = (task, epoch, repeat) if repeat else (task, epoch)
            rows = generator(self._seed, "order", *names).permutation(len(self._datasets[task].features))
            yield from (rows[start : start + step_rows] for start in range(0, len(rows), step_rows))

    def _load(self, task: str, rows: np.ndarray) -> list[Batch]:
        """Return this process's micro-batches of a step."""
        dataset = self._datasets[task]
        parts = self._divide(task, rows)
        return [dataset.batch(part) for part in parts] if parts else [dataset.batch(rows[:1]).dummy_batch()]

    def _divide(self, task: str, rows: np.ndarray) -> list[np.ndarray]:
        """Return the rows of this process's micro-batches of a step; nothing where it has no row of it."""
        lengths, size = self._datasets[task].lengths, -(-self._batch_sizes[task] // self._world_size)
        if self._world_size > 1:
            rows = rows[partition_by_length(lengths[rows], self._rank, self._world_size)]
        if self._costs is None:
            return [rows[start : start + size] for start in range(0, len(rows), size)]
        return [rows[part] for part in pack_microbatches(lengths[rows], replace(self._costs, max_rows=size))]


def _next_result(pending: deque[tuple[str, Future[list[Batch]]]]) -> tuple[str, list[Batch]]:
    task, future = pending.popleft()
    return task, future.result()


def batches_by_length(lengths: np.ndarray, size: int) -> Sequence[np.ndarray]:
    """Divide all rows into evaluation batches, the longest first, so that little of a batch is padding.

    The first batch has ``size`` rows. Later ones have as many rows as fit into its number of tokens, but at most
    ``MAX_GROWTH`` times its rows, because some outputs grow with the rows and not with the tokens.

    Args:
        lengths: the number of tokens of each row, (n,).
        size: the rows of the first batch.
    """
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    budget = size * int(lengths.max(initial=1))
    while start < len(order):
        rows = min(MAX_GROWTH * size, max(size, budget // max(1, int(lengths[order[start]]))))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def single_rows(lengths: np.ndarray) -> Sequence[np.ndarray]:
    """Return a batch for each row, the longest first.

    Args:
        lengths: the number of tokens of each row, (n,).
    """
    import numpy as np

    return np.split(np.argsort(-lengths, kind="stable"), len(lengths))
