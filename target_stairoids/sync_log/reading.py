"""Read the ledger as the records of streams. The Singer tap and Airbyte use it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from target_stairoids.dedup.duplicate_rules import Outcome
from target_stairoids.dedup.record import key_digest
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

#: Replication key of the streams that are incremental.
SEQUENCE = "sequence"
_PAGE = 1_000  # rows of one transaction
_COUNTS = ("read", "signals", "requests", *(o for o in Outcome if o != "would_send"))
_INTEGER = {"type": ["integer", "null"]}
_TEXT = {"type": ["string", "null"]}
_TIME = {**_TEXT, "format": "date-time"}
_WHERE = {
    "origin": {**_TEXT, "description": "The API's address."},
    "namespace": {**_TEXT, "description": "The setting `namespace`."},
}
_KEY = {
    "key": {
        **_TEXT,
        "description": "Values of the key as a JSON array: `[42]`. Null without a key.",
    },
    "key_digest": {**_TEXT, "description": "SHA-256 of that array, in hexadecimal."},
}
_ID = {**_TEXT, "description": "Null if a person resolved an `unknown` dead letter."}


class SyncLog:
    """The ledger, opened for reading when it is first needed. Close it at the end.

    Each access raises `LedgerError` if there is no ledger, or it cannot be read.

    Attributes:
        stopped: Set it to end every stream after the current record.
    """

    def __init__(self, ledger_url: str) -> None:
        self._url = ledger_url
        self._opened = ExitStack()
        self.streams = [LogStream(self, *described) for described in _STREAMS]
        self.stopped = False

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger with all its scopes."""
        ledger = Ledger.open_read_only(self._url, "", missing_ok=False)
        return self._opened.enter_context(ledger)

    def close(self) -> None:
        """Close the ledger."""
        self._opened.close()


class LogStream:
    """One stream of the log.

    Attributes:
        key: The primary key: a number and a time, so that a new ledger has other keys.
        last_at: The time in the key of the last record; None before the first.
    """

    def __init__(
        self,
        log: SyncLog,
        name: str,
        key: tuple[str, str],
        columns: Mapping[str, Any],
        record_of: Callable[[Any], dict[str, Any]],
    ) -> None:
        self._log = log
        self._record_of = record_of
        self.name = name
        self.key = key
        self.schema = {"type": "object", "properties": {**columns}}
        self.is_incremental = SEQUENCE in columns
        self.last_at: str | None = None

    def start_of(self, bookmark: Mapping[str, Any]) -> int:
        """Return the sequence of a bookmark, or 0 if this ledger never wrote it.

        The bookmark has `sequence`, and the time `at` in the key of its record.
        """
        sequence, at = bookmark.get(SEQUENCE), bookmark.get("at")
        if not self.is_incremental or not sequence:
            return 0
        if (
            isinstance(sequence, int)
            and sequence is not True
            and 0 < sequence < 2**63
            and queries.log_has(self._log.ledger, self.name, sequence, str(at))
        ):
            self.last_at = str(at)
            return sequence
        logger.warning(
            "Stream `%s` is read from its start, because the ledger %s lacks its last "
            "record. It is another ledger, an older copy, or it was pruned.",
            self.name,
            self._log.ledger.name,
        )
        return 0

    def after(self, sequence: int) -> Iterator[dict[str, Any]]:
        """Yield the records after a sequence, in the order of their commits."""
        ledger, number = self._log.ledger, self.key[0]
        order = SEQUENCE if self.is_incremental else number
        while rows := queries.log_after(ledger, self.name, sequence, _PAGE):
            for row in rows:
                if self._log.stopped:
                    return
                record = self._record_of(row)
                self.last_at = record[self.key[1]]
                yield record
            sequence = getattr(rows[-1], order)


def _signal(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of the ledger
    names = ("signal_id", "account_id", "contact_id", "type", "source")
    return {
        SEQUENCE: row.sequence,
        **{name: getattr(row, name) for name in names},
        "stream": row.name,
        **_key_in(row.key_values),
        "run": row.run,
        "accepted_at": row.accepted_at,
        **_where(row.scope),
    }


def _run(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of the ledger
    report = json.loads(row.report or "{}")
    counts = {**report.get("outcomes", {}), **report}
    return {
        "run": row.run,
        SEQUENCE: row.sequence,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "exit_code": row.exit_code,
        "reason": row.end_reason,
        **{name: counts.get(name) for name in _COUNTS},
        **_where(row.scope),
    }


def _dead_letter(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of the ledger
    names = ("mapping", "outcome", "reason", "first_at", "last_at", "attempts")
    return {
        "id": row.id,
        "stream": row.stream_name,
        **{name: getattr(row, name) for name in names},
        "request_id": row.request_id,
        **_key_in(row.key_values),
        **_where(row.scope),
    }


def _key_in(stored: str | None) -> dict[str, str | None]:
    """Return a record's key and its digest; the ledger may have the digest only."""
    if stored is None:
        return {"key": None, "key_digest": None}
    is_key = stored.startswith("[")
    digest = key_digest(stored) if is_key else stored
    return {"key": stored if is_key else None, "key_digest": digest}


def _where(scope: str) -> dict[str, str | None]:
    origin, _, namespace = scope.partition(" ")
    return {"origin": origin, "namespace": namespace or None}


_STREAMS = (
    (
        "signals",
        (SEQUENCE, "accepted_at"),
        {
            SEQUENCE: {"type": "integer"},
            **dict.fromkeys(("signal_id", "account_id", "contact_id"), _ID),
            **dict.fromkeys(("type", "source", "stream"), _TEXT),
            **_KEY,
            "run": _INTEGER,
            "accepted_at": {**_TIME, "type": "string"},
            **_WHERE,
        },
        _signal,
    ),
    (
        "runs",
        ("run", "started_at"),
        {
            "run": {"type": "integer"},
            SEQUENCE: {"type": "integer"},
            "started_at": {**_TIME, "type": "string"},
            "ended_at": _TIME,
            "exit_code": _INTEGER,
            "reason": _TEXT,
            **dict.fromkeys(map(str, _COUNTS), _INTEGER),
            **_WHERE,
        },
        _run,
    ),
    (
        "dead_letters",
        ("id", "first_at"),
        {
            "id": {"type": "integer"},
            **dict.fromkeys(("stream", "mapping", "outcome", "reason"), _TEXT),
            "first_at": {**_TIME, "type": "string"},
            "last_at": _TIME,
            "attempts": _INTEGER,
            "request_id": _TEXT,
            **_KEY,
            **_WHERE,
        },
        _dead_letter,
    ),
)
