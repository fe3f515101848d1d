"""The queue: what waits together is answered together, in order, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from claf2.serving.batcher import Batcher
from claf2.serving.limits import Admission, BatchLimits, LateError, OverloadError, TooLargeError


class Model:
    """Doubles numbers, and notes its batches. It computes nothing until it is released."""

    def __init__(self, *, is_held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.released = threading.Event()
        if not is_held:
            self.released.set()

    def __call__(self, group: Any, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        assert self.released.wait(30)
        if any(number < 0 for number in numbers):
            raise ValueError("negative")
        return [2 * number for number in numbers]


def run_batcher(
    model: Callable[[Any, Sequence[Any]], Sequence[Any]],
    use: Callable[[Batcher], Coroutine[Any, Any, Any]],
    **limits: Any,
) -> Any:
    """Use a batcher in an event loop of its own."""

    async def main() -> Any:
        batcher = Batcher(model, BatchLimits(**limits))
        try:
            return await use(batcher)
        finally:
            await asyncio.to_thread(batcher.close)

    # In a thread of its own: a browser of other tests keeps an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main()).result()


async def send_while_held(model: Model, batcher: Batcher, requests: Sequence[tuple[str, int, int]]) -> list[Any]:
    """Send requests, the first of which keeps the model busy until all are in the queue."""
    sent = [asyncio.ensure_future(batcher.send(*requests[0]))]
    while not model.batches:
        await asyncio.sleep(0.001)
    sent += [asyncio.ensure_future(batcher.send(*request)) for request in requests[1:]]
    await asyncio.sleep(0.01)
    model.released.set()
    return await asyncio.gather(*sent, return_exceptions=True)


def test_what_waits_together_is_a_batch_and_the_order_is_kept() -> None:
    model = Model(is_held=True)
    requests = [("t", number, 4) for number in range(1, 8)]
    answers = run_batcher(model, lambda batcher: send_while_held(model, batcher, requests))
    assert answers == [2, 4, 6, 8, 10, 12, 14]
    assert model.batches == [[1], [2, 3, 4, 5, 6, 7]]


def test_requests_that_are_sent_at_once_are_a_batch_from_the_first_one_on() -> None:
    model = Model()

    async def use(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.send("t", number, 4) for number in range(5)))

    assert run_batcher(model, use) == [0, 2, 4, 6, 8]
    assert model.batches == [[0, 1, 2, 3, 4]]


def test_a_batch_has_a_budget_of_tokens_and_longer_requests_are_alone() -> None:
    model = Model(is_held=True)
    lengths = [1, 4, 4, 10, 2, 3, 1, 50]
    requests = [("t", number, tokens) for number, tokens in enumerate(lengths)]
    run_batcher(model, lambda batcher: send_while_held(model, batcher, requests), max_tokens=12)
    # The oldest request is always taken, and a batch costs its requests times the longest one.
    assert model.batches == [[0], [1, 2, 4], [3], [5, 6], [7]]


def test_tasks_are_not_mixed() -> None:
    model = Model(is_held=True)
    requests = [("a", 1, 1), ("a", 2, 1), ("b", 3, 1), ("a", 4, 1), ("b", 5, 1)]
    answers = run_batcher(model, lambda batcher: send_while_held(model, batcher, requests))
    assert model.batches == [[1], [2, 4], [3, 5]]
    assert answers == [2, 4, 6, 8, 10]


def test_without_batching_each_request_is_alone_and_threads_share_them() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def model(group: Any, numbers: Sequence[int]) -> Sequence[int]:
        nonlocal running, most
        assert len(numbers) == 1
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return numbers

    async def use(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.send("t", number, 1) for number in range(9)))

    assert run_batcher(model, use, is_batching=False, threads=3) == list(range(9))
    assert most == 3


def test_a_request_that_fails_does_not_fail_its_neighbors() -> None:
    model = Model(is_held=True)
    requests = [("t", number, 1) for number in (1, 2, -3, 4)]
    answers = run_batcher(model, lambda batcher: send_while_held(model, batcher, requests))
    assert [answers[0], answers[1], answers[3]] == [2, 4, 8]
    assert isinstance(answers[2], ValueError)


def test_an_error_that_no_future_can_hold_is_that_of_its_request() -> None:
    def model(group: Any, numbers: Sequence[int]) -> Sequence[int]:
        if -1 in numbers:
            raise StopIteration
        return numbers

    async def use(batcher: Batcher) -> list[Any]:
        return await asyncio.gather(*(batcher.send("t", n, 1) for n in (1, -1, 2)), return_exceptions=True)

    first, failed, last = run_batcher(model, use, timeout=10)
    assert (first, last) == (1, 2)
    assert isinstance(failed, RuntimeError)
    assert isinstance(failed.__cause__, StopIteration)


def test_whatever_becomes_of_a_batch_the_next_one_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [ZeroDivisionError()]

    def fail_once(requests: int, tokens: int, seconds: float) -> None:
        if errors:
            raise errors.pop()

    async def use(batcher: Batcher) -> list[Any]:
        monkeypatch.setattr(batcher, "_on_batch", fail_once)
        soon = asyncio.get_running_loop().time() + 1
        return await asyncio.gather(batcher.send("a", 1, 1, soon), batcher.send("b", 2, 1), return_exceptions=True)

    lost, answer = run_batcher(Model(), use, timeout=10)
    assert (isinstance(lost, LateError | OverloadError), answer) == (True, 4)


def test_a_missing_answer_is_an_error_and_not_the_answer_to_another_request() -> None:
    async def use(batcher: Batcher) -> list[Any]:
        return await asyncio.gather(*(batcher.send("t", n, 1) for n in range(3)), return_exceptions=True)

    answers = run_batcher(lambda group, numbers: numbers[:-1], use)
    assert all(isinstance(answer, AssertionError) for answer in answers)


def test_a_single_client_never_waits_and_several_wait_for_each_other() -> None:
    model = Model()

    async def use(batcher: Batcher) -> tuple[float, float]:
        started = time.monotonic()
        for number in range(5):
            await batcher.send("t", number, 1)
        alone = time.monotonic() - started
        model.released.clear()
        model.batches.clear()
        sent = [("t", number, 1) for number in range(5)]
        await send_while_held(model, batcher, sent)
        assert [len(batch) for batch in model.batches] == [1, 4]
        # The last batch had four requests: the next three come one after another, and are waited for.
        started = time.monotonic()
        later = [asyncio.ensure_future(batcher.send("t", 10, 1))]
        for number in (11, 12):
            await asyncio.sleep(0.01)
            later.append(asyncio.ensure_future(batcher.send("t", number, 1)))
        await asyncio.gather(*later)
        return alone, time.monotonic() - started

    alone, together = run_batcher(model, use, max_wait=0.5)
    assert model.batches[2:] == [[10, 11, 12]]
    assert alone < 0.5 <= together  # five requests have not waited once


def test_waiting_too_long_says_whether_the_queue_or_the_model_is_slow() -> None:
    model = Model(is_held=True)

    async def use(batcher: Batcher) -> list[Any]:
        try:
            return await asyncio.gather(*(batcher.send(f"t{n}", n, 1) for n in range(2)), return_exceptions=True)
        finally:
            model.released.set()
            await asyncio.sleep(0.1)

    first, second = run_batcher(model, use, timeout=0.05)
    assert isinstance(first, LateError)
    assert isinstance(second, OverloadError)
    assert "raise --timeout" in str(first)
    assert model.batches == [[0]]  # nobody waits for the second one any more


def test_a_request_waits_until_its_deadline_only() -> None:
    model = Model(is_held=True)

    async def use(batcher: Batcher) -> None:
        try:
            await batcher.send("t", 1, 1, asyncio.get_running_loop().time() + 0.05)
        finally:
            model.released.set()

    started = time.monotonic()
    with pytest.raises(LateError):
        run_batcher(model, use, timeout=20)
    assert time.monotonic() - started < 20


def test_more_requests_than_there_is_ever_room_for_are_too_many() -> None:
    admission = Admission(3)
    with pytest.raises(TooLargeError, match="4 requests at once, of at most 3"), admission.admit(4):
        pass
    assert admission.in_progress == 0


def test_requests_beyond_the_limit_are_refused_and_the_others_are_counted() -> None:
    admission = Admission(3)
    for _ in range(50):
        admission.observe(2.0)
    with admission.admit(2):
        with pytest.raises(OverloadError, match="2 requests of at most 3") as caught, admission.admit(2):
            pass
        assert caught.value.retry_after == 4
        with admission.admit(1):
            assert admission.in_progress == 3
    assert admission.in_progress == 0
