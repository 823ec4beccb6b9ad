"""The journal: accepted signals in an SQLite file, so that they survive kill -9.

Each signal is committed before it is answered 201. Everything else (accounts,
contacts, scores) follows from the signals, read again at the next start.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import ApiError, UsageError

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
    body        BLOB NOT NULL
)
"""
_INSERT = """
INSERT INTO signals (sequence, id, created_at, key_name, key_scope, body)
VALUES (?, ?, ?, ?, ?, ?)
"""
_SELECT = """
SELECT sequence, id, created_at, key_name, key_scope, body
FROM signals ORDER BY sequence
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted signal as it is kept: its bytes and what they were answered."""

    sequence: int
    id: str
    created_at: str
    key_name: str
    key_scope: str
    body: bytes


class Journal:
    """Append entries durably; read them back in order. One process at a time.

    Args:
        path: The SQLite file. Created on first use; its folder must exist.

    Raises:
        UsageError: The file cannot be used, or another sandbox holds it.
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
            msg = f"the database {path} cannot be used: {error}"
            raise UsageError(msg) from error

    def _prepare(self) -> None:
        # Exclusive: a second sandbox on the same file would number alike.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        # NORMAL: a killed process loses nothing; only a power cut could.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_SCHEMA)
        self._db.execute("COMMIT")

    def append(self, entry: Entry) -> None:
        """Keep an entry, and return once it would survive kill -9.

        Raises:
            ApiError: 503; the entry is not kept. Send the signal again.
        """
        try:
            self._db.execute(
                _INSERT,
                (
                    entry.sequence,
                    entry.id,
                    entry.created_at,
                    entry.key_name,
                    entry.key_scope,
                    entry.body,
                ),
            )
        except sqlite3.Error as error:
            msg = "The signal could not be stored."
            raise ApiError(503, "unavailable", msg, retry_after=1) from error

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in order of acceptance."""
        for sequence, id_, created_at, key_name, key_scope, body in self._db.execute(
            _SELECT
        ):
            yield Entry(
                sequence=sequence,
                id=id_,
                created_at=created_at,
                key_name=key_name,
                key_scope=key_scope,
                body=body,
            )

    def close(self) -> None:
        """Close the file; the entries stay."""
        self._db.close()
