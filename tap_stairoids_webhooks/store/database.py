"""Open and lock the database of the store: SQLite or PostgreSQL.

In both, a commit survives a power cut, and two transactions that append never overlap.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError
from typing_extensions import override

from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreMissingError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

_BUSY_SECONDS = 5.0  # below the receiver's own deadline
_CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
_ADVISORY_LOCK = 7824651180013  # any number, the same in every version


class Database(ABC):
    """The database of a store.

    Attributes:
        place: Its name for messages, without a password.
    """

    place: str

    @abstractmethod
    def writer(self, *, make: bool) -> sa.Engine:
        """Return an engine that can write.

        Raises:
            StoreMissingError: There is no database, and `make` is False.
        """

    @abstractmethod
    def reader(self) -> sa.Engine:
        """Return an engine that cannot write.

        Raises:
            StoreMissingError: There is no database.
        """

    @abstractmethod
    def lock(self, connection: sa.Connection) -> None:
        """Wait until no other transaction appends; the commit releases the lock."""

    @abstractmethod
    def scrub(self) -> None:
        """Remove the traces of erased bodies that are outside the tables.

        Raises:
            StoreUnavailableError: A reader was in the way. Try again.
        """

    @abstractmethod
    def compact(self) -> None:
        """Return the space of removed rows to the file system.

        Raises:
            StoreUnavailableError: Something was in the way. Try again.
        """

    def free_bytes(self) -> int | None:
        """Return the free space of the disk; None if it is on another machine."""
        return None

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes; empty for a database server."""
        return {}

    @abstractmethod
    def total_bytes(self) -> int:
        """Return the size of the store in bytes, with indexes and log.

        Raises:
            StoreUnavailableError: The size cannot be read now.
        """


