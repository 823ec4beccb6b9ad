"""The queue of a forwarder, and the events that it could not deliver.

A forwarder takes events from the store into its queue, in the transaction that moves
its bookmark. An event leaves the queue after it was delivered. So a forwarder that was
killed delivers only the events again whose delivery it could not note.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.store.consumers import bookmarks_of, set_bookmarks
from tap_stairoids_webhooks.store.schema import (
    EVENTS,
    FORWARDERS,
    FORWARDS,
    READ_COLUMNS,
    StoredEvent,
    stored_event,
)
from tap_stairoids_webhooks.store.store import EventStore

_ROWS = 500  # in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """An event in the queue of a forwarder.

    Attributes:
        lane: The events of one lane, such as an account, are delivered in order.
        due_at: Unix time of the next request.
        reason: Why the last request failed.
        failed_at: When the last request failed. None while more requests follow.
    """

    sequence: int
    lane: str
    attempts: int = 0
    due_at: float = 0.0
    reason: str | None = None
    failed_at: str | None = None

    @property
    def is_retried(self) -> bool:
        """Whether a person asked for another attempt, which has not begun."""
        return self.reason is not None and self.due_at == 0.0


class ForwardQueue:
    """The queue of one forwarder in a store, which is opened to write and to read."""

    def __init__(self, store: EventStore, reader: EventStore, name: str) -> None:
        self._store = store
        self._reader = reader
        self._name = name
        self._is_ours = FORWARDS.c.consumer == name
        self._is_this = FORWARDERS.c.consumer == name
        self._is_waiting = self._is_ours & FORWARDS.c.failed_at.is_(None)

    def begin(self) -> str | None:
        """Note the start of the forwarder; return its `since` of an earlier start.

        `ConfigError` if the consumer is a tap.
        """
        row = {"consumer": self._name, "began_at": timestamp()}
        update = sa.update(FORWARDERS).where(self._is_this).values(row)
        with self._store.transaction("cannot be read", lock=True) as connection:
            if found := _forwarder_of(connection, self._name):
                connection.execute(update)
                since: str | None = found.since
                return since
            connection.execute(sa.insert(FORWARDERS), row)
        return None

    def begin_at(self, since: str, kinds: Iterable[str]) -> None:
        """Move the bookmark to just before the events received at a time or later."""
        first = sa.select(sa.func.min(EVENTS.c.sequence)).where(
            EVENTS.c.received_at >= since
        )
        update = sa.update(FORWARDERS).where(self._is_this).values(since=since)
        last = self._reader.last_sequence()
        [(sequence,)] = self._reader.rows(first)
        at = last if sequence is None else sequence - 1
        with self._store.transaction("cannot be changed", lock=True) as connection:
            set_bookmarks(connection, self._name, dict.fromkeys(kinds, at))
            connection.execute(update)

    def bookmarks(self) -> dict[str, int]:
        """Return the last sequence that was taken by kind; empty for none."""
        with self._reader.transaction("cannot be read") as connection:
            return bookmarks_of(connection, self._name)

    def waiting(
        self,
        *,
        limit: int,
        without: Collection[str],
        types: Collection[str] | None = None,
        sequences: tuple[int, int] | None = None,
    ) -> list[Forward]:
        """Return the first events of the queue that are no failures, oldest first.

        Args:
            without: The lanes to leave out, except for events that are retried.
            types: Only events of these types; None for all.
            sequences: Only events from the first of these to the second.
        """
        columns = [c for c in FORWARDS.c if c.name != "consumer"]
        query = sa.select(*columns).where(self._is_waiting)
        is_retried = FORWARDS.c.reason.is_not(None) & (FORWARDS.c.due_at == 0.0)
        query = query.where(FORWARDS.c.lane.not_in(without) | is_retried)
        if types is not None:
            query = query.where(_is_of(types))
        if sequences is not None:
            query = query.where(FORWARDS.c.sequence.between(*sequences))
        query = query.order_by(FORWARDS.c.sequence).limit(limit)
        return [Forward(**row._asdict()) for row in self._reader.rows(query)]

    def number_of_others(self, types: Collection[str]) -> int:
        """Return how many events of other types wait in the queue."""
        count = sa.select(sa.func.count()).select_from(FORWARDS)
        [(number,)] = self._reader.rows(count.where(self._is_waiting, ~_is_of(types)))
        return int(number)

    def events(self, sequences: Collection[int]) -> dict[int, StoredEvent]:
        """Return events by sequence, without those that were erased or pruned."""
        query = sa.select(*READ_COLUMNS).where(
            EVENTS.c.sequence.in_(sequences), EVENTS.c.erased_at.is_(None)
        )
        found = map(stored_event, self._reader.rows(query))
        return {event.sequence: event for event in found}

    def take(
        self,
        forwards: Sequence[Forward],
        *,
        bookmark: int | None = None,
        kinds: Iterable[str] = (),
    ) -> None:
        """Put events into the queue, and move bookmarks in the same commit.

        Events that are in the queue begin again with no attempt.
        """
        sequences = [forward.sequence for forward in forwards]
        rows = [{"consumer": self._name, **asdict(forward)} for forward in forwards]
        with self._store.transaction("cannot be changed", lock=True) as connection:
            self._remove(connection, sequences)
            if rows:
                connection.execute(sa.insert(FORWARDS), rows)
            if bookmark is not None:
                bookmarks = dict.fromkeys(kinds, bookmark)
                set_bookmarks(connection, self._name, bookmarks)

    def save(self, done: Sequence[int], changed: Sequence[Forward]) -> None:
        """Remove delivered events from the queue, and store failed requests."""
        values = ("attempts", "due_at", "reason", "failed_at")
        update = (
            sa.update(FORWARDS)
            .where(self._is_ours, FORWARDS.c.sequence == sa.bindparam("of_sequence"))
            .values({name: sa.bindparam(name) for name in values})
        )
        rows = [
            {"of_sequence": f.sequence, **{name: getattr(f, name) for name in values}}
            for f in changed
        ]
        with self._store.transaction("cannot be changed", lock=True) as connection:
            self._remove(connection, done)
            if rows:
                connection.execute(update, rows)

    def end_replay(self) -> None:
        """Forget a forwarder without a bookmark, once its queue is empty."""
        queue = sa.select(FORWARDS).where(self._is_ours)
        with self._store.transaction("cannot be changed", lock=True) as connection:
            bookmarks = bookmarks_of(connection, self._name)
            if not bookmarks and connection.execute(queue).first() is None:
                connection.execute(sa.delete(FORWARDERS).where(self._is_this))

    def _remove(self, connection: sa.Connection, sequences: Sequence[int]) -> None:
        for start in range(0, len(sequences), _ROWS):
            part = FORWARDS.c.sequence.in_(sequences[start : start + _ROWS])
            connection.execute(sa.delete(FORWARDS).where(self._is_ours, part))


def _is_of(types: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the condition of the queued events of some types."""
    is_it = EVENTS.c.sequence == FORWARDS.c.sequence
    return sa.exists().where(is_it, EVENTS.c.event.in_(types))


