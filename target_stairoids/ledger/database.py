"""The database a ledger lives in: an SQLite file or a PostgreSQL server."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.schema import LOCK_CLASS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine


def parsed_url(url: str) -> URL:
    """Return the URL with the driver this project uses.

    Raises:
        LedgerError: It is no URL, or of a database that cannot be a ledger.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        msg = "`ledger_url` is not an SQLAlchemy URL such as sqlite:///ledger.db."
        raise LedgerError(msg) from error
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        msg = f"`ledger_url` must name SQLite or PostgreSQL, not {kind}."
        raise LedgerError(msg)
    parsed = parsed.set(drivername="sqlite")
    path = file_of(parsed)
    return parsed.set(database=str(path)) if path else parsed


def name_of(url: URL) -> str:
    """Return a URL to show to people: without password, without driver's options."""
    return url.set(query={}).render_as_string(hide_password=True)


def file_of(url: URL) -> Path | None:
    """Return the file of an SQLite URL; None in memory or on a server."""
    in_memory = url.database in {None, "", ":memory:"}
    if url.get_backend_name() != "sqlite" or in_memory:
        return None
    return Path(str(url.database)).expanduser().resolve()


def engine_of(url: URL) -> Engine:
    """Return an engine whose transactions lock as a ledger needs it.

    A connection's `info["write"]` says whether its next transaction may write.

    Raises:
        LedgerError: The driver is not installed.
    """
    try:
        engine = create_engine(url, hide_parameters=True)
    except ModuleNotFoundError as error:
        msg = "A ledger in PostgreSQL needs `pip install singer-stairoids[postgres]`."
        raise LedgerError(msg) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgres)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - of sqlite3
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_sqlite
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA secure_delete = ON")  # dead letters hold personal data
    connection.execute("PRAGMA cache_size = -16384")  # KiB: keys come in no order
    connection.execute("PRAGMA synchronous = FULL")  # a claim must survive a power cut


def _begin_sqlite(connection: Connection) -> None:
    """Lock before the first read, so that no other process writes in between."""
    write = connection.info.get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    """Let one process write at a time, as SQLite does.

    Two processes that lock rows in two orders would be a deadlock.
    """
    if connection.info.get("write", False):
        connection.execute(select(func.pg_advisory_xact_lock(LOCK_CLASS, 0)))


@contextmanager
def as_ledger_error(what: str) -> Iterator[None]:
    """Turn the database's errors into one that names the setting and no value."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__)
        msg = f"{what}: {' '.join(cause.split())}. See the setting `ledger_url`."
        raise LedgerError(msg) from error
    except OSError as error:
        text = f"{what}: {error.strerror}. See the setting `ledger_url`."
        raise LedgerError(text) from error
