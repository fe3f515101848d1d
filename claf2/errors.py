"""Errors that a user can fix. Each message is one line: where the problem is, what it is, and how to fix it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MAX_LENGTH = 1000
"""The most characters of a message, which may quote the content of a file."""


class Claf2Error(Exception):
    """Base of every error that the user can fix. The command line prints it as one line and exits with code 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= MAX_LENGTH else f"{line[:MAX_LENGTH]} …")


class ConfigError(Claf2Error):
    """A value of an experiment is wrong.

    Args:
        path: the full dotted path, e.g. ``optimizer.learning_rate``.
        problem: what is wrong with it.
        origin: where the value came from (``file:line`` or the command line).
        hint: what to do about it, e.g. the nearest valid names.
    """

    def __init__(self, path: str, problem: str, *, origin: str | None = None, hint: str | None = None) -> None:
        self.path = path
        self.problem = problem
        self.origin = origin
        self.hint = hint
        where = f" (from {origin})" if origin else ""
        super().__init__(f"{path}: {problem}{where}" + (f"; {hint}" if hint else ""))


class DataError(Claf2Error):
    """A data file, or a row of it, cannot be used.

    Args:
        file: the file.
        reason: what is wrong with it.
        line: the line of the row, from 1; ``None`` when the error concerns the whole file.
        hint: what to do about it.
    """

    def __init__(self, file: str | Path, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        self.file = str(file)
        self.reason = reason
        self.line = line
        where = self.file if line is None else f"{self.file}:{line}"
        super().__init__(f"{where}: {reason}" + (f"; {hint}" if hint else ""))


class RegistryError(Claf2Error):
    """A name is unknown, or registered twice."""


class ModelError(Claf2Error):
    """A model or tokenizer cannot be found, read or used for the task."""


class RunError(Claf2Error):
    """A run's folder is in the wrong state for the command."""


class RunInUseError(RunError):
    """Another process uses the folder of the run."""


class ChangedError(RunError):
    """Something that a run depends on has changed since the run began."""


class Interrupted(Claf2Error):
    """The user stopped the run; it can be resumed."""

    exit_code = 130


def nearest(name: str, valid: Iterable[str], *, limit: int = 3) -> str:
    """Return a hint that names the valid names closest to ``name``: ``did you mean 'x'?``, or a list of them."""
    options = sorted(set(valid))
    close = difflib.get_close_matches(name, options, n=limit, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(option) for option in close) + "?"
    if len(options) > 12:
        return f"there are {len(options)} valid names, but none is similar"
    return "valid: " + (", ".join(options) if options else "none")


def field_problem(details: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, of one of the ``errors()`` of a pydantic ``ValidationError``."""
    message: str = details["msg"]
    return message.removeprefix("Value error, ")  # pydantic prefixes the message of a ValueError with it


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, with its class where the message alone says little."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip().splitlines()  # without the colours of a terminal
    message = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    # The message of a KeyError is the key, and that of an EOFError is empty.
    return message if " " in message else f"{type(error).__name__}: {message}".removesuffix(": ")
