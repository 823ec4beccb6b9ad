"""Counts of the store: events, secrets, refusals and consumers.

Each function takes a store that is opened in any way, and raises
`StoreUnavailableError` if the store cannot be read now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tap_stairoids_webhooks.store.consumers import Lag, lags
from tap_stairoids_webhooks.store.schema import EVENTS, REFUSALS, RefusalCount, pairs
from tap_stairoids_webhooks.store.store import EventStore

_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The numbers of a store; a type of None counts events without a type.

    Attributes:
        conflicts: Events whose id came before with another body.
        last_sequence: The last sequence that was used.
        keys: Number of events by the key id of their secret.
        days: Number of events by day and type, for the last days with events.
        refused: Deliveries that were not stored, by reason.
    """

    total: int
    conflicts: int
    malformed: int
    erased: int
    last_sequence: int
    last_received_at: str | None
    events: dict[str | None, int]
    keys: dict[str, int]
    days: dict[str, dict[str | None, int]]
    refused: dict[str, RefusalCount]
    consumers: dict[str, Lag]


def statistics_of(store: EventStore) -> Statistics:
    """Count the events of a store and the deliveries that were refused."""
    count, events = sa.func.count(), EVENTS.c
    totals = sa.select(
        count.label("total"),
        count.filter(events.conflict).label("conflicts"),
        sa.func.count(events.malformed).label("malformed"),
        sa.func.count(events.erased_at).label("erased"),
        sa.func.max(events.received_at).label("last_received_at"),
    )
    by_reason = sa.select(
        REFUSALS.c.reason,
        sa.func.sum(REFUSALS.c.number),
        sa.func.max(REFUSALS.c.last_at),
    ).group_by(REFUSALS.c.reason)
    last_sequence, consumers = store.last_sequence(), lags(store)
    with store.transaction("cannot be read") as connection:
        return Statistics(
            **connection.execute(totals).mappings().one(),
            last_sequence=last_sequence,
            events=_counts(connection, events.event),
            keys=_counts(connection, events.key_id),
            days=_days(connection),
            refused={
                reason: RefusalCount(number=int(number), last_at=last_at)
                for reason, number, last_at in connection.execute(by_reason)
            },
            consumers=consumers,
        )


def refusals_by_day(store: EventStore, *, since: str) -> dict[str, dict[str, int]]:
    """Return the number of refused deliveries by reason and day, such as 2026-01-31."""
    query = (
        sa.select(REFUSALS.c.reason, REFUSALS.c.day, REFUSALS.c.number)
        .where(REFUSALS.c.day >= since)
        .order_by(REFUSALS.c.reason, REFUSALS.c.day)
    )
    found: dict[str, dict[str, int]] = {}
    for reason, day, number in store.rows(query):
        found.setdefault(reason, {})[day] = int(number)
    return found


def last_refusals(store: EventStore) -> dict[str, str]:
    """Return when a delivery was last refused, by reason."""
    reason = REFUSALS.c.reason
    query = sa.select(reason, sa.func.max(REFUSALS.c.last_at)).group_by(reason)
    return dict(store.rows(query))


def use_of_secrets(store: EventStore) -> dict[str, tuple[int, str]]:
    """Return the number of events and the time of the newest one, by key id."""
    key, newest = EVENTS.c.key_id, sa.func.max(EVENTS.c.received_at)
    query = sa.select(key, sa.func.count(), newest).group_by(key)
    return {key: (number, at) for key, number, at in store.rows(query)}


def types_of(store: EventStore) -> list[str | None]:
    """Return the types of the events; None stands for events without a type."""
    query = sa.select(EVENTS.c.event).distinct().order_by(EVENTS.c.event)
    return [row.event for row in store.rows(query)]


def _counts(connection: sa.Connection, column: sa.Column[Any]) -> dict[Any, int]:
    return pairs(connection, sa.select(column, sa.func.count()).group_by(column))


def _days(connection: sa.Connection) -> dict[str, dict[str | None, int]]:
    # Literals, because PostgreSQL takes two parameters for different expressions.
    first_ten = [sa.literal_column(n, sa.Integer) for n in ("1", "10")]
    day, number = sa.func.substr(EVENTS.c.received_at, *first_ten), sa.func.count()
    by_day = sa.select(day, EVENTS.c.event, number).group_by(day, EVENTS.c.event)
    days: dict[str, dict[str | None, int]] = {}
    for on, event, events in connection.execute(by_day.order_by(day.desc())):
        if on not in days and len(days) == _DAYS:
            break
        days.setdefault(on, {})[event] = events
    return days