def database_at(url: str) -> Database:
    """Return the database of a store URL.

    Raises:
        ConfigError: The URL is of no known kind. The message does not repeat the URL,
            because it may hold a password.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        msg = "store_url is not a database URL such as sqlite:///webhooks.db"
        raise ConfigError(msg) from error
    match parsed.drivername:
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return SqliteDatabase(Path(parsed.database).absolute())
        case "sqlite":
            msg = "store_url must name a file: sqlite:///path or sqlite:////abs/path"
            raise ConfigError(msg)
        case "postgresql" | "postgresql+psycopg":
            return PostgresDatabase(parsed.set(drivername="postgresql+psycopg"))
        case other:
            msg = f"store_url must begin with sqlite: or postgresql:, not {other}:"
            raise ConfigError(msg)


class SqliteDatabase(Database):
    """A SQLite file: one host, one writer at a time, readers never wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: os.stat_result | None = None  # the file that a writer opened
        self.place = str(path)

    @override
    def writer(self, *, make: bool) -> sa.Engine:
        if not make and not self._path.is_file():
            raise StoreMissingError(missing(self.place))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its -wal and -shm files the mode of this one.
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            self._opened = os.fstat(descriptor)
            os.close(descriptor)
        except OSError as error:
            msg = f"the store {self.place} cannot be made: {error.strerror}"
            raise StoreUnavailableError(msg) from error
        return self._engine(mode="rw", begin="BEGIN IMMEDIATE")

    @override
    def reader(self) -> sa.Engine:
        if not self._path.is_file():
            raise StoreMissingError(missing(self.place))
        return self._engine(mode="ro", begin="BEGIN")

    @override
    def lock(self, connection: sa.Connection) -> None:
        """Check that the file is still there; ``BEGIN IMMEDIATE`` has taken the lock.

        Raises:
            StoreUnavailableError: The rows would go into a file that was removed.
        """
        if self._opened is None:
            return  # read-only: SQLite refuses to write
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), self._opened):
                return
        msg = (
            f"the store {self.place} was moved or removed: put it back; if that is a "
            "copy, start the receiver again"
        )
        raise StoreUnavailableError(msg)

    @override
    def scrub(self) -> None:
        """Empty the write-ahead log; `secure_delete` has overwritten the file."""
        self._checkpoint(
            failed=f"the write-ahead log of {self.place} cannot be emptied",
            busy=f"the write-ahead log of {self.place} still holds removed rows",
        )

    @override
    def compact(self) -> None:
        """Rewrite the file and empty the write-ahead log."""
        self._checkpoint(
            "VACUUM",
            failed=f"the store {self.place} was not compacted",
            busy=f"the files of {self.place} are as large as before",
        )

    def _checkpoint(self, *statements: str, failed: str, busy: str) -> None:
        try:
            with closing(self._connect("rw")) as connection:
                for statement in statements:
                    connection.execute(statement)
                is_busy, *_ = connection.execute(_CHECKPOINT).fetchone()
        except sqlite3.Error as error:
            msg = f"{failed}: {error}"
            raise StoreUnavailableError(msg) from error
        if is_busy:
            msg = f"{busy}, because a reader has the store open: try again"
            raise StoreUnavailableError(msg)

    @override
    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return 0

    @override
    def sizes(self) -> dict[str, int]:
        log = self._path.with_name(f"{self._path.name}-wal")
        parts = {"database": self._path, "write_ahead_log": log}
        return {k: path.stat().st_size for k, path in parts.items() if path.is_file()}

    @override
    def total_bytes(self) -> int:
        return sum(self.sizes().values())

    def _engine(self, *, mode: str, begin: str) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: self._connect(mode),
            poolclass=sa.QueuePool,
            hide_parameters=True,
        )
        # The driver's own transactions take the write lock too late.
        sa.event.listen(
            engine, "begin", lambda connection: connection.exec_driver_sql(begin)
        )
        return engine

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode={mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if mode == "rw":
                _prepare_to_write(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def _prepare_to_write(connection: sqlite3.Connection) -> None:
    """Make commits survive a power cut, and overwrite the rows that are removed."""
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        msg = f"journal mode is {journal}: put the store on a local disk"
        raise sqlite3.OperationalError(msg)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA secure_delete = ON")


class PostgresDatabase(Database):
    """A PostgreSQL server: several receivers and readers, on several hosts."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.place = url.render_as_string(hide_password=True)

    @override
    def writer(self, *, make: bool) -> sa.Engine:
        return self._engine("-c synchronous_commit=on")

    @override
    def reader(self) -> sa.Engine:
        engine = self._engine("-c default_transaction_read_only=on")
        sa.event.listen(engine, "connect", _read_binary)
        return engine

    @override
    def lock(self, connection: sa.Connection) -> None:
        """Take the advisory lock, before the first row gets its sequence."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))

    @override
    def scrub(self) -> None:
        with self._autocommit("not vacuumed") as connection:
            connection.exec_driver_sql("VACUUM webhook_events")

    @override
    def compact(self) -> None:
        with self._autocommit("not compacted") as connection:
            connection.exec_driver_sql("VACUUM FULL webhook_events")

    @contextmanager
    def _autocommit(self, failure: str) -> Iterator[sa.Connection]:
        """Connect for statements that cannot run inside a transaction."""
        engine = self._engine("").execution_options(isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            msg = f"the store {self.place} was {failure}: {reason_of(error)}"
            raise StoreUnavailableError(msg) from error
        finally:
            engine.dispose()

    @override
    def total_bytes(self) -> int:
        """Return the size of the table of events; the others hold a few rows each."""
        size = "SELECT pg_total_relation_size('webhook_events')"
        with self._autocommit("not measured") as connection:
            return int(connection.exec_driver_sql(size).scalar_one())

    def _engine(self, options: str) -> sa.Engine:
        try:
            return sa.create_engine(
                self._url,
                connect_args={"options": options, "connect_timeout": 5},
                pool_pre_ping=True,
                hide_parameters=True,
            )
        except ModuleNotFoundError as error:
            msg = "PostgreSQL needs psycopg: pip install 'singer-stairoids[postgres]'"
            raise ConfigError(msg) from error


def _read_binary(connection: psycopg.Connection, _record: object) -> None:
    """Fetch pages as bytes, because the text of a body is twice as long."""
    from psycopg import ServerCursor  # noqa: PLC0415 -- an extra that SQLite does not need

    class BinaryCursor(ServerCursor[Any]):
        execute = partialmethod(ServerCursor.execute, binary=True)

    connection.server_cursor_factory = BinaryCursor


def missing(place: str) -> str:
    """Return the message for a store that does not exist."""
    return (
        f"there is no store at {place}: start the receiver (stairoids-webhooks serve)"
        " with this store, or name another (--store-url; the tap's setting store_url)"
    )


def reason_of(error: sa.exc.DBAPIError) -> str:
    """Return the first line of the database's message.

    Further lines may repeat the values of a row.
    """
    return str(error.orig).strip().partition("\n")[0]
