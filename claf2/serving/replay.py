"""The validation rows of a run over HTTP: does the server answer what was scored?"""

from __future__ import annotations

import dataclasses
import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

from claf2.data.splits import SplitData
from claf2.errors import RunError
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.export import open_model_folder
from claf2.metrics import Prediction
from claf2.readers import Example
from claf2.runs.locate import locate_splits
from claf2.runtime.files import format_json
from claf2.runtime.retry import parse_retry_after
from claf2.serving.kinds import prediction_fields

__all__ = [
    "Replay", "ReplayRow", "check_server", "find_difference", "is_request", "replay_predictions", "stored_rows",
    "to_request",
]  # fmt: skip

logger = logging.getLogger("claf2")

REPLAY_TOLERANCE = 1e-6
"""How far scores may be from the stored ones where the last digits depend on the batch; relative, above 1."""

ANSWER_SECONDS = 60
"""How long an answer may take."""

MOST_SHOWN = 5


@dataclass(frozen=True)
class ReplayRow:
    """A row of a split, as a request, and what was predicted for it."""

    task: str
    request: Mapping[str, Any]
    expected: Prediction


@dataclass(frozen=True)
class Replay:
    """The result of a replay."""

    rows: int
    differences: Sequence[str]
    """The rows with another answer, and how they differ."""
    equal_bytes: int
    """The rows whose answer is the stored one to the byte."""
    seconds: float
    times: Sequence[float]
    """How long each request has taken, in seconds, ascending."""

    def summary(self) -> str:
        """Return the result as lines, for a console."""
        p50, p99 = (1000 * self.times[int(share * (len(self.times) - 1))] for share in (0.5, 0.99))
        lines = [
            f"{self.rows} rows, {self.equal_bytes} with the stored bytes, {len(self.differences)} with another answer",
            f"{self.rows / self.seconds:.0f} requests a second; p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        ]
        shown = [f"differs: {difference}" for difference in self.differences[:MOST_SHOWN]]
        more = len(self.differences) - MOST_SHOWN
        return "\n".join([*shown, *([f"… and {more} more"] if more > 0 else []), *lines])


def stored_rows(folder: Path, split: str = "valid") -> list[ReplayRow]:
    """Return the rows of a split of a run or an export, with the predictions that are stored in its folder. Tasks whose
    rows are not requests are left out: a prediction of `embed_in_batch` ranks all rows.

    Raises:
        Claf2Error: if the data or the predictions are missing, or do not fit each other, or no row is a request.
    """
    opened, rows = open_model_folder(folder), list[ReplayRow]()
    for task in opened.experiment.tasks:
        experiment = opened.experiment.select_task(task)
        data = locate_splits(experiment)[task].get(split)
        if not isinstance(data, SplitData):
            raise RunError(f"{folder}: task {task} has no split {split!r}; name another one with --on")
        expected = read_predictions(predictions_path(folder, task, split))
        examples = list(data.examples())
        if [example.id for example in examples] != [prediction.id for prediction in expected]:
            problem = f"the predictions for {split} belong to other rows"
            raise RunError(f"{folder}: {problem}; run `claf2 evaluate {folder}`")
        fields = experiment.only_task.head.fields_for(experiment.only_task.task)
        if not is_request(fields, examples[0]):
            logger.warning("task %s is not compared: its stored predictions rank all rows, and a request cannot", task)
            continue
        rows += [
            ReplayRow(task, to_request(fields, example), prediction)
            for example, prediction in zip(examples, expected, strict=True)
        ]
    if not rows:
        raise RunError(f"{folder}: it has no stored answers that a request could ask for; serve it without --check")
    return rows


def is_request(fields: Sequence[str], example: Example) -> bool:
    """Return whether an example has the fields of a request. A row of `embed_in_batch` does not, since it is ranked
    among all rows of its file."""
    return all(hasattr(example, field) for field in fields)


def to_request(fields: Sequence[str], example: Example) -> dict[str, Any]:
    """Return an example as a request with these fields; a second text is left out where there is none."""
    values = dataclasses.asdict(example)  # what a field holds may be an object of several values
    return {"id": example.id, **{field: values[field] for field in fields if values[field] is not None}}


def replay_predictions(
    url: str, rows: Sequence[ReplayRow], *, exact: bool, clients: int = 32, model: str | None = None,
    token: str | None = None, on_progress: Callable[[int], None] = lambda _: None,
) -> Replay:  # fmt: skip
    """Send rows to a server, one per request, and compare its answers with the stored predictions.

    Args:
        url: the server.
        rows: the rows.
        exact: whether the answers must be equal to the byte; else scores may differ by ``REPLAY_TOLERANCE``.
        clients: how many requests are sent at the same time.
        model: the model to ask, if the server has several.
        token: the token of the server.
        on_progress: called with the number of answers so far.

    Raises:
        RunError: if the server refuses a request, or cannot be reached.
    """
    lock, done = threading.Lock(), 0
    times: list[float] = []
    answers: list[tuple[str, bool]] = [("", False)] * len(rows)

    def replay_share(first: int) -> None:
        nonlocal done
        with _connect(url, token) as send:
            for position in range(first, len(rows), clients):
                started = time.perf_counter()
                answer = _read_object(url, _ask(send, rows[position], model))
                with lock:
                    times.append(time.perf_counter() - started)
                    answers[position] = find_difference(rows[position].expected, answer, exact=exact)
                    done += 1
                    on_progress(done)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(replay_share, first) for first in range(min(clients, len(rows)))]:
            future.result()
    differences = [difference for difference, _ in answers if difference]
    equal = sum(is_equal for _, is_equal in answers)
    return Replay(len(rows), differences, equal, time.perf_counter() - started, sorted(times))


