"""The store: every event the receiver accepted, in the order it was committed.

Receiver and tap meet only here. Whoever appends holds a lock from before its
first row gets a ``sequence`` until the commit (SQLite: ``BEGIN IMMEDIATE``;
PostgreSQL: an advisory lock). So an event committed later never has a smaller
sequence than one a reader has already seen, and a tap that bookmarks the last
sequence it emitted skips nothing.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tap_stairoids_webhooks.database import database_at, missing, reason_of
from tap_stairoids_webhooks.exceptions import (
    StoreError,
    StoreMissingError,
    StoreUnavailableError,
    StoreVersionError,
)
from tap_stairoids_webhooks.rows import (
    EVENTS,
    METADATA,
    READ_COLUMNS,
    SCHEMA_VERSION,
    STORE,
    Outcome,
    Stats,
    StoredEvent,
    new_store,
    row_of,
    stored_event,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_stairoids_webhooks.database import Database
    from tap_stairoids_webhooks.event import Delivery

PAGE_BYTES = 8 * 1024 * 1024

_KNOWN = sa.select(EVENTS.c.dedupe_key, EVENTS.c.variant).where(
    EVENTS.c.dedupe_key.in_(sa.bindparam("keys", expanding=True))
)


class EventStore:
    """Append events once; read them back in order.

    Made by `create` (the receiver) or `open_to_read` (everybody else). Several
    threads may share one.

    Attributes:
        place: How to name it in a message.
        store_id: Made with the store; another one means another history.
        generation: Raised by whoever rewinds the history on purpose.
    """

    def __init__(self, database: Database, engine: sa.Engine) -> None:
        self._database = database
        self._engine = engine
        self.place = database.place
        try:
            self.store_id, self.generation = self._identify()
        except StoreError:
            self.close()
            raise

    @classmethod
    def create(cls, url: str) -> Self:
        """Open a store to append to; make it if there is none.

        Raises:
            StoreUnavailableError: It can neither be opened nor made.
            StoreVersionError: A newer version wrote it.
        """
        database = database_at(url)
        engine = database.writer()
        try:
            with engine.begin() as connection:
                database.lock(connection)
                if not sa.inspect(connection).has_table(STORE.name):
                    METADATA.create_all(connection)
                    connection.execute(sa.insert(STORE), new_store())
        except DBAPIError as error:
            engine.dispose()
            raise _unavailable(database, "cannot be opened", error) from error
        return cls(database, engine)

    @classmethod
    def open_to_read(cls, url: str) -> Self:
        """Open a store without being able to change it.

        Raises:
            StoreMissingError: Nothing was ever stored there.
            StoreUnavailableError: It cannot be opened.
            StoreVersionError: A newer version wrote it.
        """
        database = database_at(url)
        return cls(database, database.reader())

    def append(self, batch: Sequence[Delivery]) -> list[Outcome]:
        """Store deliveries; on return they would survive a power cut.

        Returns:
            What became of each, in order.

        Raises:
            StoreUnavailableError: None of them is stored. Answer 503, so that
                Stairoids delivers them again.
        """
        with self._transaction(f"did not store {len(batch)} deliveries") as connection:
            self._database.lock(connection)
            return _append(connection, batch)

    def read_after(
        self,
        sequence: int,
        *,
        upper: int,
        limit: int = 1000,
        event: str | None = None,
        malformed: bool = False,
    ) -> list[StoredEvent]:
        """Return the next events, oldest first, in one short transaction.

        Args:
            sequence: The last one that was read; 0 for none.
            upper: The last one to read, so that a run has an end.
            limit: At most so many; fewer if they are large, none only at the end.
            event: Only events of this type.
            malformed: Only bodies that do not parse.

        Raises:
            StoreUnavailableError: The store cannot be read now.
        """
        among = (EVENTS.c.sequence > sequence, EVENTS.c.sequence <= upper)
        query = sa.select(*READ_COLUMNS).where(*among)
        if event is not None:
            query = query.where(EVENTS.c.event == event)
        if malformed:
            query = query.where(EVENTS.c.malformed.is_not(None))
        page, size = [], 0
        with self._transaction("cannot be read") as connection:
            rows = connection.execution_options(
                stream_results=True, max_row_buffer=16
            ).execute(query.order_by(EVENTS.c.sequence).limit(limit))
            for row in rows:
                page.append(stored_event(row))
                size += len(row.body)
                if size >= PAGE_BYTES:
                    break
            rows.close()
        return page

    def last_sequence(self) -> int:
        """Return the last sequence given out, 0 for none; pruning keeps it."""
        stored = sa.select(sa.func.max(EVENTS.c.sequence)).scalar_subquery()
        pruned = sa.select(STORE.c.pruned_through).scalar_subquery()
        with self._transaction("cannot be read") as connection:
            last, gone = connection.execute(sa.select(stored, pruned)).one()
        return max(last or 0, gone or 0)

    def stats(self) -> Stats:
        """Count what the store holds."""
        count, events = sa.func.count(), EVENTS.c
        totals = sa.select(
            count,
            count.filter(events.conflict),
            sa.func.count(events.malformed),
            sa.func.max(events.received_at),
        )
        last_sequence = self.last_sequence()
        with self._transaction("cannot be read") as connection:
            total, conflicts, malformed, last = connection.execute(totals).one()
            return Stats(
                total=total,
                conflicts=conflicts,
                malformed=malformed,
                last_sequence=last_sequence,
                last_received_at=last,
                events=_counts(connection, events.event),
                keys=_counts(connection, events.key_id),
            )

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _identify(self) -> tuple[str, int]:
        with self._transaction("cannot be opened") as connection:
            if not sa.inspect(connection).has_table(STORE.name):
                raise StoreMissingError(missing(self.place))
            row = connection.execute(sa.select(STORE)).one()
        if row.schema_version > SCHEMA_VERSION:
            msg = (
                f"the store {self.place} has schema version {row.schema_version}; this"
                f" program knows {SCHEMA_VERSION}: upgrade singer-stairoids"
            )
            raise StoreVersionError(msg)
        return row.store_id, row.generation

    @contextmanager
    def _transaction(self, what: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _unavailable(self._database, what, error) from error


def _append(connection: sa.Connection, batch: Sequence[Delivery]) -> list[Outcome]:
    """Insert what is new; nobody else appends meanwhile."""
    known: dict[str, set[str]] = defaultdict(set)
    keys = list({delivery.event.dedupe_key for delivery in batch})
    for dedupe_key, variant in connection.execute(_KNOWN, {"keys": keys}):
        known[dedupe_key].add(variant)
    rows, outcomes = [], []
    for delivery in batch:
        variants = known[delivery.event.dedupe_key]
        if delivery.event.variant in variants:
            outcomes.append(Outcome.DUPLICATE)
            continue
        outcomes.append(Outcome.CONFLICT if variants else Outcome.STORED)
        rows.append(row_of(delivery, conflict=bool(variants)))
        variants.add(delivery.event.variant)
    if rows:
        _insert(connection, rows)
    return outcomes


def _insert(connection: sa.Connection, rows: list[dict[str, object]]) -> None:
    """Insert rows past SQLAlchemy's handling of values, which costs more than SQLite.

    SQLite gets them in one statement: its driver lets go of the interpreter for
    each statement, and waits for the event loop to take it back.
    """
    head, group, order = _insert_for(connection.dialect)
    if order is None:  # PostgreSQL
        connection.exec_driver_sql(f"{head}{group}", rows)
    else:
        groups = ", ".join([group] * len(rows))
        values = tuple(row[name] for row in rows for name in order)
        connection.exec_driver_sql(f"{head}{groups}", values)


@cache
def _insert_for(dialect: sa.Dialect) -> tuple[str, str, Sequence[str] | None]:
    """Return the INSERT up to its values, the values, and in which order they go."""
    columns = [column.name for column in EVENTS.c if column.name != "sequence"]
    insert = sa.insert(EVENTS).inline()
    compiled = insert.compile(dialect=dialect, column_keys=columns)
    head, values, group = str(compiled).partition("VALUES ")
    return head + values, group, getattr(compiled, "positiontup", None)


def _counts(connection: sa.Connection, column: sa.Column[Any]) -> dict[Any, int]:
    query = sa.select(column, sa.func.count()).group_by(column)
    return {value: number for value, number in connection.execute(query)}  # noqa: C416 -- mypy does not take rows for pairs


def _unavailable(
    database: Database, what: str, error: DBAPIError
) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the store {database.place} {what}: {reason_of(error)}"
    )
