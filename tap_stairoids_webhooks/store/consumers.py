"""Consumers: the named readers of the store, and the events each has received.

A consumer is a tap or a forwarder. The state that a run of the tap starts with proves
which events have arrived. The store keeps a bookmark per kind of event, because the
bookmark of one stream proves nothing about the events of other streams.

A forwarder moves its bookmark when it takes events into its queue, `FORWARDS`. An event
stays there until it is delivered or discarded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.store.event_filter import ALL, MALFORMED, TYPE_PREFIX
from tap_stairoids_webhooks.store.leases import lease_of
from tap_stairoids_webhooks.store.schema import (
    CONSUMERS,
    EVENTS,
    FORWARDERS,
    FORWARDS,
    pairs,
)
from tap_stairoids_webhooks.store.store import EventStore

MOST_COUNTED = 100_000

_HAS_NO_BOOKMARK = FORWARDERS.c.consumer.not_in(sa.select(CONSUMERS.c.consumer))
#: The bookmarks of all consumers. A forwarder without one has received nothing: its
#: first start delivers only some events again, and its next begins with the oldest.
_BOOKMARKS = sa.union_all(
    sa.select(CONSUMERS.c.consumer, CONSUMERS.c.wanted, CONSUMERS.c.sequence),
    sa.select(FORWARDERS.c.consumer, sa.literal(ALL), sa.literal(0)).where(
        _HAS_NO_BOOKMARK
    ),
).subquery()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a consumer is behind.

    Attributes:
        acknowledged_at: When its last run began.
        events: Unread events, at most `MOST_COUNTED`, because to count takes time.
        oldest_received_at: When the first of those was received; None for none.
        failures: Events that a forwarder could not deliver; None for a tap.
    """

    acknowledged_at: str
    events: int
    oldest_received_at: str | None
    failures: int | None = None


def acknowledge(store: EventStore, consumer: str, bookmarks: Mapping[str, int]) -> bool:
    """Store the last sequences that a consumer has received, by kind.

    They replace its earlier bookmarks, even larger ones: a consumer that goes back
    needs the events again. Return whether it goes back, or leaves out a kind. It may be
    two taps then. `ConfigError` if the consumer is a forwarder.
    """
    with store.transaction("cannot acknowledge", lock=True) as connection:
        before = _acknowledge(connection, consumer, bookmarks)
    return any(bookmarks.get(kind, -1) < at for kind, at in before.items())


def check_tap(store: EventStore, consumer: str) -> None:
    """Raise the error of `acknowledge`, if there is one; store nothing."""
    with store.transaction("cannot acknowledge", lock=True) as connection:
        _acknowledge(connection, consumer, {ALL: 0})
        connection.rollback()


def _acknowledge(
    connection: sa.Connection, consumer: str, bookmarks: Mapping[str, int]
) -> dict[str, int]:
    """Replace the bookmarks of a tap, and return the earlier ones."""
    is_forwarder = sa.select(FORWARDERS).where(FORWARDERS.c.consumer == consumer)
    if connection.execute(is_forwarder).first() is not None:
        msg = f"the consumer {consumer!r} is a forwarder: give the tap another name"
        raise ConfigError(msg)
    before = bookmarks_of(connection, consumer)
    set_bookmarks(connection, consumer, bookmarks)
    return before


def bookmarks_of(connection: sa.Connection, consumer: str) -> dict[str, int]:
    """Return the last sequence of a consumer by kind; empty for none."""
    is_its = CONSUMERS.c.consumer == consumer
    query = sa.select(CONSUMERS.c.wanted, CONSUMERS.c.sequence).where(is_its)
    return {row.wanted: row.sequence for row in connection.execute(query)}


def set_bookmarks(
    connection: sa.Connection, consumer: str, bookmarks: Mapping[str, int]
) -> None:
    """Replace the bookmarks of a consumer, inside a transaction."""
    at = timestamp()
    rows = [
        {"consumer": consumer, "wanted": kind, "sequence": sequence, "updated_at": at}
        for kind, sequence in bookmarks.items()
    ]
    connection.execute(sa.delete(CONSUMERS).where(CONSUMERS.c.consumer == consumer))
    connection.execute(sa.insert(CONSUMERS), rows)


def forget(store: EventStore, consumer: str) -> None:
    """Remove a consumer, and the queue and the failures of a forwarder.

    `ConfigError` if the forwarder runs, because it would come back as a tap.
    """
    with (
        _stopped(store, consumer),
        store.transaction("cannot forget a consumer", lock=True) as connection,
    ):
        for table in (CONSUMERS, FORWARDERS, FORWARDS):
            connection.execute(sa.delete(table).where(table.c.consumer == consumer))


def check_forgettable(store: EventStore, names: Iterable[str]) -> None:
    """Raise the error of `forget`, or that there is no such consumer, if any."""
    for name in names:
        check_consumers(store, [name])
        with _stopped(store, name):
            pass


@contextmanager
def _stopped(store: EventStore, consumer: str) -> Iterator[None]:
    """Keep a forwarder from starting; `ConfigError` if it runs."""
    lease = lease_of(store.database, consumer)
    try:
        if consumer in _names(store, FORWARDERS) and not lease.take():
            raise ConfigError(f"the forwarder {consumer!r} runs: stop it first")
        yield
    finally:
        lease.release()