def check_server(
    url: str, folders: Mapping[str, Path], *, split: str = "valid", clients: int = 32, token: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Replay]:  # fmt: skip
    """Compare the answers of a server with the predictions that are stored in the folders of its models.

    Args:
        url: the server.
        folders: model → the folder of its run or export. The name does not matter if there is one model on both sides.
        split: the rows.
        clients: how many requests are sent at the same time.
        token: the token of the server.
        on_progress: called with the number of answers of a model so far, and of its rows.

    Raises:
        Claf2Error: if the server cannot be reached or serves other models, or a folder has no such predictions.
    """
    with _connect(url, token) as send:
        response, content = send("GET", "/info", None)
    if response.status != http.client.OK:
        raise RunError(f"{url}: the server answers {response.status}: {content[:300].decode(errors='replace')}")
    try:
        served = {name: _is_exact(model) for name, model in _read_object(url, content)["models"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise _not_claf2(url) from error
    replays = {}
    for name, folder in folders.items():
        asked = next(iter(served)) if len(served) == len(folders) == 1 else name
        if asked not in served:
            raise RunError(f"{url} serves {', '.join(served)}, but not {name}; name the folder so with --model")
        rows = stored_rows(folder, split)
        replays[name] = replay_predictions(
            url, rows, exact=served[asked], clients=clients, model=asked, token=token,
            on_progress=partial(_report_progress, on_progress, len(rows)),
        )  # fmt: skip
    return replays


def _is_exact(model: Mapping[str, Any]) -> bool:
    """Say whether the answers of a model are the bytes of its evaluation, by what ``/info`` says about it. An export
    that computes each row alone has done so in its evaluation; a run was evaluated in batches."""
    rule: str = model["batching"]["rule"]
    engine: str = model["engine"]
    return rule == "exact" or (rule == "single" and engine != "torch")


def _report_progress(report: Callable[[int, int], None], total: int, done: int) -> None:
    report(done, total)


Send: TypeAlias = Callable[[str, str, bytes | None], tuple[http.client.HTTPResponse, bytes]]
"""Method, path and body → the answer of a server, and its content."""


@contextmanager
def _connect(url: str, token: str | None) -> Iterator[Send]:
    """Yield what sends requests over one connection to a server, to paths below that of its URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # such as a port that is no number
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise RunError(f"{url[:80]}: not the address of a server; write http://HOST:PORT, as claf2 serve prints it")
    prefix = quote(parts.path.rstrip("/"), safe="/%")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=ANSWER_SECONDS)

    def send(method: str, path: str, body: bytes | None) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            connection.request(method, prefix + path, body, headers)
            response = connection.getresponse()
            content = response.read()
            if response.status == http.client.TOO_MANY_REQUESTS:
                connection.close()  # the server would do so before the client asks again
            return response, content
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: no name of a host
            problem = error or type(error).__name__
            raise RunError(f"{url}: {problem}; check that the server runs, and its log") from error

    try:
        yield send
    finally:
        connection.close()


def _read_object(url: str, content: bytes) -> dict[str, Any]:
    """Return the JSON object that a server has answered.

    Raises:
        RunError: if it is anything else.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _not_claf2(url)
    return value


def _not_claf2(url: str) -> RunError:
    return RunError(f"{url}: this is not a claf2 server; give the address that claf2 serve prints")


def _ask(send: Send, row: ReplayRow, model: str | None) -> bytes:
    query = f"?task={quote(row.task, safe='')}" + (f"&model={quote(model, safe='')}" if model else "")
    body = json.dumps(row.request, ensure_ascii=False).encode()
    while True:
        response, content = send("POST", f"/predict{query}", body)
        if response.status != http.client.TOO_MANY_REQUESTS:
            break
        seconds = parse_retry_after(response.headers.get("Retry-After"))
        time.sleep(1.0 if seconds is None else seconds)
    if response.status != http.client.OK:
        text = content[:300].decode(errors="replace")
        raise RunError(f"row {row.expected.id}: the server answers {response.status}: {text}")
    return content


def find_difference(expected: Prediction, answer: Mapping[str, Any], *, exact: bool) -> tuple[str, bool]:
    """Return how an answer differs from a prediction, empty if it does not, and whether they are the same bytes.

    Args:
        expected: the prediction.
        answer: the answer of a server.
        exact: whether they must be the same bytes.
    """
    stored = prediction_fields(expected)
    served = {name: answer.get(name) for name in stored}
    before, after = format_json(stored), format_json(served)
    if before == after:
        return "", True
    if not exact and _is_close(json.loads(before), json.loads(after)):
        return "", False
    return f"row {expected.id}: stored {before[:300]}, served {after[:300]}", False


def _is_close(first: Any, second: Any) -> bool:
    """Say whether two JSON values are equal except for the last digits of numbers."""
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= REPLAY_TOLERANCE * max(1.0, abs(first))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_is_close(first[name], second[name]) for name in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_is_close, first, second))
    return type(first) is type(second) and bool(first == second)
