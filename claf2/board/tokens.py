"""The tokens with which clients write to a board."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import IntegrityError

from claf2.board.tables import tokens
from claf2.errors import RunError

__all__ = ["TokenCache", "TokenOwner", "add_token", "find_token", "list_tokens", "remove_token"]

TOKEN_PREFIX = "claf2_"
"""What every token begins with, so that scanners of secrets can recognize one."""


REMEMBERED_SECONDS = 1.0


@dataclass(frozen=True)
class TokenOwner:
    """Whom a token belongs to, and what it allows."""

    name: str
    writes: bool
    """Whether it allows to write; every token allows to read."""


def add_token(engine: Engine, name: str, *, writes: bool = True) -> str:
    """Make a token and return it. It cannot be read again: the database holds its digest.

    Raises:
        RunError: if the name is taken, or is not made of letters, digits, and ``._-``.
    """
    if not re.fullmatch(r"[\w.-]{1,100}", name):
        raise RunError(f"token name {name[:40]!r}: use letters, digits, dots, dashes and underscores, 100 at most")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    try:
        with engine.execution_options(writes=True).begin() as connection:
            connection.execute(tokens.insert(), {"name": name, "sha256": _hash(token), "writes": writes})
    except IntegrityError as error:
        raise RunError(f"there is a token {name!r} already: remove it, or choose another name") from error
    return token


def remove_token(engine: Engine, name: str) -> None:
    """Remove a token: it is refused from now on.

    Raises:
        RunError: if there is none of that name.
    """
    with engine.execution_options(writes=True).begin() as connection:
        if connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount == 0:
            raise RunError(f"there is no token {name[:40]!r}; claf2 board token list prints their names")


def list_tokens(engine: Engine) -> list[TokenOwner]:
    """Return the owners of all tokens, sorted by name."""
    with engine.begin() as connection:
        rows = connection.execute(select(tokens.c.name, tokens.c.writes)).all()
    return [TokenOwner(name, writes) for name, writes in sorted(tuple(row) for row in rows)]


def find_token(engine: Engine, token: str) -> TokenOwner | None:
    """Return whom a token belongs to; ``None`` if it is not valid."""
    digest = _hash(token)
    with engine.begin() as connection:
        rows = connection.execute(select(tokens.c.name, tokens.c.sha256, tokens.c.writes)).all()
    owner = None
    # All are compared, each in constant time: how long it takes does not depend on which one matches, or how far. A
    # token has 256 random bits, so that its SHA-256 needs neither salt nor a slow function.
    for name, stored, writes in rows:
        if hmac.compare_digest(stored, digest):
            owner = TokenOwner(name, writes)
    return owner


class TokenCache:
    """The owners of valid tokens, each remembered for a second: a client that writes often asks the database once, and
    a token that is removed is refused a second later.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, TokenOwner]] = {}

    def recall(self, token: str) -> TokenOwner | None:
        """Return whom a token belongs to, if that is remembered."""
        # The key is a digest, so that how long the look-up takes says nothing about a token.
        until, owner = self._known.get(_hash(token), (0.0, None))
        return owner if time.monotonic() < until else None

    def find(self, token: str) -> TokenOwner | None:
        """Return whom a token belongs to; ``None`` if it is not valid."""
        owner = find_token(self._engine, token)
        if owner is not None:
            self._known[_hash(token)] = (time.monotonic() + REMEMBERED_SECONDS, owner)
        return owner


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
