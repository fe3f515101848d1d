"""The client that submits cells to a board: repeatable, resumable, and patient with a board that is down."""

from __future__ import annotations

import http.client
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from claf2.benchmarking.cells import CellResult, read_cell
from claf2.benchmarking.runs import CELL_FILE
from claf2.board.cell_record import CellRecord, record_cell
from claf2.errors import RunError, field_problem
from claf2.runtime.retry import parse_retry_after

__all__ = ["BoardClient", "BoardError", "Submission", "find_cells", "submit_cells"]

MAX_ATTEMPTS = 8
"""How often a request is sent, if the board does not answer or says that it cannot now: for about two minutes."""
LONGEST_PAUSE = 60.0
"""The longest pause before a request is sent again, in seconds."""
TIMEOUT = 60.0
IDLE_SECONDS = 2.0
"""After how long without a request a connection is opened anew, since servers close those that are idle."""
RETRIED = (429, 500, 502, 503, 504)
"""The statuses of answers that another attempt may change."""

logger = logging.getLogger("claf2")


class BoardError(RunError):
    """The board refuses a request.

    Args:
        status: the HTTP status.
        message: what is wrong.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Submission:
    """What became of cells that were submitted."""

    total: int = 0
    states: dict[str, int] = field(default_factory=dict)
    """``created``, ``unchanged``, ``replaced`` or ``kept`` → number of cells."""
    refused: list[str] = field(default_factory=list)
    """The cells that cannot be stored, each with the reason."""

    @property
    def done(self) -> int:
        """The number of cells that are dealt with."""
        return sum(self.states.values()) + len(self.refused)

    def format_line(self) -> str:
        """Return the result as one line."""
        counts = [f"{count} {state}" for state, count in sorted(self.states.items())]
        return ", ".join([*counts, *([f"{len(self.refused)} refused"] if self.refused else [])]) or "nothing to submit"


class BoardClient:
    """Sends requests to a board. It may be used by several threads, and closes their connections at the end of a
    ``with`` block.

    Args:
        url: the address of the board.
        token: a token, for writing or where reading needs one as well.
        attempts: how often a request is sent, if the board does not answer or says that it cannot now.
        pause: the first pause before a request is sent again, in seconds; each pause is about twice the one before.
        longest_pause: the longest pause, in seconds.
        timeout: how long an answer is waited for, in seconds.

    Raises:
        RunError: if the URL is not one of HTTP.
    """

    def __init__(
        self, url: str, token: str | None = None, *, attempts: int = MAX_ATTEMPTS, pause: float = 1.0,
        longest_pause: float = LONGEST_PAUSE, timeout: float = TIMEOUT,
    ) -> None:  # fmt: skip
        self._parts = _parse_url(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if token and not (token.isascii() and token.isprintable()):
            raise RunError("the token holds characters that no token has: check CLAF2_BOARD_TOKEN")
        self._attempts, self._pause, self._longest_pause = attempts, pause, longest_pause
        self._timeout = timeout
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def __enter__(self) -> BoardClient:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections of all threads."""
        while self._connections:
            self._connections.pop().close()

    @property
    def url(self) -> str:
        """The address of the board."""
        return self._parts.geturl().rstrip("/")

    def get(self, path: str) -> Any:
        """Return an answer of the board, read as JSON.

        Raises:
            BoardError: if the board refuses.
            RunError: if it does not answer.
        """
        return self._request("GET", path)

    def check_token(self) -> None:
        """Check that the token may write.

        Raises:
            BoardError: if it may not.
            RunError: if the board does not answer.
        """
        self.get("/api/token")

    def put(self, record: CellRecord, *, replace: bool = False) -> str:
        """Submit a record, and return what became of it.

        Args:
            record: the record.
            replace: replace another record of the cell.

        Raises:
            BoardError: if the board refuses.
            RunError: if it does not answer.
        """
        path = f"/api/cells/{record.digest}{'?replace=true' if replace else ''}"
        return str(self._request("PUT", path, record.model_dump_json().encode())["state"])

    def _request(self, method: str, path: str, body: bytes | None = None) -> Any:
        for attempt in range(1, self._attempts + 1):
            wait = min(self._longest_pause, self._pause * 2 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.0)
            try:
                status, answer, retry_after = self._send(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._disconnect()
                problem = f"{self.url} does not answer: {error or type(error).__name__}"
            else:
                if status < 400:
                    return _parse_answer(self.url, answer)
                problem = f"{self.url}: {_reason(status, answer)}"
                if status not in RETRIED:
                    raise BoardError(status, problem)
                wait = max(wait, retry_after)
            if attempt < self._attempts:
                logger.warning("%s; trying again in %.0f s", problem, wait)
                time.sleep(wait)
        raise RunError(f"{problem}; check the address, then repeat the command: what is stored is not sent again")

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes, float]:
        connection = self._connect()
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
        response = connection.getresponse()
        seconds = parse_retry_after(response.headers.get("Retry-After")) or 0.0
        return response.status, response.read(), min(seconds, LONGEST_PAUSE)

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            connection = self._local.connection = kind(
                self._parts.hostname or "", self._parts.port, timeout=self._timeout
            )
            self._connections.append(connection)
        elif time.monotonic() - self._local.used > IDLE_SECONDS:
            connection.close()  # `http.client` opens it again
        self._local.used = time.monotonic()
        return connection

    def _disconnect(self) -> None:
        connection = self._connect()
        connection.close()
        self._connections.remove(connection)
        self._local.connection = None


