"""The tables of the board's database, the engine that opens them, and the migrations from earlier versions."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from claf2.errors import RunError, first_line
from claf2.registry import digest as json_digest

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

__all__ = [
    "DATABASE_VERSION",
    "cells",
    "compress",
    "counters",
    "decompress",
    "open_database",
    "predictions",
    "splits",
    "tokens",
]

DATABASE_VERSION = 2
"""The version of the tables. Version 1 did not say who submitted a cell, and its records had no learning curve."""

BUSY_SECONDS = 30
"""How long a connection to SQLite waits for another process that writes."""

_metadata = MetaData()

counters = Table(
    "counters", _metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)  # fmt: skip
"""``database``: the version of the tables. ``changes``: how many changes there have been."""

cells = Table(
    "cells", _metadata,
    Column("digest", String(64), primary_key=True),
    Column("place", String(64), nullable=False, unique=True),
    Column("suite", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("finished", Boolean, nullable=False),
    Column("content", String(64), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("submitter", Text),
    Index("cells_change", "change"),
)  # fmt: skip
"""``content`` is the SHA-256 of the record, and ``change`` the number of the change that wrote it. Names are not
indexed: an index of PostgreSQL holds no text of 10 kB."""

splits = Table(
    "splits", _metadata,
    Column("cell", String(64), ForeignKey("cells.digest"), primary_key=True),
    Column("split", String(512), primary_key=True),
    Column("sha256", String(64), ForeignKey("predictions.sha256"), nullable=False, index=True),
)  # fmt: skip
"""Which predictions belong to which split of a cell."""

predictions = Table(
    "predictions", _metadata,
    Column("sha256", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)  # fmt: skip
"""The predictions of a split, stored once for all cells that have the same."""

tokens = Table(
    "tokens", _metadata,
    Column("name", String(512), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("writes", Boolean, nullable=False),
)  # fmt: skip
"""Only the digest of a token is stored: who reads the database cannot write to the board."""


def compress(content: bytes) -> bytes:
    """Return text compressed for storage."""
    return zlib.compress(content, 1)


def decompress(content: bytes) -> bytes:
    """Return what ``compress`` compressed."""
    return zlib.decompress(content)


def open_database(url: str) -> Engine:
    """Open a database, create its tables or migrate those of an earlier version.

    Args:
        url: an SQLAlchemy URL (``postgresql+psycopg://…``), or the path of an SQLite file.

    Raises:
        RunError: if it cannot be opened, is another program's, or was written by a later version.
    """
    try:
        engine = _make_engine(url if "://" in url else f"sqlite:///{Path(url).expanduser()}")
        with engine.execution_options(writes=True).begin() as connection:
            _prepare_tables(connection)
    except ModuleNotFoundError as error:
        raise RunError(
            f"{_shown(url)}: no module {error.name}; pip install 'psycopg[binary]' for PostgreSQL"
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise RunError(
            f"{_shown(url)}: not a database URL: {first_line(error)}; write postgresql+psycopg://…"
        ) from error
    except SQLAlchemyError as error:
        raise RunError(f"{_shown(url)}: cannot be opened: {first_line(error)}; check the path or the URL") from error
    return engine


def _shown(url: str) -> str:
    """Return a URL without its password."""
    try:
        return make_url(url).render_as_string() if "://" in url else url
    except ArgumentError:
        return url.partition("://")[0] + "://…"


def _make_engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    path = make_url(url).database
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    # `isolation_level=None`: the driver begins no transaction by itself, so that `begin` below decides.
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: DBAPIConnection, _: Any) -> None:
        cursor = connection.cursor()
        # With a write-ahead log readers never wait; with FULL every commit is on the disk before it is acknowledged.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that first reads and then writes would fail if another one wrote in between.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _prepare_tables(connection: Connection) -> None:
    names = set(inspect(connection).get_table_names())
    if not names:
        _metadata.create_all(connection)
        rows = [{"name": "database", "value": DATABASE_VERSION}, {"name": "changes", "value": 0}]
        connection.execute(counters.insert(), rows)
        return
    if "counters" not in names:
        raise RunError(
            f"{connection.engine.url!r} is not a board's database: it has tables {', '.join(sorted(names))[:80]}"
        )
    version = connection.execute(text("SELECT value FROM counters WHERE name = 'database'")).scalar_one()
    if version > DATABASE_VERSION:
        raise RunError(
            f"{connection.engine.url!r} has version {version}, and this claf2 knows up to {DATABASE_VERSION}: "
            "install a newer claf2, or rebuild the board in another database"
        )
    for step in range(version, DATABASE_VERSION):
        MIGRATIONS[step](connection)
    connection.execute(counters.update().where(counters.c.name == "database").values(value=DATABASE_VERSION))


def _migrate_from_1(connection: Connection) -> None:
    """Add who submitted a cell, and an empty learning curve to the records."""
    connection.execute(text("ALTER TABLE cells ADD COLUMN submitter TEXT"))
    for digest, packed in connection.execute(text("SELECT digest, record FROM cells")).all():
        record = {**json.loads(decompress(packed)), "version": 2}
        record.setdefault("learning_curve", [])
        connection.execute(
            cells.update().where(cells.c.digest == digest).values(
                record=compress(json.dumps(record, ensure_ascii=False).encode()), content=json_digest(record)
            )
        )  # fmt: skip


MIGRATIONS = {1: _migrate_from_1}
"""Version → what makes the tables those of the next version."""
