"""Retention: how events leave the store.

`prune` removes old rows, but none that a named consumer still waits for. `erase`
empties the rows about a person and leaves their sequence, their type and the
digests by which a redelivery is recognised: so it cannot bring the body back.
Both find their rows with a reader, so that the receiver waits for short
transactions only. `compact` gives the room of removed rows back, and is not short.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.store.consumers import pending_for
from tap_stairoids_webhooks.store.schema import EVENTS, STORE
from tap_stairoids_webhooks.store.store import EventStore
from tap_stairoids_webhooks.timestamps import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_AT_ONCE = 500  # rows in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a pruning did.

    Attributes:
        removed: Rows that are gone.
        kept: Old rows that stay, because somebody waits for them.
        kept_for: How many of those each consumer waits for.
    """

    removed: int
    kept: int
    kept_for: Mapping[str, int] = field(default_factory=dict)


def prune(url: str, *, before: str, force: bool = False) -> Pruned:
    """Remove what was received before a moment and is wanted no more.

    Args:
        url: The store.
        before: The moment, as `received_at` has it.
        force: Also remove what consumers have not acknowledged.

    Raises:
        ConfigError: No consumer ever acknowledged anything: either none is named,
            or the store is another. Name one, or force.
        StoreError: The store cannot be used; what was removed stays so.
    """
    removed = sequence = 0
    old = EVENTS.c.received_at < before
    with (
        EventStore.open_to_change(url) as store,
        EventStore.open_to_read(url) as reader,
    ):
        while True:
            with reader.transaction("cannot be read") as connection:
                unwanted = _unwanted(connection, force=force)
                found = connection.execute(
                    sa.select(EVENTS.c.sequence)
                    .where(old, unwanted, EVENTS.c.sequence > sequence)
                    .order_by(EVENTS.c.sequence)
                    .limit(_AT_ONCE)
                )
                sequences = list(found.scalars())
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
                    for consumer, wants in pending_for(connection).items()
                    if (number := _count(connection, sa.and_(old, wants)))
                },
            )


def _count(connection: sa.Connection, of: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(EVENTS).where(of)
    return connection.execute(query).scalar_one()


def _unwanted(connection: sa.Connection, *, force: bool) -> sa.ColumnElement[bool]:
    if force:
        return sa.true()
    pending = pending_for(connection)
    if not pending:
        msg = (
            "no consumer has acknowledged anything yet: give the tap the setting"
            " consumer and run it twice (the second run's state proves what the first"
            " brought), or remove what is old regardless (--force)"
        )
        raise ConfigError(msg)
    return sa.not_(sa.or_(*pending.values()))


def _remove(store: EventStore, sequences: Sequence[int], *, force: bool) -> int:
    last = sequences[-1]
    with store.transaction("cannot be pruned", lock=True) as connection:
        # Asked again: a consumer may have gone back meanwhile.
        unwanted = _unwanted(connection, force=force)
        gone = connection.execute(
            sa.delete(EVENTS).where(EVENTS.c.sequence.in_(sequences), unwanted)
        )
        connection.execute(
            sa.update(STORE)
            .where(STORE.c.pruned_through < last)
            .values(pruned_through=last)
        )
        return gone.rowcount


def compact(url: str) -> int:
    """Give the room of removed events back; return how many bytes are left.

    Nothing can be stored meanwhile: deliveries are answered 503, and come again.

    Raises:
        StoreError: The store cannot be used, or its files are as large as before.
    """
    with EventStore.open_to_change(url) as store:
        store.compact()
        return store.total_bytes()


def erase(url: str, *, is_about: Callable[[bytes], bool]) -> int:
    """Empty the events whose body is about somebody; return how many.

    On return the bodies are neither in the tables nor in SQLite's write-ahead log.
    To repeat it is harmless.

    Raises:
        StoreError: The store cannot be used, or its log not be emptied; repeat it.
    """
    erased = 0
    with EventStore.open_to_change(url) as store:
        with EventStore.open_to_read(url) as reader:
            sequence, upper = 0, reader.last_sequence()
            while page := reader.read_after(sequence, upper=upper):
                found = [
                    e.sequence for e in page if not e.erased_at and is_about(e.body)
                ]
                if found:
                    erased += _empty(store, found)
                sequence = page[-1].sequence
        store.scrub()
    return erased


def _empty(store: EventStore, sequences: Sequence[int]) -> int:
    with store.transaction("cannot be erased from", lock=True) as connection:
        done = connection.execute(
            sa.update(EVENTS)
            .where(EVENTS.c.sequence.in_(sequences))
            .values(body=b"", signature="", headers="{}", erased_at=now())
        )
        return done.rowcount
