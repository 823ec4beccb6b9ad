"""Maintenance of a ledger by a person: forget, prune, erase, copy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select

from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.schema import (
    claims,
    dead_letters,
    latest,
    metadata,
    runs,
    settled,
    streams,
)
from target_stairoids.ledger.transaction import timestamp

_ROWS_AT_ONCE = 1_000


def writable_ledger(url: str, scope: str) -> str:
    """Return the name of a ledger after checking that it can be written.

    Raises:
        LedgerError: It cannot be opened or written.
    """
    with Ledger.create(url, scope) as ledger:
        with ledger.transaction():
            pass
        return ledger.name


def forget(ledger: Ledger, stream: str) -> int:
    """Forget all outcomes of a stream, so that it is sent again.

    Returns:
        How many versions were forgotten.

    Raises:
        LedgerError: The ledger knows no such stream.
    """
    number = _number_of(ledger, stream)
    with ledger.transaction() as transaction:
        transaction.write(delete(latest).where(latest.c.stream == number))
        return transaction.write(delete(settled).where(settled.c.stream == number))


def prune(ledger: Ledger, *, older_than: datetime) -> int:
    """Delete the versions of older runs, but never an entity's latest one.

    A deleted version that a tap emits again, without a bookmark, counts as new.

    Returns:
        How many versions were removed.
    """
    old_runs = select(runs.c.run).where(
        runs.c.scope == ledger.scope, runs.c.started_at < timestamp(older_than)
    )
    is_latest = (
        select(latest.c.state_digest)
        .where(
            latest.c.state_digest == settled.c.state_digest,
            latest.c.mapping == settled.c.mapping,
        )
        .exists()
    )
    with ledger.transaction() as transaction:
        return transaction.write(
            delete(settled).where(settled.c.run.in_(old_runs), ~is_latest)
        )


def erase(ledger: Ledger, email: str) -> int:
    """Delete claims and dead letters that contain an email address.

    Settled versions stay, so that the person gets no signal twice. They hold digests
    only.

    Returns:
        How many claims and dead letters were deleted.
    """
    wanted = email.strip().lower().encode()
    gone = 0
    with ledger.transaction() as transaction:
        for table in (claims, dead_letters):
            key = list(table.primary_key)
            query = select(*key, table.c.signal, table.c.record)
            for row in transaction.all(query):
                if _mentions(row.signal, wanted) or _mentions(row.record, wanted):
                    same = (column == row[i] for i, column in enumerate(key))
                    gone += transaction.write(delete(table).where(*same))
    ledger.scrub()
    return gone


def copy(source: Ledger, target: Ledger) -> dict[str, int]:
    """Copy a ledger into an empty one, with all scopes.

    Returns:
        How many rows each table has now.

    Raises:
        LedgerError: The other ledger is not empty, or this one has open claims.
    """
    copied = {}
    with source.transaction() as reading, target.transaction() as writing:
        if writing.scalar(select(func.count()).select_from(runs)):
            msg = f"The ledger {target.name} is not empty; copy into a new one."
            raise LedgerError(msg)
        if reading.scalar(select(func.count()).select_from(claims)):
            msg = (
                f"The ledger {source.name} holds claims: let its runs end. Run the "
                "target once more to settle the claims of a killed run."
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
    with ledger.transaction() as transaction:
        number = transaction.scalar(query)
    if number is None:
        msg = f"The ledger {ledger.name} knows no stream `{stream}`."
        raise LedgerError(msg)
    return int(number)


def _mentions(text: bytes | None, wanted: bytes) -> bool:
    """Return whether a JSON text contains an address, also with escapes."""
    if not text:
        return False
    if wanted in text.lower():
        return True
    try:
        plain: Any = msgspec.json.encode(msgspec.json.decode(text))
    except msgspec.MsgspecError:
        return False
    return wanted in plain.lower()
