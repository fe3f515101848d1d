"""Who trains the cells of a bench: this process, some processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from claf2.errors import Interrupted, RunError

__all__ = ["Backend", "Here", "Processes", "RayCluster"]

J = TypeVar("J")
R = TypeVar("R")


class Backend(Protocol):
    """Trains cells, some at a time."""

    workers: int
    """How many it trains at a time."""

    def map(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | None]]:
        """Yield each job with what came of it, in the order in which they end; ``None`` where its process died."""


class Here:
    """This process, one cell after another."""

    workers = 1

    def map(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | None]]:
        """See ``Backend``."""
        for job in jobs:
            yield job, work(job)


class Processes:
    """Processes of this machine; where it has GPUs, each sees one of them.

    Args:
        workers: how many.
        gpus: how many the machine has.
    """

    def __init__(self, workers: int, gpus: int = 0) -> None:
        self.workers = workers
        self._gpus = gpus

    def map(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | None]]:
        """See ``Backend``. A process that dies takes those down that run beside it; what waited goes to new ones."""
        left = list(jobs)
        while left:
            ended = []
            try:
                for job, outcome in self._round(work, left):
                    ended.append(job)
                    yield job, outcome
            except KeyboardInterrupt:
                raise Interrupted("stopped; run the same bench again to go on") from None
            left = [job for job in left if job not in ended]

    def _round(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | None]]:
        context = multiprocessing.get_context("spawn")
        numbers = context.Queue()
        for number in range(self.workers):
            numbers.put(number)
        with ProcessPoolExecutor(self.workers, context, _begin, (numbers, self._gpus)) as pool:
            waiting, running = list(jobs), dict[Future[R], J]()
            try:
                while waiting or running:
                    while waiting and len(running) < self.workers:
                        future = pool.submit(work, waiting[0])
                        running[future] = waiting.pop(0)
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        yield running.pop(future), outcome
            except BrokenProcessPool:
                yield from ((job, None) for job in running.values())


def _begin(numbers: Any, gpus: int) -> None:
    """Take a number, and the GPU that goes with it."""
    number = numbers.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)


class RayCluster:
    """A Ray cluster: that of ``RAY_ADDRESS``, or one on this machine.

    Args:
        cpus, gpus: what each cell takes of a machine; a share of a GPU lets several cells use it.

    Raises:
        RunError: when Ray is not installed.
    """

    def __init__(self, cpus: int = 1, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError:
            raise RunError("--backend ray needs Ray: pip install 'claf2[ray]'") from None
        self._ray: Any = ray
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        self._shares = {"num_cpus": cpus, "num_gpus": gpus}
        whole = self._ray.cluster_resources()
        fits = [int(whole.get("CPU", 1) // cpus)] + ([int(whole.get("GPU", 0) / gpus)] if gpus else [])
        self.workers = min(fits)
        if self.workers < 1:
            raise RunError(f"no machine of the cluster has {cpus} CPUs and {gpus} GPUs for a cell")

    def map(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | None]]:
        """See ``Backend``."""
        ray = self._ray
        remote = ray.remote(max_retries=0, **self._shares)(work)
        running = {remote.remote(job): job for job in jobs}
        try:
            while running:
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                job = running.pop(ended)
                try:
                    outcome = ray.get(ended)
                except ray.exceptions.WorkerCrashedError:
                    outcome = None
                yield job, outcome
        except KeyboardInterrupt:
            for each in running:
                ray.cancel(each)
            raise Interrupted("stopped; run the same bench again to go on") from None
