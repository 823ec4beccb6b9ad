"""Leases: the proof that a forwarder runs.

A lease is a lock that the system takes back when the process dies, never a clock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from stairoids_common.database import reason_of
from tap_stairoids_webhooks.exceptions import StoreUnavailableError
from tap_stairoids_webhooks.store.database import (
    Database,
    PostgresDatabase,
    SqliteDatabase,
)
from tap_stairoids_webhooks.store.schema import STORE

if TYPE_CHECKING:
    from pathlib import Path

#: The number of a table differs for stores in several schemas of a database. A key of
#: a lock has 31 bits.
_STORE = f"CAST('{STORE.name}'::regclass::oid::bigint & 2147483647 AS integer)"
_TRY = sa.text(f"SELECT pg_try_advisory_lock({_STORE}, :name)")
#: The server ends the session of a peer that is gone without a word. The forwarder uses
#: its session every second. PostgreSQL 13 has no such setting.
_END_IF_IDLE = sa.text(
    "SELECT set_config(name, '5s', false) FROM pg_settings"
    " WHERE name = 'idle_session_timeout'"
)
#: Behind a transaction pooler, another session may execute it, and has none.
_IS_HELD = sa.text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"  # noqa: S608 - our own table
    " AND pid = pg_backend_pid() AND objsubid = 2"
    f" AND classid::bigint = {_STORE} AND objid::bigint = :name"
)


def lease_of(database: Database, name: str) -> _FileLease | _ServerLease:
    """Return the right to deliver the events of a forwarder, which is not taken yet."""
    if isinstance(database, SqliteDatabase):
        return _FileLease(database.path, name)
    return _ServerLease(database, name)


class _FileLease:
    """A locked file beside the file of an SQLite store. The file stays there."""

    def __init__(self, store: Path, name: str) -> None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        self._path = store.with_name(f"{store.name}.forward-{digest}")
        self._held: int | None = None

    def take(self) -> bool:
        """Take the lease; return False if another process has it."""
        try:
            self._held = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError as error:
            self.release()
            why = f"the lock file {self._path} cannot be opened: {error.strerror}"
            raise StoreUnavailableError(why) from error
        return True

    def is_held(self) -> bool:
        """Return whether this process still has the lease."""
        return self._held is not None

    def release(self) -> None:
        """Give the lease back, if this process has it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


class _ServerLease:
    """An advisory lock of PostgreSQL on a connection of its own."""

    def __init__(self, database: PostgresDatabase, name: str) -> None:
        self._place = database.place
        engine = database.writer(make=False)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._key = {"name": zlib.crc32(name.encode()) >> 1}
        self._held: sa.Connection | None = None

    def take(self) -> bool:
        """Take the lease; return False if another process has it."""
        try:
            connection = self._engine.connect()
            connection.execute(_END_IF_IDLE)
            if connection.scalar(_TRY, self._key):
                self._held = connection
                return True
            connection.close()
        except sa.exc.DBAPIError as error:
            msg = f"the store {self._place} cannot be opened: {reason_of(error)}"
            raise StoreUnavailableError(msg) from error
        return False

    def is_held(self) -> bool:
        """Return whether this process still has the lease."""
        if self._held is None:
            return False
        with suppress(sa.exc.DBAPIError):
            return bool(self._held.scalar(_IS_HELD, self._key))
        return False

    def release(self) -> None:
        """Give the lease back, if this process has it."""
        if self._held is not None:
            self._held.invalidate()  # closes the session, which ends the lock
            self._held = None
        self._engine.dispose()
