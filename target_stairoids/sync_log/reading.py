"""Read the ledger as the records of streams. The Singer tap and Airbyte use it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import key_digest
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

#: Replication key of the streams that are incremental.
SEQUENCE = "sequence"
_PAGE = 1_000  # rows of one transaction
_COUNTS = ("read", "signals", "requests", *(o for o in Outcome if o != "would_send"))
#: The primary key of each stream. A new ledger begins with the same numbers again, so a
#: time is a part of the key.
_KEYS = {
    "signals": (SEQUENCE, "accepted_at"),
    "runs": ("run", "started_at"),
    "dead_letters": ("id", "first_at"),
}
_COLUMNS = {
    "signals": "sequence signal_id account_id contact_id type source stream key "
    "key_digest run accepted_at origin namespace",
    "runs": "run sequence started_at ended_at exit_code reason "
    f"{' '.join(_COUNTS)} origin namespace",
    "dead_letters": "id stream mapping outcome reason first_at last_at attempts "
    "request_id key key_digest origin namespace",
}
_NUMBERS = frozenset({SEQUENCE, "id", "run", "exit_code", "attempts", *_COUNTS})
_ID = "Null if a person resolved an `unknown` dead letter."
_DESCRIPTIONS = {
    **dict.fromkeys(("signal_id", "account_id", "contact_id"), _ID),
    "key": "Values of the key as a JSON array: `[42]`. Null without a key.",
    "key_digest": "SHA-256 of that array, in hexadecimal.",
    "origin": "The API's address.",
    "namespace": "The setting `namespace`.",
}


class SyncLog:
    """The ledger, opened for reading when it is first needed. Close it at the end."""

    def __init__(self, ledger_url: str) -> None:
        self._url = ledger_url
        self._opened = ExitStack()
        self.streams = {name: LogStream(self, name) for name in _KEYS}
        self.stopped = False

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger with all its scopes."""
        ledger = Ledger.open_read_only(self._url, "", missing_ok=False)
        return self._opened.enter_context(ledger)

    def close(self) -> None:
        """Close the ledger."""
        self._opened.close()

    def stop(self) -> None:
        """End every stream after the current record."""
        self.stopped = True

    def resumes(self, name: str, sequence: object, marks: Mapping[str, Any]) -> bool:
        """Return whether a stream can resume after its bookmark. If not, read it again.

        `marks` is the result of `marks_of` in the state. Any fact may be absent.
        """
        stream, at = self.streams[name], str(marks.get("at"))
        if not stream.is_incremental or not sequence:
            return False
        if (
            isinstance(sequence, int)
            and sequence is not True
            and 0 < sequence < 2**63
            and queries.log_has(self.ledger, name, sequence, at)
        ):
            stream.last_at = at
            return True
        logger.warning(
            "Stream `%s` is read from its start, because the ledger %s lacks its last "
            "record. It is another ledger, an older copy, or it was pruned.",
            name,
            self.ledger.name,
        )
        return False

    def marks_of(self, name: str) -> dict[str, Any]:
        """Return the facts that the state of a stream carries beside its sequence."""
        stream = self.streams[name]
        is_known = stream.is_incremental and stream.last_at is not None
        return {"at": stream.last_at} if is_known else {}


class LogStream:
    """One stream of the log; `last_at` is the time in the key of its last record."""

    def __init__(self, log: SyncLog, name: str) -> None:
        self._log = log
        self.name = name
        self.key, self._columns = _KEYS[name], _COLUMNS[name].split()
        properties = {n: _schema_of(n, self.key) for n in self._columns}
        self.schema = {"type": "object", "properties": properties}
        self.is_incremental = SEQUENCE in self._columns
        self.last_at: str | None = None

    def after(self, sequence: int) -> Iterator[dict[str, Any]]:
        """Yield the records after a sequence, in the order of their commits."""
        ledger, number = self._log.ledger, self.key[0]
        order = SEQUENCE if self.is_incremental else number
        while rows := queries.log_after(ledger, self.name, sequence, _PAGE):
            for row in rows:
                if self._log.stopped:
                    return
                record = _record_of(row, self._columns)
                self.last_at = record[self.key[1]]
                yield record
            sequence = getattr(rows[-1], order)


def _schema_of(column: str, key: Sequence[str]) -> dict[str, Any]:
    kind = "integer" if column in _NUMBERS else "string"
    found: dict[str, Any] = {
        "type": kind if column in {SEQUENCE, *key} else [kind, "null"]
    }
    if column.endswith("_at"):
        found["format"] = "date-time"
    if column in _DESCRIPTIONS:
        found["description"] = _DESCRIPTIONS[column]
    return found


def _record_of(row: Any, columns: Sequence[str]) -> dict[str, Any]:  # noqa: ANN401 - a row of the ledger
    values = row._asdict()
    report = json.loads(values.get("report") or "{}")
    origin, _, namespace = row.scope.partition(" ")
    found = {
        **report.get("outcomes", {}),
        **report,
        **values,
        "reason": values.get("reason") or values.get("end_reason"),
        "stream": values.get("name"),
        **_key_in(values.get("key_values")),
        "origin": origin,
        "namespace": namespace or None,
    }
    return {name: found.get(name) for name in columns}


def _key_in(stored: str | None) -> dict[str, str | None]:
    """Return a record's key and its digest; the ledger may have the digest only."""
    if stored is None:
        return {}
    is_key = stored.startswith("[")
    digest = key_digest(stored) if is_key else stored
    return {"key": stored if is_key else None, "key_digest": digest}
