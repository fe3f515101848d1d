"""Backends of a bench: they train cells in this process, in several processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from claf2.errors import Interrupted, RunError

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

__all__ = ["Backend", "ProcessBackend", "RayBackend", "SerialBackend"]

JobT = TypeVar("JobT")
OutcomeT = TypeVar("OutcomeT")

INTERRUPTED = "interrupted; run the same command again to resume"

SAVING_TIME = 30.0
"""Seconds that jobs on a cluster have to save their state."""


class Backend(Protocol):
    """Runs a function on many jobs, some of them at a time."""

    workers: int
    """The number of jobs at a time."""

    def map(self, function: Callable[[JobT], OutcomeT], jobs: Sequence[JobT]) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """Yield each job with its outcome, in the order in which they end; ``None`` if its process died.

        Raises:
            Interrupted: after Ctrl-C or a signal, here or in the process of a job; the jobs have saved their state.
        """


class SerialBackend:
    """Runs one job after another in this process."""

    workers = 1

    def map(self, function: Callable[[JobT], OutcomeT], jobs: Sequence[JobT]) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """See ``Backend``. What jobs set in PyTorch is as before afterwards."""
        from claf2.runtime.device import preserve_backends

        with preserve_backends():
            for job in jobs:
                yield job, function(job)


class ProcessBackend:
    """Runs jobs in processes of this machine. If it has GPUs, each process sees one of them.

    Args:
        workers: the number of processes.
        gpus: the number of GPUs of the machine.
    """

    def __init__(self, workers: int, gpus: int = 0) -> None:
        self.workers = workers
        self._gpus = gpus

    def map(self, function: Callable[[JobT], OutcomeT], jobs: Sequence[JobT]) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """See ``Backend``. If a process dies, the jobs that run at that time are lost; the others get new processes."""
        pending = list(jobs)
        while pending:
            ended = []
            try:
                for job, outcome in self._run_pool(function, pending):
                    ended.append(job)
                    yield job, outcome
            except KeyboardInterrupt:
                raise Interrupted(INTERRUPTED) from None
            pending = [job for job in pending if job not in ended]

    def _run_pool(
        self, function: Callable[[JobT], OutcomeT], jobs: Sequence[JobT]
    ) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """Run jobs in a pool until all have ended, or until a process dies, which breaks the whole pool."""
        context = multiprocessing.get_context("spawn")
        others = multiprocessing.active_children()
        worker_numbers: Queue[int] = context.Queue()
        for number in range(self.workers):
            worker_numbers.put(number)
        with ProcessPoolExecutor(self.workers, context, _init_worker, (worker_numbers, self._gpus)) as pool:
            waiting, running = list(jobs), dict[Future[OutcomeT], JobT]()
            try:
                while waiting or running:
                    # Submit only what can start at once, so that it is known which jobs a dead process takes along.
                    while waiting and len(running) < self.workers:
                        future = pool.submit(function, waiting[0])
                        running[future] = waiting.pop(0)
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        yield running.pop(future), outcome
            except BrokenProcessPool:
                yield from ((job, None) for job in running.values())
            except (KeyboardInterrupt, Interrupted):
                # A signal may have reached this process or one of them only. The pool waits until they have saved.
                for process in {*multiprocessing.active_children()} - {*others}:
                    process.terminate()
                raise


def _init_worker(worker_numbers: Queue[int], gpus: int) -> None:
    """Take the number of a worker, and with it a GPU."""
    number = worker_numbers.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)


class RayBackend:
    """Runs jobs on a Ray cluster: the one at ``RAY_ADDRESS``, or a new one on this machine.

    Args:
        cpus: the CPUs that each job takes.
        gpus: the GPUs that each job takes; with a fraction, several jobs share one.

    Raises:
        RunError: if Ray is not installed, or no job fits on the cluster.
    """

    def __init__(self, cpus: int = 1, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError:
            raise RunError("--backend ray needs Ray: pip install 'claf2[ray]'") from None
        self._ray: Any = ray  # an optional dependency, so mypy must not need its types
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        cluster = self._ray.cluster_resources()
        limits = [int(cluster.get("CPU", 1) // cpus)] + ([int(cluster.get("GPU", 0) / gpus)] if gpus else [])
        self.workers = min(limits)
        if self.workers < 1:
            raise RunError(f"no machine of the cluster has {cpus} CPUs and {gpus} GPUs: lower --cpus or --gpus")

    def map(self, function: Callable[[JobT], OutcomeT], jobs: Sequence[JobT]) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """See ``Backend``."""
        ray = self._ray
        remote = ray.remote(max_retries=0, **self._resources)(function)
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
            for reference in running:
                ray.cancel(reference)
            ray.wait(list(running), num_returns=len(running), timeout=SAVING_TIME)
            raise Interrupted(INTERRUPTED) from None
