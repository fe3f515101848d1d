"""Backends of a bench: they train cells in this process, in several processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait as wait_for_end
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from claf2.errors import Interrupted, RunError

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

__all__ = ["Backend", "ProcessBackend", "RayBackend", "SerialBackend"]

JobT = TypeVar("JobT")
OutcomeT = TypeVar("OutcomeT")

INTERRUPTED = "interrupted; run the same command again to resume"

SAVING_TIME = 30.0
"""Seconds that jobs on a cluster, or in a process whose parent has died, have to save their state."""


class Backend(Protocol):
    """Runs a function on many jobs, some of them at a time."""

    workers: int
    """The number of jobs at a time."""

    def map(
        self, function: Callable[[JobT], OutcomeT], jobs: Iterable[JobT | None], pause: float = 1.0
    ) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """Yield each job with its outcome, in the order in which they end; ``None`` if its process died.

        Args:
            function: is called with each job.
            jobs: the jobs. The next one is asked for when it can start, so that it may depend on what has ended and on
                what has come up since. ``None`` says that there is no job at present, but may be later.
            pause: the seconds after which the next job is asked for again, if none has ended before.

        Raises:
            Interrupted: after Ctrl-C or a signal, here or in the process of a job; the jobs have saved their state.
        """


class _Intake(Generic[JobT]):
    """The jobs that are still to be run."""

    def __init__(self, jobs: Iterable[JobT | None]) -> None:
        self._jobs = iter(jobs)
        self._returned: list[JobT] = []
        self.exhausted = False

    def take(self) -> JobT | None:
        """Return the next job, or ``None`` if there is none at present."""
        if self._returned:
            return self._returned.pop()
        try:
            return next(self._jobs)
        except StopIteration:
            self.exhausted = True
            return None

    def put_back(self, job: JobT) -> None:
        """Take a job next that could not be started."""
        self._returned.append(job)


class SerialBackend:
    """Runs one job after another in this process."""

    workers = 1

    def map(
        self, function: Callable[[JobT], OutcomeT], jobs: Iterable[JobT | None], pause: float = 1.0
    ) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """See ``Backend``. What jobs set in PyTorch is as before afterwards."""
        from claf2.runtime.device import preserve_backends

        with preserve_backends():
            for job in jobs:
                if job is None:
                    time.sleep(pause)
                else:
                    yield job, function(job)


class ProcessBackend:
    """Runs jobs in processes of this machine. If it has GPUs, each process sees one of them.

    Args:
        workers: the number of processes.
        gpus: the number of GPUs of the machine.
        warm_up: is called in each process when it starts, before there is a job: for imports that take their time.
    """

    def __init__(self, workers: int, gpus: int = 0, warm_up: Callable[[], None] | None = None) -> None:
        self.workers = workers
        self._gpus = gpus
        self._warm_up = warm_up

    def map(
        self, function: Callable[[JobT], OutcomeT], jobs: Iterable[JobT | None], pause: float = 1.0
    ) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """See ``Backend``. If a process dies, the jobs that run at that time are lost; the others get new processes.

        Raises:
            RunError: if the processes die before they have a job.
        """
        intake = _Intake(jobs)
        try:
            while not intake.exhausted:
                yield from self._run_pool(function, intake, pause)
        except KeyboardInterrupt:
            raise Interrupted(INTERRUPTED) from None

    def _run_pool(
        self, function: Callable[[JobT], OutcomeT], intake: _Intake[JobT], pause: float
    ) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """Run jobs in a pool until all have ended, or until a process dies, which breaks the whole pool."""
        context = multiprocessing.get_context("spawn")
        others = multiprocessing.active_children()
        worker_numbers: Queue[int] = context.Queue()
        for number in range(self.workers):
            worker_numbers.put(number)
        setup = (worker_numbers, self._gpus, self._warm_up)
        with ProcessPoolExecutor(self.workers, context, _init_worker, setup) as pool:
            running: dict[Future[OutcomeT], JobT] = {}
            worked = False
            try:
                if self._warm_up is not None:
                    pool.submit(os.getpid)  # the first job starts all processes
                while True:
                    self._submit(pool, function, intake, running)
                    if not running and intake.exhausted:
                        return
                    if not running:
                        time.sleep(pause)
                    timeout = None if intake.exhausted or len(running) == self.workers else pause
                    for future in wait(running, timeout, FIRST_COMPLETED).done:
                        outcome = future.result()
                        job = running.pop(future)
                        worked = True
                        # The caller may take its time with an outcome, and the process should have a job meanwhile.
                        with suppress(BrokenProcessPool):  # the next call finds it too
                            self._submit(pool, function, intake, running)
                        yield job, outcome
            except BrokenProcessPool:
                if not (running or worked):
                    hint = "is there enough memory for them? Try fewer --workers"
                    raise RunError(f"the processes that train cells die before they have one: {hint}") from None
                for future, job in running.items():
                    yield job, future.result() if future.done() and not future.exception() else None
            except (KeyboardInterrupt, Interrupted, GeneratorExit):
                # A signal may have reached this process or one of them only. The pool waits until they have saved.
                for process in {*multiprocessing.active_children()} - {*others}:
                    process.terminate()
                raise

    def _submit(
        self, pool: ProcessPoolExecutor, function: Callable[[JobT], OutcomeT], intake: _Intake[JobT],
        running: dict[Future[OutcomeT], JobT],
    ) -> None:  # fmt: skip
        """Submit only what can start at once, so that it is known which jobs a dead process takes along."""
        while len(running) < self.workers and (job := intake.take()) is not None:
            try:
                running[pool.submit(function, job)] = job
            except BrokenProcessPool:
                intake.put_back(job)
                raise


def _init_worker(worker_numbers: Queue[int], gpus: int, warm_up: Callable[[], None] | None) -> None:
    """Take the number of a worker, and with it a GPU."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    number = worker_numbers.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
    if warm_up is not None:
        warm_up()


def _end_with_parent() -> None:
    """End this process when its parent was killed, which a process of a pool does not notice by itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        while True:  # the first signal lets a job save its state, the second one ends the process that waits for a job
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(SAVING_TIME)


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

    def map(
        self, function: Callable[[JobT], OutcomeT], jobs: Iterable[JobT | None], pause: float = 1.0
    ) -> Iterator[tuple[JobT, OutcomeT | None]]:
        """See ``Backend``. Jobs of a sequence are all handed to the cluster at once, which may grow with them."""
        ray = self._ray
        remote = ray.remote(max_retries=0, **self._resources)(function)
        running: dict[Any, JobT] = {}
        intake, limit = _Intake(jobs), len(jobs) if isinstance(jobs, Sequence) else self.workers
        try:
            while running or not intake.exhausted:
                while len(running) < limit and (next_job := intake.take()) is not None:
                    running[remote.remote(next_job)] = next_job
                if not running:
                    time.sleep(0 if intake.exhausted else pause)
                    continue
                done, _ = ray.wait(list(running), num_returns=1, timeout=None if intake.exhausted else pause)
                if not done:
                    continue
                job, ended = running.pop(done[0]), done[0]
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
