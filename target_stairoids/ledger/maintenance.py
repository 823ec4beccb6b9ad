"""Upkeep: what a person does to a ledger on purpose, outside of any run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, func, insert, select

from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.schema import (
    claims,
    dead_letters,
    latest,
    metadata,
    runs,
    settled,
    streams,
)

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger

_ROWS_AT_ONCE = 1_000


def forget(ledger: Ledger, stream: str) -> int:
    """Forget what is settled of a stream, so that it is sent again.

    Returns:
        How many versions were forgotten.

    Raises:
        LedgerError: The ledger knows no such stream.
    """
    number = _number_of(ledger, stream)
    with ledger.transaction() as turn:
        turn.write(delete(latest).where(latest.c.stream == number))
        return turn.write(delete(settled).where(settled.c.stream == number))


def prune(ledger: Ledger, *, older_than: timedelta) -> int:
    """Remove versions settled long ago, but never an entity's latest one.

    A pruned version that a tap emits again, without position, counts as new.

    Returns:
        How many versions were removed.
    """
    cutoff = (datetime.now(UTC) - older_than).isoformat()
    old_runs = select(runs.c.run).where(
        runs.c.scope == ledger.scope, runs.c.started_at < cutoff
    )
    is_latest = (
        select(latest.c.version)
        .where(
            latest.c.version == settled.c.version,
            latest.c.mapping == settled.c.mapping,
        )
        .exists()
    )
    with ledger.transaction() as turn:
        return turn.write(
            delete(settled).where(settled.c.run.in_(old_runs), ~is_latest)
        )


def erase(ledger: Ledger, email: str) -> int:
    """Erase claims and dead letters that mention an e-mail address.

    What is settled holds digests only and stays, so that nobody is told twice.

    Returns:
        How many claims and dead letters are gone.
    """
    wanted = email.strip().lower().encode()
    gone = 0
    with ledger.transaction() as turn:
        for table in (claims, dead_letters):
            key = list(table.primary_key)
            query = select(*key, table.c.signal, table.c.record)
            for row in turn.all(query):
                if _mentions(row.signal, wanted) or _mentions(row.record, wanted):
                    same = (column == row[i] for i, column in enumerate(key))
                    gone += turn.write(delete(table).where(*same))
    ledger.scrub()
    return gone


def copy(source: Ledger, target: Ledger) -> dict[str, int]:
    """Copy everything into an empty ledger, all scopes included.

    Returns:
        How many rows each table has now.

    Raises:
        LedgerError: The other ledger is not empty, or a run on this one is not over.
    """
    copied = {}
    with source.transaction() as reading, target.transaction() as writing:
        if writing.scalar(select(func.count()).select_from(runs)):
            msg = f"The ledger {target.name} is not empty; copy into a new one."
            raise LedgerError(msg)
        if reading.scalar(select(func.count()).select_from(claims)):
            msg = (
                f"The ledger {source.name} holds claims: let its runs end, or run the "
                "target once more to settle what a killed run left."
            )
            raise LedgerError(msg)
        for table in metadata.sorted_tables:
            if table.name == "stairoids_meta":
                continue
            rows = [dict(row._mapping) for row in reading.all(select(table))]  # noqa: SLF001 - SQLAlchemy's public name for a row as a dict
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                writing.write(insert(table), rows[start : start + _ROWS_AT_ONCE])
            copied[table.name] = len(rows)
        writing.advance_counters()
    return copied


def _number_of(ledger: Ledger, stream: str) -> int:
    query = select(streams.c.stream).where(
        streams.c.scope == ledger.scope, streams.c.name == stream
    )
    with ledger.transaction() as turn:
        number = turn.scalar(query)
    if number is None:
        msg = f"The ledger {ledger.name} knows no stream `{stream}`."
        raise LedgerError(msg)
    return int(number)


def _mentions(text: bytes | None, wanted: bytes) -> bool:
    """Say whether a JSON text mentions an address, however it spells it."""
    if not text:
        return False
    if wanted in text.lower():
        return True
    try:
        plain: Any = msgspec.json.encode(msgspec.json.decode(text))
    except msgspec.MsgspecError:
        return False
    return wanted in plain.lower()
