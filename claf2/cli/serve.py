"""The command ``serve``. Heavy modules are imported when it runs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH, NumberRange, needs_extra
from claf2.cli.retrieval import method_option
from claf2.errors import Interrupted, RunError

if TYPE_CHECKING:
    from claf2.serving.limits import Collection, ServiceSettings

__all__ = ["serve_command"]

DIFFERENT = 3
"""The exit code if a server answers anything but what was scored."""


@click.command("serve", epilog="""\b
Examples:
  claf2 serve logs/scratch/nsmc
  claf2 serve logs/scratch/nsmc --check
  claf2 serve logs/scratch/nsmc --check --url http://127.0.0.1:8000
  claf2 serve --model old=logs/nsmc-1 --model new=exports/nsmc --split old=0.9,new=0.1
  claf2 serve exports/nsmc --host 0.0.0.0 --workers 4
  claf2 serve logs/klue/korquad --index indexes/korquad
""")  # fmt: skip
@click.argument("folders", metavar="RUN|EXPORT...", nargs=-1, type=PATH)
@click.option("--model", "named", multiple=True, metavar="NAME=FOLDER",
              help="Serve a run or an export under this name; can be repeated.")  # fmt: skip
@click.option("--split", default="", metavar="A=X,B=Y",
              help="The share of the requests that each model answers; the id of a request decides.")  # fmt: skip
@click.option("--index", "indexes", multiple=True, metavar="[NAME=]INDEX",
              help="Answer questions from what claf2 index has made (POST /answer); NAME: by this model.")  # fmt: skip
@method_option
@click.option("--threshold", metavar="X", type=NumberRange(),
              help="With --index: answer nothing below this score.  [default: as the model itself does]")  # fmt: skip
@click.option("--search-weight", default=0.0, show_default=True, metavar="X", type=NumberRange(0),
              help="With --index: how much the score of the search adds to that of the model.")  # fmt: skip
@click.option("--passages", default=5, show_default=True, metavar="K", type=click.IntRange(1, 50),
              help="With --index: how many passages are read, unless the request has a k.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0: a free one.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Processes. Each loads the models, and gets its share of the cores.")  # fmt: skip
@click.option("--token", envvar="CLAF2_SERVE_TOKEN", show_envvar=True,
              help="What clients must send. Other users of the machine can read it in a command.")  # fmt: skip
@click.option("--max-batch-tokens", type=click.IntRange(1), default=1024, show_default=True, metavar="N",
              help="The largest batch: its requests, times the tokens of the longest one.")  # fmt: skip
@click.option("--max-wait", type=NumberRange(0, 1000), default=5.0, show_default=True, metavar="MS",
              help="How long a request waits for others at most.")  # fmt: skip
@click.option("--max-queue", type=click.IntRange(1), default=512, show_default=True, metavar="N",
              help="Requests in progress; further ones are refused with 429, longer lists with 413.")  # fmt: skip
@click.option("--timeout", type=NumberRange(0, 3600, min_open=True), default=30.0, show_default=True,
              metavar="SECONDS", help="How long a request may take.")  # fmt: skip
@click.option("--max-body", type=click.IntRange(1), default=1, show_default=True, metavar="MiB",
              help="The largest body of a request.")  # fmt: skip
@click.option("--max-requests", type=click.IntRange(1), default=256, show_default=True, metavar="N",
              help="The most requests in one body.")  # fmt: skip
@click.option("--max-characters", type=click.IntRange(1), default=100_000, show_default=True, metavar="N",
              help="The longest texts of a request. Shorter ones are cut as in training.")  # fmt: skip
@click.option("--batches", "threads", type=click.IntRange(1, 256), metavar="N",
              help="Batches of an export to compute at the same time  [default: one per core]")  # fmt: skip
@click.option("--no-batching", is_flag=True, help="Answer each request alone.")
@click.option("--check", is_flag=True,
              help="Send the validation rows, compare the answers with the stored predictions, and end.")  # fmt: skip
@click.option("--url", metavar="URL", help="With --check: a server that runs already.")
@click.option("--on", "on_split", default="valid", show_default=True, metavar="SPLIT", help="With --check: the rows.")
@click.option("--clients", type=click.IntRange(1, 1000), default=32, show_default=True,
              help="With --check: requests to send at the same time.")  # fmt: skip
def serve_command(
    folders: tuple[Path, ...], named: tuple[str, ...], host: str, port: int, check: bool, url: str | None,
    on_split: str, clients: int, **given: Any,
) -> int:  # fmt: skip
    """Serve runs and exports over HTTP, until Ctrl-C or SIGTERM.

    POST /predict takes what claf2 predict reads: a request as a JSON object, or a list of them. POST /understand takes
    a text, and asks several tasks about it; POST /answer takes a question, with --index. The address is printed, and is
    also that of a page to try the models in a browser. With --check, the exit code is 3 if an answer is not the
    one that was scored.
    """
    if url is not None and not check:
        raise RunError("--url: can only be used with --check; add it, or leave out --url")
    _check_token(given["token"])
    models = _name_models(folders, named)
    with needs_extra("serve"):
        from claf2.runtime.web import is_loopback
        from claf2.serving.processes import serve_models
    if check:
        return _check_models(models, given, url, on_split, clients)
    settings = _make_settings(models, given)
    if not (settings.token or is_loopback(host)):
        click.echo(f"everybody who reaches {host} can ask these models; CLAF2_SERVE_TOKEN asks for a token", err=True)
    with suppress(KeyboardInterrupt, Interrupted):  # uvicorn has ended, and raises the signal again
        serve_models(settings, host, port, lambda address: click.echo(f"serving: {address}"))
    click.echo("stopped", err=True)
    return 0


def _check_token(token: str | None) -> None:
    """Check that a client can send the token in a header.

    Raises:
        RunError: if it cannot.
    """
    if token is not None and not re.fullmatch(r"[!-~]([ -~]*[!-~])?", token):
        problem = "must be one line of ASCII characters, without spaces around it; choose another one"
        raise RunError(f"the token (--token, CLAF2_SERVE_TOKEN) {problem}")


def _name_models(folders: Sequence[Path], named: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each model by its name: that of the folder unless another one is given."""
    pairs = [(folder.resolve().name, folder) for folder in folders]
    for text in named:
        name, equals, folder_name = text.partition("=")
        if not (name and equals and folder_name):
            raise RunError(f"--model {text[:80]}: write NAME=FOLDER, such as --model new=exports/nsmc")
        pairs.append((name, Path(folder_name)))
    if not pairs:
        raise RunError("there is nothing to serve: name the folder of a run or of an export")
    models = dict(pairs)
    if len(models) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise RunError(f"two models are called {twice!r}; give them names with --model NAME=FOLDER")
    return models