def check_forwarder(store: EventStore, name: str) -> None:
    """Raise `ConfigError` if the consumer of a name is a tap."""
    with store.transaction("cannot be read") as connection:
        _forwarder_of(connection, name)


def _forwarder_of(
    connection: sa.Connection, name: str
) -> sa.Row[tuple[Any, ...]] | None:
    """Return the row of a forwarder; None for a new one."""
    is_this = FORWARDERS.c.consumer == name
    found = connection.execute(sa.select(FORWARDERS).where(is_this)).first()
    if found is None and bookmarks_of(connection, name):
        raise ConfigError(
            f"the consumer {name!r} is a tap: give the forwarder another name, with"
            " --name or --forward NAME=URL"
        )
    return found


def reasons_in(store: EventStore) -> dict[str, list[Any]]:
    """Count the events in queues whose last request failed, by consumer.

    Each row has the reason, whether no request follows, and the most requests.
    """
    is_failure = FORWARDS.c.failed_at.is_not(None).label("failed")
    keys = (FORWARDS.c.consumer, FORWARDS.c.reason, is_failure)
    count = sa.func.count().label("number")
    query = (
        sa.select(*keys, count, sa.func.max(FORWARDS.c.attempts).label("attempts"))
        .where(FORWARDS.c.reason.is_not(None))
        .group_by(*keys)
        .order_by(count.desc())
    )
    found: dict[str, list[Any]] = {}
    for row in store.rows(query):
        found.setdefault(row.consumer, []).append(row)
    return found


def failures_in(
    store: EventStore,
    consumer: str | None,
    sequences: Collection[int],
    *,
    waiting: bool = False,
) -> list[dict[str, Any]]:
    """Return the events that could not be delivered, by default all.

    With `waiting`, also those that wait for their next attempt.
    """
    query = (
        sa.select(
            *(FORWARDS.c.consumer, FORWARDS.c.sequence),
            *(EVENTS.c.event, EVENTS.c.event_id, EVENTS.c.received_at),
            *(FORWARDS.c.attempts, FORWARDS.c.reason, FORWARDS.c.failed_at),
        )
        .join(EVENTS, EVENTS.c.sequence == FORWARDS.c.sequence)
        .where(*_failed(consumer, sequences, waiting=waiting))
        .order_by(FORWARDS.c.consumer, FORWARDS.c.sequence)
    )
    return [row._asdict() for row in store.rows(query)]


def retry(store: EventStore, consumer: str | None, sequences: Collection[int]) -> int:
    """Put failures back into the queue, and end the pauses; return their number."""
    again = {"attempts": 0, "due_at": 0.0, "failed_at": None}
    those = _failed(consumer, sequences, waiting=True)
    update = sa.update(FORWARDS).where(*those).values(again)
    with store.transaction("cannot be changed", lock=True) as connection:
        return connection.execute(update).rowcount


def discard(store: EventStore, consumer: str | None, sequences: Collection[int]) -> int:
    """Remove failures; return their number. The events stay in the store."""
    delete = sa.delete(FORWARDS).where(*_failed(consumer, sequences))
    with store.transaction("cannot be changed", lock=True) as connection:
        return connection.execute(delete).rowcount


def _failed(
    consumer: str | None, sequences: Collection[int], *, waiting: bool = False
) -> list[sa.ColumnElement[bool]]:
    is_failure = FORWARDS.c.failed_at.is_not(None)
    conditions: list[sa.ColumnElement[bool]]
    conditions = [is_failure | (FORWARDS.c.due_at > 0.0) if waiting else is_failure]
    if consumer is not None:
        conditions.append(FORWARDS.c.consumer == consumer)
    if sequences:
        conditions.append(FORWARDS.c.sequence.in_(sequences))
    return conditions
