"""The queue between the clients and a model: requests that wait together are answered together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from claf2.serving.limits import BatchLimits, LateError

__all__ = ["Batcher"]


@dataclass(eq=False)
class _Waiting:
    """A request in the queue."""

    group: Hashable
    item: Any
    tokens: int
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    has_started: bool = False


class Batcher:
    """Passes requests to a function that answers several at once, in threads, and keeps the order.

    A batch is made when a thread is free. With several clients it waits a little for as many requests as there were in
    the last batch; a single client never waits.

    Args:
        answer: answers requests of one group, in order. What it raises for several requests, it is asked for each one
            alone, so that one request cannot fail the others.
        limits: the limits.
        on_batch: called with the requests, the tokens, and the seconds of each batch.
    """

    def __init__(
        self, answer: Callable[[Any, Sequence[Any]], Sequence[Any]], limits: BatchLimits,
        on_batch: Callable[[int, int, float], None] = lambda requests, tokens, seconds: None,
    ) -> None:  # fmt: skip
        self.limits = limits
        self._answer, self._on_batch = answer, on_batch
        self._queue: deque[_Waiting] = deque()
        self._free, self._last_rows = limits.threads, 1
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="claf2-model")

    async def send(self, group: Hashable, item: Any, tokens: int, deadline: float | None = None) -> Any:
        """Return the answer to a request, or raise what its answer raises.

        Args:
            group: what is answered together, such as the task.
            item: the request.
            tokens: its length.
            deadline: the time of the event loop at which nobody waits any more; ``None``: after the time limit.

        Raises:
            OverloadError: if it has waited too long.
            LateError: if the model takes too long.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(group, item, tokens, loop.create_future())
        self._queue.append(waiting)
        # Not at once: the rest of a list that a client has posted is in the queue by then.
        loop.call_soon(self._start_batches)
        try:
            async with asyncio.timeout_at(loop.time() + self.limits.timeout if deadline is None else deadline):
                return await waiting.future
        except TimeoutError as error:
            if not waiting.has_started:
                raise self.limits.not_reached() from error
            problem = f"the model has not answered within {self.limits.timeout:g} seconds"
            raise LateError(f"{problem}; send shorter texts, or raise --timeout") from error

    def close(self) -> None:
        """End the threads. What is in progress is answered first."""
        self._pool.shutdown()

    def _start_batches(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._queue:
            delay = self._delay()
            if delay > 0:
                self._timer = asyncio.get_running_loop().call_later(delay, self._start_batches)
                return
            batch = self._take()
            if batch:
                self._free -= 1
                task = asyncio.create_task(self._run(batch))
                self._running.add(task)  # the loop itself keeps no reference to it
                task.add_done_callback(self._running.discard)

    def _delay(self) -> float:
        """Return how many seconds to wait for further requests."""
        if not self.limits.is_batching or len(self._queue) >= self._last_rows:
            return 0.0
        return self._queue[0].since + self.limits.max_wait - time.monotonic()

    def _take(self) -> list[_Waiting]:
        """Take the oldest request from the queue, and those of its group that fit."""
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        longest = 0
        for waiting in self._queue:
            longer = max(longest, waiting.tokens)
            fits = self.limits.is_batching and (len(batch) + 1) * longer <= self.limits.max_tokens
            if waiting.future.done():  # it has waited too long
                continue
            if not batch or (fits and waiting.group == batch[0].group):
                batch.append(waiting)
                longest = longer
            else:
                left.append(waiting)
        self._queue = left
        return batch

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            waiting.has_started = True
        started = time.monotonic()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._answer_each, batch)
            self._last_rows = len(batch)
            self._on_batch(len(batch), sum(waiting.tokens for waiting in batch), time.monotonic() - started)
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.future.done():
                    continue
                if isinstance(answer, Exception):
                    waiting.future.set_exception(answer)
                else:
                    waiting.future.set_result(answer)
        finally:
            self._free += 1
            self._start_batches()

    def _answer_each(self, batch: Sequence[_Waiting]) -> Sequence[Any]:
        """Return the answers to a batch, or the exception of each request without one."""
        try:
            answers = self._answer(batch[0].group, [waiting.item for waiting in batch])
            return answers if len(answers) == len(batch) else [AssertionError("an answer is missing")] * len(batch)
        except Exception as error:  # noqa: BLE001 whatever it is, the others must not suffer from it
            if len(batch) == 1:
                return [_for_future(error)]
            return [answer for waiting in batch for answer in self._answer_each([waiting])]


def _for_future(error: Exception) -> Exception:
    """Return an error as one that a future can hold, which ``StopIteration`` is not."""
    if not isinstance(error, StopIteration):
        return error
    held = RuntimeError("the model raised StopIteration")
    held.__cause__ = error
    return held
