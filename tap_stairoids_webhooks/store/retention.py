"""Remove old events from the store, and return their space to the file system.

`prune` keeps the events that a named consumer has not received. It finds rows through
a read-only connection and removes them in short transactions, so that the receiver
hardly waits. Nothing can be stored during `compact`, which takes long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.store.consumers import pending_for, unreceived
from tap_stairoids_webhooks.store.schema import (
    EVENTS,
    FORWARDS,
    PRUNED,
    STORE,
    copy_into,
)
from tap_stairoids_webhooks.store.store import EventStore

_BATCH_ROWS = 500  # rows in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many old events were removed or kept, and for which consumers."""

    removed: int
    kept: int
    kept_for: Mapping[str, int]


def forget_digests(url: str, *, before: str) -> None:
    """Forget the digests of events that were pruned before a time."""
    old = sa.select(PRUNED.c.sequence).where(PRUNED.c.pruned_at < before)
    some = PRUNED.c.sequence.in_(old.limit(_BATCH_ROWS))
    removed = True
    with EventStore.open(url) as store:
        while removed:
            with store.transaction("cannot be pruned", lock=True) as connection:
                removed = connection.execute(sa.delete(PRUNED).where(some)).rowcount > 0


def prunable(url: str, *, before: str, force: bool, forgotten: Collection[str]) -> int:
    """Return how many events `prune` removes once some consumers are forgotten."""
    old = EVENTS.c.received_at < before
    with (
        EventStore.open_read_only(url) as reader,
        reader.transaction("cannot be read") as connection,
    ):
        unneeded = _unneeded(connection, force=force, forgotten=forgotten)
        return _count(connection, old & unneeded)


def prune(url: str, *, before: str, force: bool = False) -> Pruned:
    """Remove the events before a time that every consumer has received.

    With `force`, remove the others too. Without it and without any consumer,
    `ConfigError`. After another error, events that were removed stay removed.
    """
    removed = sequence = 0
    old = EVENTS.c.received_at < before
    with EventStore.open(url) as store, EventStore.open_read_only(url) as reader:
        while True:
            with reader.transaction("cannot be read") as connection:
                found = connection.scalars(
                    sa.select(EVENTS.c.sequence)
                    .where(old, _unneeded(connection, force=force))
                    .where(EVENTS.c.sequence > sequence)
                    .order_by(EVENTS.c.sequence)
                    .limit(_BATCH_ROWS)
                )
                sequences = list(found)
            if not sequences:
                break
            sequence = sequences[-1]
            removed += _remove(store, sequences, force=force)
        with reader.transaction("cannot be read") as connection:
            return Pruned(
                removed=removed,
                kept=_count(connection, old),
                kept_for={
                    consumer: number
                    for consumer, pending in pending_for(connection).items()
                    if (number := _count(connection, sa.and_(old, pending)))
                },
            )


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(EVENTS).where(condition)
    return connection.execute(query).scalar_one()


def _unneeded(
    connection: sa.Connection, *, force: bool, forgotten: Collection[str] = ()
) -> sa.ColumnElement[bool]:
    if force:
        return sa.true()
    pending = unreceived(connection, forgotten=forgotten)
    if pending is None and forgotten:
        raise ConfigError(
            "no consumer has acknowledged anything except those of --forget-consumer."
            " So no event counts as read. To remove old events regardless, add --force"
        )
    if pending is None:
        raise ConfigError(
            "no consumer has acknowledged anything yet. Give the tap the setting"
            " consumer and run it twice. The state of the second run proves that the"
            " events of the first arrived. Or remove old events regardless (--force)"
        )
    return sa.not_(pending)


def _remove(store: EventStore, sequences: Sequence[int], *, force: bool) -> int:
    last = sequences[-1]
    with store.transaction("cannot be pruned", lock=True) as connection:
        # Checked again, because a consumer may have gone back meanwhile.
        unneeded = _unneeded(connection, force=force)
        old = sa.and_(EVENTS.c.sequence.in_(sequences), unneeded)
        connection.execute(copy_into(PRUNED, old, timestamp()))
        gone = connection.execute(sa.delete(EVENTS).where(old))
        # With force, they may be in the queue of a forwarder.
        left = sa.select(EVENTS.c.sequence).where(EVENTS.c.sequence.in_(sequences))
        queued = FORWARDS.c.sequence.in_(sequences) & FORWARDS.c.sequence.not_in(left)
        connection.execute(sa.delete(FORWARDS).where(queued))
        connection.execute(
            sa.update(STORE)
            .where(STORE.c.pruned_through < last)
            .values(pruned_through=last)
        )
        return gone.rowcount


def compact(url: str) -> int:
    """Return unused space to the file system; return the size of the store, in bytes.

    Nothing can be stored meanwhile. Deliveries get 503, and Stairoids sends them again.
    """
    with EventStore.open(url) as store:
        database = store.database
    database.compact()  # a connection of ours would be in the way
    return database.total_bytes()
