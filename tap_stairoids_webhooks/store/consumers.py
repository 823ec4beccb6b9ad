"""Consumers: the named readers of the store, and the events each has received.

The state that a run of the tap starts with proves which events have arrived. The store
keeps a bookmark per kind of event, because the bookmark of one stream proves nothing
about the events of other streams.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.store.event_filter import ALL, MALFORMED, TYPE_PREFIX
from tap_stairoids_webhooks.store.schema import CONSUMERS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_stairoids_webhooks.store.store import EventStore


MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a consumer is behind.

    Attributes:
        acknowledged_at: When its last run began.
        events: Number of events that it reads and has not acknowledged, at most
            `MOST_COUNTED`, because to count takes time.
        oldest_received_at: When the first of those was received; None for none.
    """

    acknowledged_at: str
    events: int
    oldest_received_at: str | None


def acknowledge(store: EventStore, consumer: str, bookmarks: Mapping[str, int]) -> None:
    """Store the bookmarks of a consumer.

    They replace its earlier bookmarks, even larger ones: a consumer that goes back
    needs the events again.

    Args:
        store: Opened to write.
        consumer: The name of the consumer.
        bookmarks: The last sequence it has received, by kind; see `EventFilter.kinds`.

    Raises:
        StoreUnavailableError: Nothing was changed.
    """
    at = timestamp()
    rows = [
        {"consumer": consumer, "wanted": kind, "sequence": sequence, "updated_at": at}
        for kind, sequence in bookmarks.items()
    ]
    with store.transaction("cannot acknowledge", lock=True) as connection:
        connection.execute(sa.delete(CONSUMERS).where(CONSUMERS.c.consumer == consumer))
        connection.execute(sa.insert(CONSUMERS), rows)


def forget(store: EventStore, consumer: str) -> bool:
    """Remove a consumer; return False if there is none of that name."""
    with store.transaction("cannot forget a consumer", lock=True) as connection:
        done = connection.execute(
            sa.delete(CONSUMERS).where(CONSUMERS.c.consumer == consumer)
        )
        return done.rowcount > 0


def pending_for(connection: sa.Connection) -> dict[str, sa.ColumnElement[bool]]:
    """Return, by consumer, the condition of the events it has not acknowledged."""
    found: dict[str, list[sa.ColumnElement[bool]]] = defaultdict(list)
    lowest: dict[str, int] = {}
    for row in connection.execute(sa.select(CONSUMERS)):
        after = EVENTS.c.sequence > row.sequence
        found[row.consumer].append(sa.and_(_is_of(row.wanted), after))
        lowest[row.consumer] = min(row.sequence, lowest.get(row.consumer, row.sequence))
    return {
        # With the lowest bookmark the database begins its search there.
        name: sa.and_(EVENTS.c.sequence > lowest[name], sa.or_(*kinds))
        for name, kinds in found.items()
    }


def lags(store: EventStore) -> dict[str, Lag]:
    """Return how far each consumer is behind.

    Raises:
        StoreUnavailableError: The store cannot be read now.
    """
    began = sa.select(CONSUMERS.c.consumer, sa.func.max(CONSUMERS.c.updated_at))
    with store.transaction("cannot be read") as connection:
        since = connection.execute(began.group_by(CONSUMERS.c.consumer)).all()
        pending = pending_for(connection)
        result = {}
        for consumer, acknowledged_at in since:
            found = sa.select(EVENTS.c.received_at).where(pending[consumer])
            first = found.order_by(EVENTS.c.sequence).limit(MOST_COUNTED).subquery()
            count = sa.select(sa.func.count(), sa.func.min(first.c.received_at))
            events, oldest = connection.execute(count).one()
            result[str(consumer)] = Lag(
                acknowledged_at=acknowledged_at,
                events=events,
                oldest_received_at=oldest,
            )
    return result


def _is_of(kind: str) -> sa.ColumnElement[bool]:
    if kind == ALL:
        return sa.true()
    if kind == MALFORMED:
        return EVENTS.c.malformed.is_not(None)
    # With `=` the condition would be NULL for an event without a type.
    return EVENTS.c.event.is_not_distinct_from(kind.removeprefix(TYPE_PREFIX))
