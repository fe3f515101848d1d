"""The models of a service: each one behind a queue of its own, and which of them answers a request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from claf2.errors import RunError, nearest
from claf2.export import open_answerer
from claf2.machine.nlu import NluMachine
from claf2.machine.qa import QaMachine
from claf2.runs.answerer import Answerer
from claf2.runs.embedding import Embedder
from claf2.serving.batcher import Batcher
from claf2.serving.kinds import RequestKind, find_text_tasks
from claf2.serving.limits import Admission, BatchLimits, Collection
from claf2.serving.telemetry import Telemetry

__all__ = ["ModelSet", "Outcome", "ServedModel", "check_shares"]

Outcome: TypeAlias = Mapping[str, Any] | Exception
"""The answer to a request, or why there is none."""


class ServedModel:
    """A finished model behind a queue. It is used in one event loop.

    Args:
        name: what the clients call it.
        answerer: the model.
        limits: how requests are put together. Engines that cannot answer several at once without changing the answers,
            or in several threads, are not asked to.
        telemetry: the counters.
        qa: the model as the reader of an index, if it is one.
    """

    def __init__(
        self, name: str, answerer: Answerer, limits: BatchLimits, telemetry: Telemetry, qa: QaMachine | None = None
    ) -> None:
        self.name = name
        self.answerer = answerer
        self.qa = qa
        text_tasks = find_text_tasks(answerer)
        self.nlu = NluMachine(answerer, text_tasks) if text_tasks else None
        """Its tasks that ask about a single text."""
        self.embedder = Embedder(answerer)
        self.limits = replace(
            limits,
            threads=limits.threads if answerer.is_thread_safe else 1,
            is_batching=limits.is_batching and answerer.batching != "single",
        )
        self.admission = Admission(limits.max_queue)
        self._telemetry = telemetry
        self._batcher = Batcher(_answer, self.limits, self._observe_batch)
        # One thread, since a tokenizer of Python's own need not allow several.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="claf2-encode")
        telemetry.in_progress.labels(name).set(0)

    @classmethod
    def open(
        cls, name: str, folder: Path, limits: BatchLimits, telemetry: Telemetry, cores: int,
        collection: Collection | None = None,
    ) -> ServedModel:  # fmt: skip
        """Load a run or an export.

        Args:
            name: what the clients call it.
            folder: the folder of the run or of the export.
            limits: how requests are put together.
            telemetry: the counters.
            cores: the processor cores that the model may use, which the batches of an export share.
            collection: the passages that it reads for a question, if any.

        Raises:
            Claf2Error: if the folder is neither, or damaged, or cannot read the collection.
        """
        answerer = open_answerer(folder, threads=max(1, cores // limits.threads))
        qa = None if collection is None else QaMachine(
            collection.index, answerer, k=collection.k, method=collection.method, threshold=collection.threshold,
            search_weight=collection.search_weight,
        )  # fmt: skip
        return cls(name, answerer, limits, telemetry, qa)

    async def ask(self, kind: RequestKind, requests: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Answer requests of a kind, in order. One that cannot be answered does not change the others.

        Raises:
            TooLargeError: if there will never be room for all of them.
            OverloadError: if there is no room for all of them now.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.limits.timeout
        with self.admission.admit(len(requests)):
            gauge = self._telemetry.in_progress.labels(self.name)
            gauge.inc(len(requests))
            try:
                async with asyncio.timeout_at(deadline):
                    encoded = await loop.run_in_executor(self._encoding, _encode_each, kind.encode, requests)
                return list(await asyncio.gather(*(self._send(kind, item, deadline) for item in encoded)))
            except TimeoutError:
                return [self.limits.not_reached() for _ in requests]
            finally:
                gauge.dec(len(requests))

    def close(self) -> None:
        """End the threads. What is in progress is answered first."""
        self._encoding.shutdown()
        self._batcher.close()

    async def _send(self, kind: RequestKind, encoded: Any, deadline: float) -> Outcome:
        if isinstance(encoded, Exception):
            return encoded
        try:
            answer = await self._batcher.send(kind, encoded, encoded.tokens, deadline)
        except Exception as error:  # noqa: BLE001 the other requests of the list are answered
            return error
        return {**kind.to_fields(encoded, answer), "model": self.name}

    def _observe_batch(self, rows: int, tokens: int, seconds: float) -> None:
        self.admission.observe(seconds / rows / self.limits.threads)
        self._telemetry.observe_batch(self.name, rows, tokens, seconds)


def _answer(kind: RequestKind, encoded: Sequence[Any]) -> Sequence[Any]:
    """Answer a batch of one kind, in a thread."""
    return kind.answer(encoded)


def _encode_each(
    encode: Callable[[Sequence[Mapping[str, Any]]], Sequence[Any]], requests: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """Return each request as the engine reads it, or why it cannot be read."""
    try:
        return list(encode(requests))
    except Exception as error:  # noqa: BLE001 the other requests of the list are answered
        if len(requests) == 1:
            return [error]
        return [item for request in requests for item in _encode_each(encode, [request])]


class ModelSet:
    """The models of a service by name, and how requests are divided among them.

    Args:
        models: the models.
        shares: the share of the requests that each model answers; empty: requests name their model, unless there is
            only one.

    Raises:
        RunError: if a name is unknown, or the shares do not add up to 1.
    """

    def __init__(self, models: Sequence[ServedModel], shares: Mapping[str, float]) -> None:
        self.models = {model.name: model for model in models}
        self.shares = dict(shares) or ({models[0].name: 1.0} if len(models) == 1 else {})
        check_shares(self.shares, list(self.models))

    def choose(self, name: str | None, key: str) -> ServedModel:
        """Return the model that answers a request.

        Args:
            name: the model that the client names, if any.
            key: what the choice depends on: the same model answers the same key.

        Raises:
            RunError: if there is no such model, or the client must name one.
        """
        if name is not None:
            if name not in self.models:
                raise RunError(f"there is no model {name[:80]!r}; {nearest(name, self.models)}")
            return self.models[name]
        if not self.shares:
            raise RunError(f"several models are served, so name one: ?model={next(iter(self.models))}")
        hashed = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        number = int.from_bytes(hashed[:8], "big") / 2**64
        ends = accumulate(self.shares.values())
        # The last end may be below 1 by a rounding error.
        chosen = next((name for name, end in zip(self.shares, ends, strict=True) if number < end), [*self.shares][-1])
        return self.models[chosen]


def check_shares(shares: Mapping[str, float], names: Sequence[str]) -> None:
    """Check how requests are divided among models.

    Raises:
        RunError: if a name is unknown, or the shares do not add up to 1.
    """
    for name, share in shares.items():
        if name not in names:
            raise RunError(f"--split: there is no model {name!r}; {nearest(name, names)}")
        if not 0 <= share <= 1:
            raise RunError(f"--split: the share of {name} is {share:g}; write a number from 0 to 1")
    if shares and abs(sum(shares.values()) - 1) > 1e-6:
        raise RunError(f"--split: the shares add up to {sum(shares.values()):g}; make them add up to 1")
