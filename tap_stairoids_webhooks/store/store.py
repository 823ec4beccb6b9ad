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
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tap_stairoids_webhooks.exceptions import (
    StoreError,
    StoreMissingError,
    StoreUnavailableError,
    StoreVersionError,
)
from tap_stairoids_webhooks.store.database import database_at, missing, reason_of
from tap_stairoids_webhooks.store.migrations import migrate
from tap_stairoids_webhooks.store.schema import (
    EVENTS,
    METADATA,
    READ_COLUMNS,
    SCHEMA_VERSION,
    STORE,
    Outcome,
    Stats,
    StoredEvent,
    Wanted,
    new_store,
    row_of,
    stored_event,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tap_stairoids_webhooks.event import Delivery
    from tap_stairoids_webhooks.store.database import Database
    from tap_stairoids_webhooks.store.schema import Refused

PAGE_BYTES = 8 * 1024 * 1024
EVERYTHING = Wanted(erased=True)

_KNOWN = sa.select(EVENTS.c.dedupe_key, EVENTS.c.variant).where(
    EVENTS.c.dedupe_key.in_(sa.bindparam("keys", expanding=True))
)
_ADD_REFUSALS = sa.text(
    "INSERT INTO webhook_refusals (day, reason, number, last_at)"
    " VALUES (:day, :reason, :number, :last_at)"
    " ON CONFLICT (day, reason) DO UPDATE SET"
    " number = webhook_refusals.number + excluded.number,"
    " last_at = CASE WHEN excluded.last_at > webhook_refusals.last_at"
    " THEN excluded.last_at ELSE webhook_refusals.last_at END"
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
        """Open a store to append to; make it if there is none, upgrade an old one.

        Raises:
            StoreUnavailableError: It can neither be opened nor made.
            StoreVersionError: A newer version wrote it.
        """
        return cls._to_write(url, make=True)

    @classmethod
    def open_to_change(cls, url: str) -> Self:
        """Open a store to change what it holds; upgrade an old one.

        Raises:
            StoreMissingError: Nothing was ever stored there.
            StoreUnavailableError: It cannot be opened.
            StoreVersionError: A newer version wrote it.
        """
        return cls._to_write(url, make=False)

    @classmethod
    def _to_write(cls, url: str, *, make: bool) -> Self:
        database = database_at(url)
        engine = database.writer(make=make)
        try:
            with engine.begin() as connection:
                database.lock(connection)
                if sa.inspect(connection).has_table(STORE.name):
                    version = connection.execute(sa.select(STORE.c.schema_version))
                    migrate(connection, version.scalar_one())
                elif make:
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
            StoreVersionError: A newer version wrote it, or an older one that
                nobody who may write has opened since.
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
        what = f"did not store {len(batch)} deliveries"
        with self.transaction(what, lock=True) as connection:
            return _append(connection, batch)

    def note_refusals(self, refusals: Mapping[str, Refused]) -> None:
        """Add to the counts of deliveries that were refused, by reason and day.

        Raises:
            StoreUnavailableError: Nothing was added.
        """
        rows = [
            {"day": refused.last_at[:10], "reason": reason, **asdict(refused)}
            for reason, refused in sorted(refusals.items())
        ]
        with self.transaction("cannot count refusals", lock=True) as connection:
            connection.execute(_ADD_REFUSALS, rows)

    def read_after(
        self,
        sequence: int,
        *,
        upper: int,
        limit: int = 1000,
        wanted: Wanted = EVERYTHING,
    ) -> list[StoredEvent]:
        """Return the next events, oldest first, in one short transaction.

        Args:
            sequence: The last one that was read; 0 for none.
            upper: The last one to read, so that a run has an end.
            limit: At most so many; fewer if they are large, none only at the end.
            wanted: Which events.

        Raises:
            StoreUnavailableError: The store cannot be read now.
        """
        place, body = EVENTS.c.sequence, EVENTS.c.body
        conditions = [place > sequence, *wanted.conditions()]
        sizes = (
            sa.select(place, sa.func.length(body))
            .where(*conditions, place <= upper)
            .order_by(place)
            .limit(limit)
        )
        with self.transaction("cannot be read") as connection:
            # By a cursor PostgreSQL goes along the index, even without statistics.
            connection.execution_options(stream_results=True, max_row_buffer=limit)
            with connection.execute(sizes) as found:
                last = _last_that_fits(found)
            page = sa.select(*READ_COLUMNS).where(*conditions, place <= last)
            rows = connection.execute(page.order_by(place)).all()
        return [stored_event(row) for row in rows]

    def last_sequence(self) -> int:
        """Return the last sequence given out, 0 for none; pruning keeps it."""
        stored = sa.select(sa.func.max(EVENTS.c.sequence)).scalar_subquery()
        pruned = sa.select(STORE.c.pruned_through).scalar_subquery()
        with self.transaction("cannot be read") as connection:
            last, gone = connection.execute(sa.select(stored, pruned)).one()
        return max(last or 0, gone or 0)

    def last_received_at(self) -> str | None:
        """Return when the last event that is still there came in; None for none."""
        last = sa.select(EVENTS.c.received_at).order_by(EVENTS.c.sequence.desc())
        with self.transaction("cannot be read") as connection:
            return connection.execute(last.limit(1)).scalar()

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
        with self.transaction("cannot be read") as connection:
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

    def scrub(self) -> None:
        """Let nothing removed be left beside the tables; see `Database.scrub`."""
        self._engine.dispose()  # a connection of ours would be in the way
        self._database.scrub()

    def compact(self) -> None:
        """Give unused room back to the file system; see `Database.compact`."""
        self._engine.dispose()  # a connection of ours would be in the way
        self._database.compact()

    def free_bytes(self) -> int | None:
        """Return the room left on the disk; None if it is another machine's."""
        return self._database.free_bytes()

    def sizes(self) -> dict[str, int]:
        """Return how many bytes each of its files has, if it has any."""
        return self._database.sizes()

    def total_bytes(self) -> int:
        """Return how much room it takes; see `Database.total_bytes`."""
        return self._database.total_bytes()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _identify(self) -> tuple[str, int]:
        with self.transaction("cannot be opened") as connection:
            if not sa.inspect(connection).has_table(STORE.name):
                raise StoreMissingError(missing(self.place))
            row = connection.execute(sa.select(STORE)).one()
        if row.schema_version != SCHEMA_VERSION:
            remedy = (
                "upgrade singer-stairoids"
                if row.schema_version > SCHEMA_VERSION
                else "start the receiver (stairoids-webhooks serve), which upgrades it"
            )
            msg = (
                f"the store {self.place} has schema version {row.schema_version}; this"
                f" program needs {SCHEMA_VERSION}: {remedy}"
            )
            raise StoreVersionError(msg)
        return row.store_id, row.generation

    @contextmanager
    def transaction(self, what: str, *, lock: bool = False) -> Iterator[sa.Connection]:
        """Do one thing to the store.

        Args:
            what: What the store did not do, if it fails.
            lock: Nobody else writes meanwhile.

        Raises:
            StoreUnavailableError: Nothing was done.
        """
        try:
            with self._engine.begin() as connection:
                if lock:
                    self._database.lock(connection)
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
    later = {"sequence", "erased_at"}
    columns = [column.name for column in EVENTS.c if column.name not in later]
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


def _last_that_fits(sizes: Iterable[Sequence[int]]) -> int:
    """Return the last sequence of a page: the one that fills it, 0 for an empty one."""
    last = size = 0
    for sequence, body in sizes:
        last = sequence
        size += body
        if size >= PAGE_BYTES:
            break
    return last