def _read_shares(text: str) -> dict[str, float]:
    """Return the share of each model from a text such as ``a=0.9,b=0.1``."""
    shares = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.strip().rpartition("=")
        try:
            shares[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise RunError(f"--split {text[:80]}: write NAME=SHARE,NAME=SHARE, such as a=0.9,b=0.1")
    return shares


def _make_settings(models: Mapping[str, Path], given: Mapping[str, Any]) -> ServiceSettings:
    from claf2.serving.limits import BatchLimits, RequestLimits, ServiceSettings

    cores = max(1, len(os.sched_getaffinity(0)) // given["workers"])
    batches = BatchLimits(
        max_tokens=given["max_batch_tokens"], max_wait=given["max_wait"] / 1000, max_queue=given["max_queue"],
        timeout=given["timeout"], threads=given["threads"] or cores, is_batching=not given["no_batching"],
    )  # fmt: skip
    requests = RequestLimits(
        max_body=given["max_body"] * 2**20, max_requests=given["max_requests"], max_characters=given["max_characters"]
    )
    return ServiceSettings(
        models, _read_shares(given["split"]), batches, requests, given["token"], given["workers"],
        _make_collections(models, given),
    )  # fmt: skip


def _make_collections(models: Mapping[str, Path], given: Mapping[str, Any]) -> dict[str, Collection]:
    """Return the passages that each model reads: an index without the name of a model is that of all models."""
    from claf2.serving.limits import Collection

    collections: dict[str, Collection] = {}
    for text in given["indexes"]:
        name, equals, folder = text.partition("=")
        names = [name] if equals and name in models else list(models)
        path = Path(folder if equals and name in models else text)
        for own in names:
            if own in collections:
                raise RunError(f"--index {text[:80]}: model {own!r} has an index already; give one index per model")
            collections[own] = Collection(
                path, given["passages"], given["method"], given["threshold"], given["search_weight"]
            )
    return collections


def _check_models(
    models: Mapping[str, Path], given: Mapping[str, Any], url: str | None, split: str, clients: int
) -> int:
    """Replay the stored predictions of each model, and return the exit code."""
    from claf2.runtime.web import serve_in_thread
    from claf2.serving.app import create_service_app
    from claf2.serving.replay import check_server
    from claf2.serving.service import open_service

    own = None if url is not None else create_service_app(open_service(_make_settings(models, given)))
    with nullcontext(url or "") if own is None else serve_in_thread(own) as address:
        replays = check_server(
            address, models, split=split, clients=clients, token=given["token"], on_progress=_show_progress()
        )
    for name, replay in replays.items():
        click.echo(f"{name}: {replay.summary()}")
    return DIFFERENT if any(replay.differences for replay in replays.values()) else 0


def _show_progress() -> Callable[[int, int], None]:
    """Return what prints a line about once a second."""
    started = shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal started, shown
        now = time.monotonic()
        if done == 1:  # the first row of the next model
            started = now
        if now - shown >= 1 and 1 < done < total:
            shown = now
            click.echo(f"[{done}/{total}] {(now - started) / (done - 1) * (total - done):.0f} s left", err=True)

    return show
