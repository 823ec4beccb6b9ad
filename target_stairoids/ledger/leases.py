"""A lease: the proof that a run lives, which the system takes back when it dies.

Never a clock: a run that was paused for an hour still lives, and one that was killed a
millisecond ago does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from target_stairoids.ledger.schema import LOCK_CLASS

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine


class Leases(Protocol):
    """The leases of all runs on one ledger."""

    def take(self, run: int) -> None:
        """Take this process's lease."""

    def lives(self, run: int) -> bool:
        """Say whether some process holds the lease of a run."""

    def is_held(self) -> bool:
        """Say whether this process's lease, once taken, is still its own."""

    def release(self) -> None:
        """Give this process's lease back."""


class NoLeases:
    """For a ledger that no other process can see."""

    def take(self, run: int) -> None:
        """Do nothing: nobody asks."""

    def lives(self, run: int) -> bool:  # noqa: ARG002 - the protocol has the argument
        """Return False: what another run left cannot be in use."""
        return False

    def is_held(self) -> bool:
        """Return True: nobody can take it."""
        return True

    def release(self) -> None:
        """Do nothing: nothing was taken."""


class FileLeases:
    """Leases as locked files beside an SQLite ledger.

    Args:
        ledger: The ledger's file.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._held: tuple[int, Path] | None = None

    def take(self, run: int) -> None:
        """Take this process's lease; the system drops it when the process ends."""
        path = self._path(run)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held = (descriptor, path)

    def lives(self, run: int) -> bool:
        """Say whether some process holds the lease of a run."""
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

    def is_held(self) -> bool:
        """Return True: the system takes a file lock back from the dead only."""
        return True

    def release(self) -> None:
        """Give this process's lease back."""
        if self._held is not None:
            descriptor, path = self._held
            path.unlink(missing_ok=True)
            os.close(descriptor)
            self._held = None

    def _path(self, run: int) -> Path:
        return self._ledger.with_name(f"{self._ledger.name}.run-{run}")


class ServerLeases:
    """Leases as advisory locks of PostgreSQL, each on a connection of its own.

    The server drops a lock when the connection ends; then another process may take the
    run's claims over, so the lease is asked for before every request.

    Args:
        engine: Gives the connections.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: Connection | None = None

    def take(self, run: int) -> None:
        """Take this process's lease; the server drops it when the process ends."""
        self._held = self._connect()
        self._held.execute(select(func.pg_advisory_lock(LOCK_CLASS, run)))

    def lives(self, run: int) -> bool:
        """Say whether some process holds the lease of a run."""
        with self._connect() as connection:
            locked = select(func.pg_try_advisory_lock(LOCK_CLASS, run))
            is_dead = bool(connection.scalar(locked))
            if is_dead:
                connection.execute(select(func.pg_advisory_unlock(LOCK_CLASS, run)))
            return not is_dead

    def is_held(self) -> bool:
        """Say whether the connection that holds the lock is still there."""
        if self._held is None:
            return True
        try:
            self._held.execute(select(1))
        except SQLAlchemyError:
            return False
        return True

    def release(self) -> None:
        """Give this process's lease back."""
        if self._held is not None:
            # The server would notice the end of the connection only some time later.
            with contextlib.suppress(SQLAlchemyError):
                self._held.execute(select(func.pg_advisory_unlock_all()))
            self._held.close()
            self._held = None

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        connection.info.pop("write", None)  # of an earlier use of the connection
        return connection.execution_options(isolation_level="AUTOCOMMIT")
