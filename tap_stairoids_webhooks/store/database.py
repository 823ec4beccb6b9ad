"""Open and lock the database of the store: SQLite or PostgreSQL.

In both, a commit survives a power cut, and two transactions that append never overlap.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

from stairoids_common.database import (
    SAFE_WRITES,
    code_of,
    create_file,
    encoding_of,
    engine_of,
    name_of,
    parsed_url,
    reason_of,
)
from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreForbiddenError,
    StoreMissingError,
    StoreUnavailableError,
)
from tap_stairoids_webhooks.store.schema import STORE

if TYPE_CHECKING:
    import psycopg

_BUSY_SECONDS = 5.0  # below the receiver's own deadline
_LOG_LIMIT = "journal_size_limit = 67108864"  # bytes
_CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
#: PostgreSQL ends a session of a frozen process that holds the lock.
_WRITER_LIMITS = {
    "lock_timeout": "5s",
    "statement_timeout": "8s",
    "idle_in_transaction_session_timeout": "5s",
}
#: Notice a server that is gone without a word, in seconds and milliseconds.
_DEAD_PEER = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,
}
_ADVISORY_LOCK = 7824651180013  # any number, the same in every version
_TRY_LOCK = (
    f"SELECT pg_try_advisory_xact_lock({_ADVISORY_LOCK}),"
    " current_setting('transaction_read_only')"
)
_WAIT_FOR_LOCK = f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"
_FROZEN_SECONDS = 4
_STORE_URL = "See --store-url (the tap's setting store_url)."
_LOCK_TIMEOUT = "55P03"  # `lock_not_available` of PostgreSQL
#: End the session of a writer that holds the lock and is silent amid a batch. None of
#: the time limits applies there, because PostgreSQL waits for the rest of the batch.
_END_FROZEN_WRITER = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
    " AND (classid::bigint << 32 | objid::bigint) = :lock AND objsubid = 1"
    " AND usename = current_user AND wait_event = 'ClientRead'"
    " AND state_change < clock_timestamp() - :seconds * interval '1 s'"
)


def database_at(url: str) -> Database:
    """Return the database of a store URL."""
    parsed = parsed_url(url, setting="store_url", error=ConfigError)
    if parsed.get_backend_name() == "postgresql":
        return PostgresDatabase(parsed)
    return SqliteDatabase(Path(str(parsed.database)))


class SqliteDatabase:
    """A SQLite file: one host, one writer at a time, readers never wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: os.stat_result | None = None  # the file of the connections
        self.place = str(path)
        self.url = f"sqlite:///{path}"

    def writer(self, *, make: bool) -> sa.Engine:
        """Return an engine that can write, also of a new database if `make` is true."""
        if not make:
            self._status()
        self._refuse_other_tables()
        try:
            create_file(self.path)
            self._opened = self.path.stat()
            mode = self._opened.st_mode  # such as 0644, of a copy
            if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
                self.path.chmod(0o600)
        except OSError as error:
            what = "made" if make else "written"
            why = f"the store {self.place} cannot be {what}: {error.strerror}"
            is_forbidden = isinstance(error, PermissionError)
            kind = StoreForbiddenError if is_forbidden else StoreUnavailableError
            raise kind(f"{why}. {_STORE_URL}") from error
        return self._engine("rw", begin="BEGIN IMMEDIATE")

    def reader(self) -> sa.Engine:
        """Return an engine that cannot write."""
        self._opened = self._status()
        return self._engine("ro", begin="BEGIN")

    def _refuse_other_tables(self) -> None:
        """Refuse the database of another program, before anything in it changes."""
        tables = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        url = f"file:{quote(str(self.path))}?mode=ro"
        if not os.path.isfile(self.path):  # noqa: PTH113 -- Path.is_file may raise
            return
        with suppress(sqlite3.Error), closing(sqlite3.connect(url, uri=True)) as opened:
            names = {name for (name,) in opened.execute(tables)}
            if names and STORE.name not in names:
                raise ConfigError(
                    f"the file {self.place} is the database of another program: name"
                    f" another file. {_STORE_URL}"
                )

    def _status(self) -> os.stat_result:
        """Return the status of the file."""
        try:
            if self.path.is_file():
                return self.path.stat()
        except OSError as error:  # such as of a folder of another user
            why = f"the store {self.place} cannot be opened: {error.strerror}"
            raise StoreUnavailableError(f"{why}. {_STORE_URL}") from error
        raise StoreMissingError(missing(self.place))

    def scrub(self) -> None:
        """Empty the write-ahead log; `secure_delete` has overwritten the file."""
        self._checkpoint(
            failed=f"the write-ahead log of {self.place} cannot be emptied",
            busy=f"the write-ahead log of {self.place} still holds removed rows",
        )

    def compact(self) -> None:
        """Rewrite the file and empty the write-ahead log."""
        self._checkpoint(
            "VACUUM",
            failed=f"the store {self.place} was not compacted",
            busy=f"the files of {self.place} are as large as before",
        )

    def _checkpoint(self, *statements: str, failed: str, busy: str) -> None:
        with _autocommit(self._engine("rw", begin=None), failed) as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            is_busy, *_ = connection.exec_driver_sql(_CHECKPOINT).one()
        if is_busy:
            msg = f"{busy}, because a reader has the store open: try again"
            raise StoreUnavailableError(msg)

    def free_bytes(self) -> int | None:
        """Return the free space of the disk; None if it is not known."""
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError:
            return None  # the folder is gone; `lock` says so

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes."""
        log = self.path.with_name(f"{self.path.name}-wal")
        parts = {"database": self.path, "write_ahead_log": log}
        return {k: path.stat().st_size for k, path in parts.items() if path.is_file()}

    def total_bytes(self) -> int:
        """Return the size of the store in bytes, with indexes and log."""
        return sum(self.sizes().values())

    def lock(self, connection: sa.Connection) -> None:
        """Wait until no other transaction appends, as BEGIN IMMEDIATE has done."""

    def check_encoding(self, connection: sa.Connection) -> None:
        """Check nothing: SQLite stores any text."""

    def interrupt(self) -> None:
        """Close nothing: SQLite has a time limit of its own."""

    def _engine(self, mode: str, *, begin: str | None) -> sa.Engine:
        url = sa.URL.create(
            "sqlite",
            database=f"file:{quote(str(self.path))}",
            query={"mode": mode, "uri": "true"},
        )
        pragmas = (*SAFE_WRITES, _LOG_LIMIT) if mode == "rw" else ()
        engine = engine_of(url, pragmas, busy_seconds=_BUSY_SECONDS)
        if mode == "rw":
            sa.event.listen(engine, "connect", self._require_wal)
        if begin is not None:
            sa.event.listen(engine, "begin", partial(self._begin, begin))
        return engine

    def _begin(self, begin: str, connection: sa.Connection) -> None:
        """Begin a transaction, unless its file is no longer the store."""
        connection.exec_driver_sql(begin)
        with suppress(OSError):
            if self._opened and os.path.samestat(self.path.stat(), self._opened):
                return
        raise StoreUnavailableError(
            f"the store {self.place} was moved or removed: put it back; if that is a "
            "copy, start the receiver again"
        )

    def _require_wal(self, connection: sqlite3.Connection, _record: object) -> None:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        if journal != "wal":
            connection.close()
            raise StoreUnavailableError(
                f"the store {self.place} cannot be opened: journal mode is {journal}:"
                " put the store on a local disk"
            )


class PostgresDatabase:
    """A PostgreSQL server: several receivers and readers, on several hosts."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._connections: weakref.WeakSet[psycopg.Connection] = weakref.WeakSet()
        self._connections_lock = threading.Lock()  # other threads connect
        self.place = name_of(url)
        self.url = _without_password(url)

    def writer(self, *, make: bool) -> sa.Engine:  # noqa: ARG002 -- as for SQLite
        """Return an engine that can write."""
        return self._engine({"synchronous_commit": "on", **_WRITER_LIMITS})

    def check_encoding(self, connection: sa.Connection) -> None:
        """Raise `ConfigError` if the database cannot store any text."""
        if encoding := encoding_of(connection):
            raise ConfigError(
                f"the database {self.place} has the encoding {encoding}, which cannot"
                " store every event: create a database with ENCODING 'UTF8'"
            )

    def interrupt(self) -> None:
        """Close connections on which a thread waits; called from another thread."""
        with self._connections_lock:
            connections = list(self._connections)
        for connection in connections:
            with (
                suppress(Exception),  # it was closed meanwhile
                socket.socket(fileno=os.dup(connection.fileno())) as shared,
            ):
                shared.shutdown(socket.SHUT_RDWR)

    def reader(self) -> sa.Engine:
        """Return an engine that cannot write."""
        engine = self._engine(
            # Without statistics PostgreSQL would sort all later events for each page.
            {"enable_bitmapscan": "off"},
            # The statements of a transaction see one state of the store.
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )
        sa.event.listen(engine, "connect", _read_binary)
        return engine

    def lock(self, connection: sa.Connection) -> None:
        """Take the advisory lock, before the first row gets its sequence."""
        is_taken, read_only = connection.exec_driver_sql(_TRY_LOCK).one()
        if read_only == "on":
            connection.invalidate()  # a session keeps its defaults, and its server
            raise StoreUnavailableError(
                f"the store {self.place} is read-only: connect to the primary server,"
                " or let this database or user write"
            )
        if is_taken:
            return
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(_WAIT_FOR_LOCK)
        except sa.exc.OperationalError as error:
            if code_of(error) != _LOCK_TIMEOUT:
                raise
            frozen = {"lock": _ADVISORY_LOCK, "seconds": _FROZEN_SECONDS}
            connection.execute(_END_FROZEN_WRITER, frozen)
            # Another waiting writer may have ended it, and have the lock for a moment.
            connection.exec_driver_sql(_WAIT_FOR_LOCK)

    def scrub(self) -> None:
        """Write the table again, because VACUUM leaves the bytes in its file."""
        self.compact()

    def compact(self) -> None:
        """Return the space of removed rows to the file system."""
        details: list[str] = []
        failure = f"the table of events of {self.place} was not written again"
        with self._autocommit(failure) as connection:
            driver: Any = connection.connection.driver_connection
            driver.add_notice_handler(lambda n: details.append(n.message_detail or ""))
            connection.exec_driver_sql("VACUUM (FULL, VERBOSE) webhook_events")
        # "3 dead row versions cannot be removed yet.", in the language of the server
        if any(re.match(r"[^\d]*[1-9]", detail) for detail in details):
            raise StoreUnavailableError(
                f"the files of {self.place} still hold removed rows, because another"
                " session has an older state of the database open: end that transaction"
                " and try again"
            )

    def free_bytes(self) -> int | None:
        """Return None: the disk of a server is not known."""
        return None

    def sizes(self) -> dict[str, int]:
        """Return no size of a file, of which a server has many."""
        return {}

    def _autocommit(self, failure: str) -> AbstractContextManager[sa.Connection]:
        engine = self._engine({}, isolation_level="AUTOCOMMIT")
        limit = "SET lock_timeout = '10s'"
        sa.event.listen(engine, "begin", lambda c: c.exec_driver_sql(limit))
        return _autocommit(engine, failure)

    def total_bytes(self) -> int:
        """Return the size of the table of events; the others hold a few rows each."""
        size = "SELECT pg_total_relation_size('webhook_events')"
        with self._autocommit(f"the store {self.place} was not measured") as connection:
            return int(connection.exec_driver_sql(size).scalar_one())

    def _engine(self, local: Mapping[str, str], **options: Any) -> sa.Engine:
        arguments = {
            "client_encoding": "UTF8",
            # A prepared statement keeps its plan, also after an empty table has grown.
            "prepare_threshold": None,
            **_DEAD_PEER,
        }
        options |= {"connect_args": arguments, "pool_pre_ping": True}
        engine = engine_of(self._url, local=local, **options)
        sa.event.listen(engine, "connect", self._note)
        return engine

    def _note(self, connection: psycopg.Connection, _record: object) -> None:
        with self._connections_lock:
            self._connections.add(connection)


Database = SqliteDatabase | PostgresDatabase


@contextmanager
def _autocommit(engine: sa.Engine, failure: str) -> Iterator[sa.Connection]:
    """Connect for statements that cannot run inside a transaction."""
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"{failure}: {reason_of(error)}") from error
    finally:
        engine.dispose()


def _read_binary(connection: psycopg.Connection, _record: object) -> None:
    """Fetch rows as bytes, because the text of a body is twice as long."""
    from psycopg import Cursor  # noqa: PLC0415 -- an extra that SQLite does not need

    class BinaryCursor(Cursor[Any]):
        execute = partialmethod(Cursor.execute, binary=True)

    connection.cursor_factory = BinaryCursor


def missing(place: str) -> str:
    """Return the message for a store that does not exist."""
    return (
        f"there is no store at {place}: start the receiver (stairoids-webhooks"
        f" serve) with this store, or name another. {_STORE_URL}"
    )


def _without_password(url: sa.URL) -> str:
    """Return a URL for a command, which gets the password from its environment."""
    secret = [name for name in url.query if "password" in name]
    bare = sa.URL.create(
        url.get_backend_name(), url.username, None, url.host, url.port, url.database
    )
    query = url.difference_update_query(secret).query
    return bare.set(query=query).render_as_string()