def pending_for(
    connection: sa.Connection, *, failures: bool = True
) -> dict[str, sa.ColumnElement[bool]]:
    """Return, by consumer, the condition of the events it has not received."""
    found: dict[str, list[sa.ColumnElement[bool]]] = defaultdict(list)
    lowest: dict[str, int] = {}
    for row in connection.execute(sa.select(_BOOKMARKS)):
        after = EVENTS.c.sequence > row.sequence
        found[row.consumer].append(sa.and_(_is_of(row.wanted), after))
        lowest[row.consumer] = min(row.sequence, lowest.get(row.consumer, row.sequence))
    waits = sa.true() if failures else FORWARDS.c.failed_at.is_(None)
    first = sa.select(FORWARDS.c.consumer, sa.func.min(FORWARDS.c.sequence))
    for consumer, sequence in connection.execute(
        first.where(waits).group_by(FORWARDS.c.consumer)
    ):
        queue = sa.select(FORWARDS.c.sequence).where(FORWARDS.c.consumer == consumer)
        found[consumer].append(EVENTS.c.sequence.in_(queue.where(waits)))
        lowest[consumer] = min(sequence - 1, lowest.get(consumer, sequence - 1))
    return {
        # With the lowest bookmark the database begins its search there.
        name: sa.and_(EVENTS.c.sequence > lowest[name], sa.or_(*kinds))
        for name, kinds in found.items()
    }


def unreceived(
    connection: sa.Connection, *, forgotten: Collection[str] = ()
) -> sa.ColumnElement[bool] | None:
    """Return the condition of the events that a consumer has not received.

    It is short, also with thousands of consumers. None if there is no consumer, except
    forgotten ones.
    """
    lowest = sa.select(_BOOKMARKS.c.wanted, sa.func.min(_BOOKMARKS.c.sequence))
    is_known = _BOOKMARKS.c.consumer.not_in(forgotten)
    kinds = connection.execute(lowest.where(is_known).group_by(_BOOKMARKS.c.wanted))
    found = [sa.and_(_is_of(kind), EVENTS.c.sequence > at) for kind, at in kinds]
    if not found:
        return None
    queue = sa.select(FORWARDS.c.sequence).where(FORWARDS.c.consumer.not_in(forgotten))
    return sa.or_(EVENTS.c.sequence.in_(queue), *found)


def check_consumers(store: EventStore, names: Iterable[str]) -> None:
    """Raise `ConfigError` if the store has no consumer of one of the names."""
    known = _names(store, CONSUMERS) | _names(store, FORWARDERS)
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no consumer {name!r}")


def _names(store: EventStore, table: sa.Table) -> set[str]:
    return {row.consumer for row in store.rows(sa.select(table.c.consumer))}


def lags(store: EventStore) -> dict[str, Lag]:
    """Return how far each consumer is behind."""
    updated = sa.select(CONSUMERS.c.consumer, sa.func.max(CONSUMERS.c.updated_at))
    forwarders = sa.select(FORWARDERS.c.consumer, FORWARDERS.c.began_at)
    failed = (
        sa.select(FORWARDS.c.consumer, sa.func.count())
        .where(FORWARDS.c.failed_at.is_not(None))
        .group_by(FORWARDS.c.consumer)
    )
    with store.transaction("cannot be read") as connection:
        began = pairs(connection, updated.group_by(CONSUMERS.c.consumer))
        of_forwarders = pairs(connection, forwarders)
        began |= of_forwarders
        failures = dict.fromkeys(of_forwarders, 0) | pairs(connection, failed)
        pending = pending_for(connection, failures=False)
        result = {}
        for consumer, acknowledged_at in began.items():
            unread = pending.get(consumer, sa.false())
            found = sa.select(EVENTS.c.received_at).where(unread)
            found = found.order_by(EVENTS.c.sequence)
            oldest = found.limit(1)
            # PostgreSQL finds the sequences in an index, and does not read the events.
            some = found.with_only_columns(EVENTS.c.sequence).limit(MOST_COUNTED)
            count = sa.select(sa.func.count()).select_from(some.subquery())
            both = sa.select(count.scalar_subquery(), oldest.scalar_subquery())
            events, oldest_at = connection.execute(both).one()
            result[consumer] = Lag(
                acknowledged_at=acknowledged_at,
                events=events,
                oldest_received_at=oldest_at,
                failures=failures.get(consumer),
            )
    return result


def _is_of(kind: str) -> sa.ColumnElement[bool]:
    if kind == ALL:
        return sa.true()
    is_of_kind: sa.ColumnElement[bool]
    if kind == MALFORMED:
        is_of_kind = EVENTS.c.malformed.is_not(None)
    else:
        # With `=` the condition would be NULL for an event without a type.
        event = kind.removeprefix(TYPE_PREFIX)
        is_of_kind = EVENTS.c.event.is_not_distinct_from(event)
    # The streams of a kind have no erased events, so no bookmark would pass one.
    return sa.and_(is_of_kind, EVENTS.c.erased_at.is_(None))
