"""The commands ``board serve``, ``submit``, ``rebuild``, ``export`` and ``token``. Heavy modules are imported when they
run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claf2.cli.options import PATH, needs_extra, plugin_option
from claf2.errors import Interrupted, RunError

if TYPE_CHECKING:
    from claf2.board.records import Records
    from claf2.board.submit import Submission

__all__ = ["board_group"]

SOME_REFUSED = 2
"""The exit code if a cell was refused."""

database_option = click.option(
    "--database", default="board.sqlite", show_default=True, metavar="FILE|URL",
    help="The database: an SQLite file, or a URL such as postgresql+psycopg://user@host/name.",
)  # fmt: skip

token_option = click.option(
    "--token", envvar="CLAF2_BOARD_TOKEN", show_envvar=True, help="The token; other users can read it in a command."
)


@click.group("board")
def board_group() -> None:
    """Serve the results of benches as a website with a REST interface, and submit results to it."""


@board_group.command("serve", epilog="""\b
Examples:
  claf2 board serve
  claf2 board serve --database postgresql+psycopg://board@db/board --host 0.0.0.0 --read-token
""")  # fmt: skip
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0: a free one.")
@click.option("--read-token", "reads_need_token", is_flag=True,
              help="Reading needs a token too: in a browser, as the password of any user.")  # fmt: skip
@click.option("--max-body", type=click.IntRange(1), default=64, show_default=True, metavar="MiB",
              help="The largest cell that can be submitted.")  # fmt: skip
@plugin_option
def board_serve(database: str, host: str, port: int, reads_need_token: bool, max_body: int,
                plugins: tuple[str, ...]) -> None:  # fmt: skip
    """Serve a board until Ctrl-C or SIGTERM. The address is printed."""
    with needs_extra("board"):
        from claf2.board.app import create_app
        from claf2.runtime.web import is_loopback, serve_app
    from claf2.registry import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    app = create_app(database, reads_need_token=reads_need_token, max_body=max_body * 2**20)
    if not (reads_need_token or is_loopback(host)):
        click.echo(f"everybody who reaches {host} can read this board; --read-token asks for a token", err=True)
    try:
        serve_app(app, host, port, lambda url: click.echo(f"board: {url}"))
    except (KeyboardInterrupt, Interrupted):  # uvicorn has ended, and raises the signal again
        click.echo("stopped", err=True)


@board_group.command("submit", epilog="""\b
Examples:
  claf2 board token add my-laptop
  claf2 board submit logs/bench/klue --url http://127.0.0.1:8000
""")  # fmt: skip
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=PATH)
@click.option("--url", required=True, envvar="CLAF2_BOARD_URL", show_envvar=True, help="The address of the board.")
@token_option
@click.option("--replace", is_flag=True, help="Replace other results of the same cells.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Cells to send at once.")
def board_submit(folders: tuple[Path, ...], url: str, token: str | None, replace: bool, workers: int) -> int:
    """Submit the cells in folders of benches to a board.

    What the board has already is not sent again, so that an interrupted command can be repeated. The exit code is 2 if
    a cell was refused.
    """
    from claf2.board.submit import BoardClient, find_cells, submit_cells

    results = [result for folder in folders for result in find_cells(folder)]
    with BoardClient(url, token) as client:
        return _report(submit_cells(results, client, replace=replace, workers=workers, on_progress=_show_progress()))


@board_group.command("rebuild", epilog="""\b
Example:
  claf2 board rebuild logs/bench/klue --database board.sqlite
""")  # fmt: skip
@click.argument("sources", metavar="DIR|URL...", nargs=-1, required=True)
@database_option
@token_option
@plugin_option
def board_rebuild(sources: tuple[str, ...], database: str, token: str | None, plugins: tuple[str, ...]) -> int:
    """Store the cells of folders, of object stores (s3://…), or of other boards, in a database.

    The result is the same as if they had been submitted: cells that the board would not take are refused, and the exit
    code is 2. What the database has besides is kept.
    """
    from claf2.board.rebuild import rebuild
    from claf2.registry import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    with _open_records(database) as records:
        return _report(rebuild(list(sources), records, token=token, on_progress=_show_progress()))


@board_group.command("export", epilog="""\b
Example:
  claf2 board export klue -o klue.html
""")  # fmt: skip
@click.argument("suite")
@click.option("-o", "--output", type=PATH, default="board.html", show_default=True, help="The HTML file.")
@database_option
@plugin_option
def board_export(suite: str, output: Path, database: str, plugins: tuple[str, ...]) -> None:
    """Write the pages of a suite and of its runs as one HTML file that works offline."""
    with needs_extra("board"):
        from claf2.board.pages.source import export_suite
    from claf2.registry import load_plugin
    from claf2.runtime.files import write_text

    for plugin in plugins:
        load_plugin(plugin)
    with _open_records(database, must_exist=True) as records:
        write_text(output, export_suite(records, suite))
    click.echo(str(output))


@contextmanager
def _open_records(database: str, *, must_exist: bool = False) -> Iterator[Records]:
    if must_exist and "://" not in database and not Path(database).is_file():
        raise RunError(f"{database}: no such database; name that of a board with --database")
    with needs_extra("board"):
        from claf2.board.records import Records

    records = Records(database)
    try:
        yield records
    finally:
        records.close()


def _show_progress() -> Callable[[Submission], None]:
    """Return what prints a line about once a second."""
    started = shown = time.monotonic()

    def show(submission: Submission) -> None:
        nonlocal shown
        now, done = time.monotonic(), submission.done
        if now - shown >= 1 and done < submission.total:
            shown = now
            left = (now - started) / done * (submission.total - done)
            click.echo(f"[{done}/{submission.total}] {submission.format_line()}, {left:.0f} s left", err=True)

    return show


def _report(submission: Submission) -> int:
    for reason in submission.refused:
        click.echo(f"refused: {reason}", err=True)
    click.echo(f"{submission.total} cells: {submission.format_line()}")
    return SOME_REFUSED if submission.refused else 0


@board_group.group("token")
def token_group() -> None:
    """Manage the tokens with which clients write to a board. They take effect within a second."""


@token_group.command("add", epilog="""\b
Examples:
  claf2 board token add my-laptop
  claf2 board token add reader --read-only
""")  # fmt: skip
@click.argument("name")
@click.option("--read-only", is_flag=True, help="The token allows to read only: for a board with --read-token.")
@database_option
def token_add(name: str, read_only: bool, database: str) -> None:
    """Make a token and print it. It cannot be printed again."""
    with needs_extra("board"):
        from claf2.board.tokens import add_token

    with _open_records(database) as records:
        click.echo(add_token(records.engine, name, writes=not read_only))


@token_group.command("list", epilog="""\b
Example:
  claf2 board token list
""")  # fmt: skip
@database_option
def token_list(database: str) -> None:
    """Print the names of the tokens, and what they allow."""
    with needs_extra("board"):
        from claf2.board.tokens import list_tokens

    with _open_records(database, must_exist=True) as records:
        for owner in list_tokens(records.engine):
            click.echo(f"{owner.name}\t{'reads and writes' if owner.writes else 'reads'}")


@token_group.command("remove", epilog="""\b
Example:
  claf2 board token remove my-laptop
""")  # fmt: skip
@click.argument("name")
@database_option
def token_remove(name: str, database: str) -> None:
    """Remove a token: it is refused a second later."""
    with needs_extra("board"):
        from claf2.board.tokens import remove_token

    with _open_records(database, must_exist=True) as records:
        remove_token(records.engine, name)
