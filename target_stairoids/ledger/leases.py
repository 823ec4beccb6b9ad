"""Leases: the proof that a run lives.

A lease is a lock that the system takes back when the process dies, never a clock. A run
that was paused for an hour still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from target_stairoids.ledger.schema import LOCK_KEY

#: Options of connections to PostgreSQL. Each commit is on disk, and each wait ends.
#: A transaction that waited for another one sees the rows of that one.
SERVER_OPTIONS: Mapping[str, Any] = {
    "connect_args": {
        "client_encoding": "UTF8",
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "tcp_user_timeout": 60_000,  # milliseconds
    },
    "isolation_level": "READ COMMITTED",
    "local": {
        "synchronous_commit": "on",
        "lock_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
    },
}


class FileLeases:
    """Leases as locked files beside the file of an SQLite ledger."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._held: tuple[int, Path] | None = None
        self._file = ledger.stat().st_ino

    def is_held(self) -> bool:
        """Return whether the ledger's file is still there."""
        try:
            return self._ledger.stat().st_ino == self._file
        except (FileNotFoundError, NotADirectoryError):
            return False

    def take(self, run: int) -> None:
        """Take this process's lease."""
        path = self._path(run)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held = (descriptor, path)

    def lives(self, run: int) -> bool:
        """Return whether a process holds the lease of a run."""
        try:
            descriptor = os.open(self._path(run), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._path(run).unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give this process's lease back."""
        if self._held is not None:
            descriptor, path = self._held
            path.unlink(missing_ok=True)
            os.close(descriptor)
            self._held = None

    def _path(self, run: int) -> Path:
        return self._ledger.with_name(f"{self._ledger.name}.run-{run}")


_TAKE = text(f"SELECT pg_advisory_lock({LOCK_KEY}, :run)")
_TRY = text(f"SELECT pg_try_advisory_lock({LOCK_KEY}, :run)")
_GIVE_BACK = text("SELECT pg_advisory_unlock_all()")  # of this connection
#: Behind a transaction pooler, another session without the locks may execute it.
_OUR_LOCKS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"  # noqa: S608 - our own table
    f" AND pid = pg_backend_pid() AND classid::bigint = {LOCK_KEY} AND objid > 0"
)


class ServerLeases:
    """Leases as advisory locks of PostgreSQL, each on its own connection.

    The server drops a lock when its connection ends. Then another process may take over
    the run's claims. So `is_held` is necessary before each request.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: Connection | None = None

    def take(self, run: int) -> None:
        """Take this process's lease."""
        self._held = self._connect()
        self._held.execute(_TAKE, {"run": run})

    def lives(self, run: int) -> bool:
        """Return whether a process holds the lease of a run."""
        with self._connect() as connection:
            is_dead = connection.scalar(_TRY, {"run": run})
            connection.execute(_GIVE_BACK)
            return not is_dead

    def is_held(self) -> bool:
        """Return whether the connection still has the lock, in the same session."""
        with contextlib.suppress(SQLAlchemyError):
            return self.has_session()
        return False

    def has_session(self) -> bool:
        """Return whether the session is that of the lock, or raise `SQLAlchemyError`.

        A pooler may give this call another session than the transaction before it.
        """
        return self._held is None or bool(self._held.scalar(_OUR_LOCKS))

    def release(self) -> None:
        """Give this process's lease back."""
        if self._held is not None:
            # The server notices the end of the connection only some time later.
            with contextlib.suppress(SQLAlchemyError):
                self._held.execute(_GIVE_BACK)
            self._held.close()
            self._held = None

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        return connection.execution_options(isolation_level="AUTOCOMMIT")
