"""The options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from claf2.errors import RunError

__all__ = [
    "PATH", "WITH_OVERRIDES", "NumberRange", "experiment_options", "join_values", "matrix_options", "needs_extra",
    "overrides_argument", "plugin_option",
]  # fmt: skip

WITH_OVERRIDES = {"ignore_unknown_options": True, "allow_extra_args": True}
"""The settings of a command that takes overrides: all options that it does not know."""

PATH = click.Path(path_type=Path)


def join_values(group: click.Group, words: Sequence[str]) -> list[str]:
    """Join the overrides in a command line with their values to ``--name=value`` if these begin with a hyphen, since
    click would take them for short options.

    Args:
        group: the group of commands.
        words: the words that follow its name.
    """
    command: click.Command | None = group
    joined, rest = list[str](), list(words)
    while rest and isinstance(command, click.Group):
        command = command.commands.get(rest[0])
        joined.append(rest.pop(0))
    if command is None or not command.context_settings.get("ignore_unknown_options"):
        return list(words)
    known = {"--", "-h", "--help", *(name for param in command.params for name in param.opts)}
    for word in rest:
        if word.startswith("-") and known.isdisjoint((joined[-1], word)) and _is_override(joined[-1], word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _is_override(name: str, word: str) -> bool:
    """Say whether two words are the name of a field and a value for it."""
    from claf2.config.source import is_option

    return is_option(name) and "=" not in name and not is_option(word)


SERVER_LIBRARIES = ("fastapi", "prometheus_client", "sqlalchemy", "starlette", "uvicorn")
"""What the servers import besides the libraries that claf2 always needs."""


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Name the extra to install if a server's library is missing.

    Args:
        name: the extra, such as ``board``.

    Raises:
        RunError: if a library of servers cannot be imported in the block.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in SERVER_LIBRARIES:
            raise
        raise RunError(f"this command needs {library}: pip install 'claf2[{name}]'") from error


class NumberRange(click.FloatRange):
    """A finite number in a range. ``click.FloatRange`` accepts NaN, since no comparison excludes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number.

        Raises:
            click.BadParameter: if the text is no finite number in the range.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="A file or module with components of your own."
)
"""The option that loads plug-ins."""

overrides_argument = click.argument("overrides", metavar="[--FIELD VALUE]...", nargs=-1, type=click.UNPROCESSED)
"""Fields of a BaseConfig and their values."""


def experiment_options(command: Any) -> Any:
    """Give a command the options that say what is trained, and where."""
    for option in (
        overrides_argument,
        click.option("--overwrite", is_flag=True, help="Replace the run in the folder, if there is one."),
        click.option("--resume", is_flag=True, help="Continue the run in the folder, if there is one."),
        click.option("--sample", is_flag=True, help="Use a small generated sample of the task instead of its data."),
        plugin_option,
        click.option("--tasks", default="", metavar="A,B,…", help="BaseConfigs to train together in one run."),
        click.option("--base_config", metavar="NAME", help="A BaseConfig, by name (klue/korquad_bert) or path."),
    ):
        command = option(command)
    return command


def matrix_options(command: Any) -> Any:
    """Give a command the options that say which cells are trained, and by which processes."""
    for option in (
        click.option("--retries", type=click.IntRange(0), default=1, show_default=True,
                     help="How many times a failed cell is trained again."),
        click.option("--gpus", type=NumberRange(0), default=0.0, show_default=True,
                     help="Local: GPUs of this machine. Ray: GPUs per cell, such as 0.5."),
        click.option("--cpus", type=click.IntRange(1),
                     help="Threads per cell.  [default: all cores, divided among workers]"),
        click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
                     help="Local: number of processes."),
        click.option("--backend", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                     help="Where cells are trained."),
        click.option("--recipe", metavar="NAME", help="A recipe of the suite.  [default: its first]"),
        click.option("--seeds", default="1-3", show_default=True, metavar="1-5|1,2,…",
                     help="The seeds, not how many: 3 is seed 3 alone, 1-3 are three."),
        click.option("--tasks", default="", metavar="A,B,…", help="Tasks of the suite.  [default: all]"),
        click.option("--suite", "name", required=True, help="The suite, such as glue; claf2 suite list prints all."),
    ):  # fmt: skip
        command = option(command)
    return command
