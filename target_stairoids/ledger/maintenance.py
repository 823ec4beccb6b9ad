"""Maintenance of a ledger by a person: forget, prune, erase, copy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, and_, delete, func, insert, select

from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.schema import (
    claims,
    dead_letters,
    latest,
    meta,
    metadata,
    replace_secret,
    runs,
    settled,
    streams,
    suppressed,
)
from target_stairoids.ledger.transaction import Transaction, timestamp


def writable_ledger(url: str, scope: str) -> str:
    """Return the name of a ledger, or raise `LedgerError` if it cannot be written."""
    with Ledger.create(url, scope) as ledger:
        with ledger.transaction():
            pass
        return ledger.name


def forget(ledger: Ledger, stream: str, *, dry_run: bool = False) -> tuple[int, int]:
    """Forget all outcomes of a stream, and its entries of the suppression list.

    Return how many versions and entries it had.

    With `dry_run`, this function and those below only count.

    Raises:
        LedgerError: The ledger knows no such stream.
    """
    query = select(streams.c.stream).where(
        streams.c.scope == ledger.scope, streams.c.name == stream
    )
    with ledger.transaction() as transaction:
        number = transaction.connection.scalar(query)
        if number is None:
            raise LedgerError(f"The ledger {ledger.name} knows no stream `{stream}`.")
        if not dry_run:
            transaction.write(delete(latest).where(latest.c.stream == number))
        versions, entries = (
            _delete(transaction, table, table.c.stream == number, dry_run=dry_run)
            for table in (settled, suppressed)
        )
        return versions, entries


def prune(ledger: Ledger, *, older_than: datetime, dry_run: bool = False) -> int:
    """Delete the versions of older runs, but never an entity's latest one.

    Return how many. A deleted version that a tap emits again, without a bookmark,
    counts as new.
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
        is_old = settled.c.run.in_(old_runs) & ~is_latest
        return _delete(transaction, settled, is_old, dry_run=dry_run)


def erase(ledger: Ledger, email: str, *, dry_run: bool = False) -> int:
    """Delete claims and dead letters that contain an email address.

    Return how many. Settled versions stay, so that the person gets no signal twice.
    They hold digests only. So do entries of the suppression list, which stay too.
    """
    wanted = email.strip().lower().encode()
    gone = 0
    with ledger.transaction() as transaction:
        for table in (claims, dead_letters):
            key = list(table.primary_key)
            query = select(*key, table.c.signal, table.c.record)
            for row in transaction.connection.execute(query).all():
                if _mentions(row.signal, wanted) or _mentions(row.record, wanted):
                    same = and_(*(column == row[i] for i, column in enumerate(key)))
                    gone += _delete(transaction, table, same, dry_run=dry_run)
    if not dry_run:
        ledger.scrub()
    return gone


def copy(source: Ledger, target: Ledger) -> dict[str, int]:
    """Copy a ledger into an empty one, with all scopes; return the rows per table.

    Raises:
        LedgerError: The other ledger is not empty, or this one has open claims.
    """
    copied = {}
    with source.transaction() as reading, target.transaction() as writing:
        if writing.connection.scalar(select(func.count()).select_from(runs)):
            raise LedgerError(
                f"The ledger {target.name} is not empty; copy into a new one."
            )
        if reading.connection.scalar(select(func.count()).select_from(claims)):
            raise LedgerError(
                f"The ledger {source.name} holds claims: let its runs end. Run the "
                "target once more to settle the claims of a killed run."
            )
        for table in metadata.sorted_tables:
            if table is meta:
                continue
            rows = [row._asdict() for row in reading.connection.execute(select(table))]
            if rows:
                writing.write(insert(table), rows)
            copied[table.name] = len(rows)
        replace_secret(writing.connection, source.secret)
        writing.advance_counters()
    return copied


def _delete(
    transaction: Transaction, table: Table, rows: ColumnElement[bool], *, dry_run: bool
) -> int:
    """Delete rows, or only count them; return how many."""
    if dry_run:
        query = select(func.count()).select_from(table).where(rows)
        return transaction.connection.scalar(query) or 0
    return transaction.write(delete(table).where(rows))


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