def _parse_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # a port that is not a number
        pass
    raise RunError(f"{url[:80]}: not the address of a board; write http://HOST:PORT, as claf2 board serve prints it")


def _parse_answer(url: str, answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError as error:
        raise RunError(f"{url}: the answer is not JSON, so this is not a board; check the address") from error


def _reason(status: int, answer: bytes) -> str:
    try:
        detail = json.loads(answer)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer[:200].decode("utf-8", "replace")
    return f"{detail} ({status})"


def find_cells(folder: Path) -> list[CellResult]:
    """Return the cells in a folder, which is one itself, or holds cells at any depth, such as the folder of a bench.

    Raises:
        RunError: if there are none, or one is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name that of a bench")
    paths = [folder / CELL_FILE] if (folder / CELL_FILE).is_file() else sorted(folder.rglob(CELL_FILE))
    if not paths:
        raise RunError(f"{folder} contains no cell of a bench; create one with claf2 bench run")
    return [read_cell(path.parent) for path in paths]


def read_records(results: Sequence[CellResult]) -> Iterator[tuple[CellResult, CellRecord | str]]:
    """Yield the record of each cell that is finished or has failed, or the reason why it has none."""
    for result in results:
        if not (result.scores or result.failure):
            continue  # it is being trained
        try:
            yield result, record_cell(result)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            yield result, f"{result.folder}: {'.'.join(map(str, problem['loc']))}: {field_problem(problem)}"
        except RunError as error:
            yield result, str(error)


def submit_cells(
    results: Sequence[CellResult], client: BoardClient, *, replace: bool = False, workers: int = 4,
    on_progress: Callable[[Submission], None] = lambda _: None,
) -> Submission:  # fmt: skip
    """Submit cells to a board. Those that it has already are not sent.

    Args:
        results: the cells; those that are neither finished nor failed are left out.
        client: the board.
        replace: replace other records of the cells.
        workers: how many are sent at once.
        on_progress: called after each cell.

    Raises:
        RunError: if the board does not answer, or needs a token.
    """
    stored = client.get("/api/contents")
    waiting = [result for result in results if result.scores or result.failure]
    submission = Submission(len(waiting))
    ended = threading.Event()

    def submit(result: CellResult) -> tuple[str, str]:
        """Return what became of a cell, and why it was refused."""
        if ended.is_set():
            return "", "not sent"
        for _, record in read_records([result]):
            if isinstance(record, str):
                return "", record
            if stored.get(record.digest) == record.to_stored_form().content:
                return "unchanged", ""
            try:
                return client.put(record, replace=replace), ""
            except BoardError as error:
                if error.status in (401, 403):
                    ended.set()
                    raise
                return "", f"{result.folder}: {error}"
        raise AssertionError("a cell that waits is finished or has failed")

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(submit, result) for result in waiting]
        try:
            for future in as_completed(futures):
                state, reason = future.result()
                if reason:
                    submission.refused.append(reason)
                else:
                    submission.states[state] = submission.states.get(state, 0) + 1
                on_progress(submission)
        except BaseException:
            ended.set()
            pool.shutdown(cancel_futures=True)
            raise
    submission.refused.sort()
    return submission
