"""Store accepted signals in an SQLite file, so that they survive kill -9.

Each signal is committed before the response 201. Accounts, contacts and scores are
computed again from the signals at the next start.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.state.keys import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS signals (
    sequence    INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    created_at  TEXT NOT NULL,
    key_name    TEXT NOT NULL,
    key_scope   TEXT NOT NULL,
    body        BLOB NOT NULL,
    workspace   TEXT NOT NULL
)
"""


class StoredSignal(NamedTuple):
    """A row: the body of an accepted signal, and the values that it does not hold."""

    sequence: int
    id: str
    created_at: str
    key_name: str
    key_scope: str
    body: bytes
    workspace: str = DEFAULT_WORKSPACE


class SignalLog:
    """An SQLite file of signals, used by one process at a time.

    Args:
        path: The SQLite file. It is created if its folder exists.

    Raises:
        UsageError: The file cannot be used, or another sandbox uses it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            msg = f"the database {path} cannot be opened: {error}"
            raise UsageError(msg) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise UsageError(f"the database {path} cannot be used: {error}") from error

    def _prepare(self) -> None:
        # Exclusive, because a second sandbox would assign the same sequences.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        # With NORMAL, a killed process loses nothing. Only a power cut could.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_SCHEMA)
        self._db.execute("COMMIT")

    def append(self, signal: StoredSignal) -> None:
        """Store a signal. When this returns, it survives kill -9.

        Raises:
            ApiError: 503; the signal is not stored and can be sent again.
        """
        try:
            self._db.execute("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?)", signal)
        except sqlite3.Error as error:
            msg = "The signal could not be stored."
            raise ApiError(503, "unavailable", msg, retry_after=1) from error

    def all(self) -> Iterator[StoredSignal]:
        """Return every signal in order of acceptance."""
        rows = self._db.execute("SELECT * FROM signals ORDER BY sequence")
        return map(StoredSignal._make, rows)

    def close(self) -> None:
        """Close the file. The signals stay in it."""
        self._db.close()
