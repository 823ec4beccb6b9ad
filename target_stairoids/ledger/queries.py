"""Queries about a ledger for people: dead letters, counts, runs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Row, Select, func, literal, select, true

from target_stairoids.dedup.rules import Outcome
from target_stairoids.ledger.schema import (
    claims,
    dead_letters,
    latest,
    runs,
    settled,
    streams,
    suppressed,
)
from target_stairoids.ledger.transaction import timestamp

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger


def counts(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return the number of versions by stream and outcome.

    Invalid records are counted by their dead letters. `claimed` versions are in flight,
    or were left by a killed run. `suppressed` are the people that a stream suppresses.
    """
    invalid = dead_letters.c.outcome == Outcome.INVALID
    claimed = literal("claimed").label("outcome")
    found: dict[str, dict[str, int]] = {}
    with ledger.reading() as connection:
        for table, outcome_column, chosen in (
            (settled, settled.c.outcome, true()),
            (dead_letters, dead_letters.c.outcome, invalid),
            (claims, claimed, true()),
            (suppressed, literal("suppressed").label("outcome"), true()),
        ):
            query = (
                select(streams.c.name, outcome_column, func.count())
                .join_from(table, streams, streams.c.stream == table.c.stream)
                .where(streams.c.scope == ledger.scope, chosen)
                .group_by(streams.c.name, "outcome")
            )
            for name, outcome, count in connection.execute(query):
                found.setdefault(name, {})[outcome] = count
    return found


def settled_by(ledger: Ledger, dead: Collection[int]) -> dict[int, dict[str, int]]:
    """Return run -> outcome -> how many versions it settled; reads all rows."""
    query = (
        select(settled.c.run, settled.c.outcome, func.count())
        .where(settled.c.run.in_(dead))
        .group_by(settled.c.run, settled.c.outcome)
    )
    found: dict[int, dict[str, int]] = {run: {} for run in dead}
    if dead:
        with ledger.reading() as connection:
            for run, outcome, count in connection.execute(query):
                found[run][outcome] = count
    return found


def runs_since(ledger: Ledger, moment: datetime) -> list[Row[Any]]:
    """Return the runs of the ledger's scope since a time, the oldest first."""
    query = (
        select(runs)
        .where(runs.c.scope == ledger.scope, runs.c.started_at >= timestamp(moment))
        .order_by(runs.c.run)
    )
    with ledger.reading() as connection:
        return list(connection.execute(query).all())


def has_sent(ledger: Ledger, stream: int, mapping: str) -> bool:
    """Return whether a mapping has sent any signal of a stream."""
    query = _sent(latest.c.stream, stream).where(latest.c.mapping == mapping)
    with ledger.reading() as connection:
        return connection.scalar(query.limit(1)) is not None


def mappings_of(ledger: Ledger, stream: int) -> set[str]:
    """Return the mappings that have sent signals of a stream; reads all its rows."""
    query = _sent(latest.c.mapping, stream).distinct()
    with ledger.reading() as connection:
        return set(connection.scalars(query))


def _sent(column: Column[Any], stream: int) -> Select[Any]:
    """Return a SELECT of sent versions. Versions only rejected have no content."""
    return select(column).where(
        latest.c.stream == stream, latest.c.content_digest.is_not(None)
    )
