"""Consumers: who reads the store under a name, and what they have for certain.

The state a run of the tap starts with is the proof: its events are where that
state came from. What a consumer wants is kept beside it, because a bookmark says
nothing about events its stream does not hold.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tap_stairoids_webhooks.store.event_filter import ALL, MALFORMED, type_in
from tap_stairoids_webhooks.store.schema import CONSUMERS, EVENTS
from tap_stairoids_webhooks.timestamps import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_stairoids_webhooks.store.store import EventStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a consumer is behind.

    Attributes:
        acknowledged_at: When its last run began.
        events: How many it wants and has not acknowledged.
        oldest_received_at: When the first of those came in; None for none.
    """

    acknowledged_at: str
    events: int
    oldest_received_at: str | None


def acknowledge(store: EventStore, consumer: str, upto: Mapping[str, int]) -> None:
    """Remember what a consumer wants, and up to where it has that.

    It replaces what was remembered, also by less: whoever goes back in the
    history wants the events again.

    Args:
        store: Opened to change.
        consumer: Its name.
        upto: The last sequence it has, by what it wants; see interest.py.

    Raises:
        StoreUnavailableError: Nothing was remembered.
    """
    at = now()
    rows = [
        {"consumer": consumer, "wanted": kind, "sequence": sequence, "updated_at": at}
        for kind, sequence in upto.items()
    ]
    with store.transaction("cannot acknowledge", lock=True) as connection:
        connection.execute(sa.delete(CONSUMERS).where(CONSUMERS.c.consumer == consumer))
        connection.execute(sa.insert(CONSUMERS), rows)


def forget(store: EventStore, consumer: str) -> bool:
    """Stop waiting for a consumer; False if there is none of that name."""
    with store.transaction("cannot forget a consumer", lock=True) as connection:
        done = connection.execute(
            sa.delete(CONSUMERS).where(CONSUMERS.c.consumer == consumer)
        )
        return done.rowcount > 0


def pending_for(connection: sa.Connection) -> dict[str, sa.ColumnElement[bool]]:
    """Return, by consumer, which events it still waits for."""
    found: dict[str, list[sa.ColumnElement[bool]]] = defaultdict(list)
    for row in connection.execute(sa.select(CONSUMERS)):
        after = EVENTS.c.sequence > row.sequence
        found[row.consumer].append(sa.and_(_holds(row.wanted), after))
    return {name: sa.or_(*kinds) for name, kinds in found.items()}


def lags(store: EventStore) -> dict[str, Lag]:
    """Say how far each consumer is behind.

    Raises:
        StoreUnavailableError: The store cannot be read now.
    """
    began = sa.select(CONSUMERS.c.consumer, sa.func.max(CONSUMERS.c.updated_at))
    with store.transaction("cannot be read") as connection:
        since = connection.execute(began.group_by(CONSUMERS.c.consumer)).all()
        pending = pending_for(connection)
        result = {}
        for consumer, acknowledged_at in since:
            count = sa.select(sa.func.count(), sa.func.min(EVENTS.c.received_at))
            events, oldest = connection.execute(count.where(pending[consumer])).one()
            result[str(consumer)] = Lag(
                acknowledged_at=acknowledged_at,
                events=events,
                oldest_received_at=oldest,
            )
    return result


def _holds(wanted: str) -> sa.ColumnElement[bool]:
    if wanted == ALL:
        return sa.true()
    if wanted == MALFORMED:
        return EVENTS.c.malformed.is_not(None)
    # `=` would leave open whether an event without a type is wanted.
    return EVENTS.c.event.is_not_distinct_from(type_in(wanted))
