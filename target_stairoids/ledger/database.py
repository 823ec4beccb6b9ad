"""The database of a ledger: an SQLite file or a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from target_stairoids.exceptions import LedgerError

if TYPE_CHECKING:
    from sqlalchemy import Engine


def parsed_url(url: str) -> URL:
    """Return the URL with the driver that this project uses.

    Raises:
        LedgerError: It is no URL, or names a database that cannot hold a ledger.
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
    """Return a URL for people: without password and without driver options."""
    return url.set(query={}).render_as_string(hide_password=True)


def file_of(url: URL) -> Path | None:
    """Return the file of an SQLite URL; None in memory or on a server."""
    in_memory = url.database in {None, "", ":memory:"}
    if url.get_backend_name() != "sqlite" or in_memory:
        return None
    return Path(str(url.database)).expanduser().resolve()


def engine_of(url: URL) -> Engine:
    """Return an engine. On SQLite, its caller executes BEGIN.

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
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - of sqlite3
    connection.isolation_level = None  # the ledger executes BEGIN itself
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA secure_delete = ON")  # dead letters hold personal data
    connection.execute("PRAGMA cache_size = -16384")  # KiB: keys come in random order
    connection.execute("PRAGMA synchronous = FULL")  # a claim must survive a power cut
