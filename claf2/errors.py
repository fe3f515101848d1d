"""Errors a user can mend: each is one line that says where, what, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

LONGEST = 1000
"""How many characters a message may have: it may quote what a file holds."""


class Claf2Error(Exception):
    """Base of every mistake that is the user's to mend. The command line prints it as one line and exits with 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]} …")


class ConfigError(Claf2Error):
    """A value of an experiment is wrong.

    Args:
        path: the full dotted path, e.g. ``optimizer.learning_rate``.
        problem: what is wrong with it.
        origin: where the value came from (``file:line`` or the command line).
        hint: the way out, e.g. the nearest valid names.
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
        line: the line of the row, counted from 1; ``None`` when the whole file is meant.
        hint: the way out.
    """

    def __init__(self, file: str | Path, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        self.file = str(file)
        self.reason = reason
        self.line = line
        where = self.file if line is None else f"{self.file}:{line}"
        super().__init__(f"{where}: {reason}" + (f"; {hint}" if hint else ""))


class RegistryError(Claf2Error):
    """A name is unknown, or two components claim it."""


class ModelError(Claf2Error):
    """A model or tokenizer cannot be found, read or used for the task."""


class RunError(Claf2Error):
    """A run folder is in the wrong state for what was asked of it."""


class ChangedError(RunError):
    """What a run depends on is not what it was when the run began."""


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
        return f"there are {len(options)} valid names, none of them close"
    return "valid: " + (", ".join(options) if options else "none")
