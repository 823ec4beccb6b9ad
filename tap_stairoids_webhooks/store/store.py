"""The event store: every event that the receiver accepted, in order of commit.

A writer takes a lock before its first row gets a `sequence` and holds it until the
commit (SQLite: ``BEGIN IMMEDIATE``; PostgreSQL: an advisory lock). So an event that is
committed later never has a smaller sequence than an event that was already read. A tap
that bookmarks the last sequence skips nothing.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from stairoids_common.database import code_of, reason_of, session_of
from tap_stairoids_webhooks.event import Delivery
from tap_stairoids_webhooks.exceptions import (
    RowRefusedError,
    StoreError,
    StoreForbiddenError,
    StoreMissingError,
    StoreUnavailableError,
    StoreVersionError,
)
from tap_stairoids_webhooks.store.database import Database, database_at, missing
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.schema import (
    CONSUMERS,
    ERASURES,
    EVENTS,
    FORWARDERS,
    METADATA,
    PRUNED,
    READ_COLUMNS,
    REFUSALS,
    SCHEMA_VERSION,
    STORE,
    Erasure,
    Outcome,
    RefusalCount,
    StoredEvent,
    conditions_of,
    row_digest_of,
    row_of,
    stored_event,
)

PAGE_BYTES = 8 * 1024 * 1024
EVERYTHING = EventFilter(erased=True)
#: PostgreSQL's `insufficient_privilege`, and the codes of SQLite for read-only files.
_FORBIDDEN = ("42501", "SQLITE_READONLY")

_INSERTED = [c.name for c in EVENTS.c if c.name not in {"sequence", "erased_at"}]
_INSERT = f"INSERT INTO {EVENTS} ({', '.join(_INSERTED)})"
_FROM_JSON = "SELECT {} FROM json_to_recordset(%s) AS rows({})".format(  # noqa: S608 -- constants
    ", ".join("decode(body, 'base64')" if c == "body" else c for c in _INSERTED),
    ", ".join(f"{c} {'boolean' if c == 'conflict' else 'text'}" for c in _INSERTED),
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
    """Stores each event once and returns the events in order.

    Open it with `create`, `open` or `open_read_only`. Several threads may share it.
    Each method raises `StoreUnavailableError` if the database does not work. Then
    nothing was changed.

    Attributes:
        store_id: Made with the store. Another id means another history.
        generation: Raised when an operator restores a backup.
    """

    def __init__(self, database: Database, engine: sa.Engine) -> None:
        self.database = database
        self._engine = engine
        self.place = database.place
        try:
            self.store_id, self.generation = self._identify()
        except StoreError:
            self.close()
            raise

    @classmethod
    def create(cls, url: str) -> Self:
        """Open a store to write; make the store if there is none."""
        database = database_at(url)
        engine = database.writer(make=True)
        try:
            with engine.begin() as connection:
                database.check_encoding(connection)
                database.lock(connection)
                if not sa.inspect(connection).has_table(STORE.name):
                    METADATA.create_all(connection)
                    made = {"store_id": str(uuid.uuid4()), "generation": 1}
                    made |= {"schema_version": SCHEMA_VERSION, "pruned_through": 0}
                    connection.execute(sa.insert(STORE), made)
        except DBAPIError as error:
            raise _unavailable(database, "cannot be opened", error) from error
        finally:
            engine.dispose()
        return cls(database, engine)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a store to write."""
        database = database_at(url)
        return cls(database, database.writer(make=False))

    @classmethod
    def open_read_only(cls, url: str) -> Self:
        """Open a store that cannot be changed through this object."""
        database = database_at(url)
        return cls(database, database.reader())

    def append(self, batch: Sequence[Delivery]) -> list[Outcome]:
        """Store deliveries in one commit that survives a power cut, or none of them."""
        failure = f"did not store {len(batch)} deliveries"
        with self.transaction(failure, lock=True) as connection:
            return _append(connection, batch)

    def try_commit(self, *, writes: bool) -> None:
        """Take and release the lock of a writer; with `writes`, fill some pages."""
        row = {"day": "", "reason": " " * 10_000, "number": 0, "last_at": ""}
        with self.transaction("does not work", lock=True) as connection:
            if writes:
                connection.execute(sa.insert(REFUSALS), row)
                connection.execute(sa.delete(REFUSALS).where(REFUSALS.c.day == ""))

    def add_refusals(self, refusals: Mapping[str, RefusalCount]) -> None:
        """Add to the counts of refused deliveries, by reason and day."""
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
        selected: EventFilter = EVERYTHING,
    ) -> list[StoredEvent]:
        """Return the next page of events, oldest first, in one short transaction.

        A page of large bodies has fewer events than its limit. Only the page after the
        last event is empty.
        """
        place, size = EVENTS.c.sequence, sa.func.length(EVENTS.c.body).label("size")
        found = [place > sequence, place <= upper, *conditions_of(selected)]
        first = sa.select(place, size).where(*found).order_by(place).limit(limit).cte()
        sizes = sa.func.sum(first.c.size).over(order_by=first.c.sequence)
        summed = sa.select(
            first.c.sequence, (sizes - first.c.size).label("before")
        ).cte()
        last = sa.select(sa.func.max(summed.c.sequence)).where(
            summed.c.before < PAGE_BYTES
        )
        page = sa.select(*READ_COLUMNS).where(*found, place <= last.scalar_subquery())
        page = page.order_by(place).limit(limit)
        return [stored_event(row) for row in self.rows(page)]

    def erasures_after(self, number: int, *, limit: int = 1000) -> list[Erasure]:
        """Return the next page of erased events, in the order of their erasure."""
        erased = sa.select(ERASURES).where(ERASURES.c.number > number)
        page = erased.order_by(ERASURES.c.number).limit(limit)
        return [Erasure(*row) for row in self.rows(page)]

    def last_erasure(self) -> int:
        """Return the number of the last erasure, 0 for none."""
        [(last,)] = self.rows(sa.select(sa.func.max(ERASURES.c.number)))
        return last or 0

    def last_sequence(self) -> int:
        """Return the last sequence that was used, 0 for none; pruning keeps it."""
        stored = sa.select(sa.func.max(EVENTS.c.sequence)).scalar_subquery()
        pruned = sa.select(STORE.c.pruned_through).scalar_subquery()
        [(last, gone)] = self.rows(sa.select(stored, pruned))
        return max(last or 0, gone or 0)

    def last_received_at(self) -> str | None:
        """Return when the newest event in the store was received; None for none."""
        newest = sa.select(EVENTS.c.received_at).order_by(EVENTS.c.sequence.desc())
        return next((str(row.received_at) for row in self.rows(newest.limit(1))), None)

    def pruned_through(self) -> int:
        """Return the last sequence that was ever pruned, 0 for none."""
        [(last,)] = self.rows(sa.select(STORE.c.pruned_through))
        return int(last)

    def row_digest(self, sequence: int) -> str | None:
        """Return the digest of an event, also of a pruned event; None if unknown."""
        of_event = sa.union_all(
            *(
                sa.select(table.c.received_at, table.c.body_sha256).where(
                    table.c.sequence == sequence
                )
                for table in (EVENTS, PRUNED)
            )
        )
        return next((row_digest_of(*row) for row in self.rows(of_event)), None)

    def begin_generation(self) -> int:
        """Begin another history after a backup was restored; return its number.

        A restored store uses sequence numbers again for other events. The tap refuses
        bookmarks of an earlier generation, and no tap has read anything. The bookmark
        of a forwarder was restored with the store.
        """
        is_tap = CONSUMERS.c.consumer.not_in(sa.select(FORWARDERS.c.consumer))
        following = sa.update(STORE).values(generation=STORE.c.generation + 1)
        with self.transaction("cannot begin a generation", lock=True) as connection:
            connection.execute(following)
            connection.execute(sa.update(CONSUMERS).where(is_tap).values(sequence=0))
            return int(connection.execute(sa.select(STORE.c.generation)).scalar_one())

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def rows(self, query: sa.Executable) -> list[Any]:
        """Return the rows of one query."""
        with self.transaction("cannot be read") as connection:
            return list(connection.execute(query))

    def _identify(self) -> tuple[str, int]:
        with self.transaction("cannot be opened") as connection:
            if not sa.inspect(connection).has_table(STORE.name):
                raise StoreMissingError(missing(self.place + session_of(connection)))
            row = connection.execute(sa.select(STORE)).one()
        if row.schema_version != SCHEMA_VERSION:
            raise StoreVersionError(
                f"the store {self.place} has schema version {row.schema_version}, but"
                f" this release of singer-stairoids needs version {SCHEMA_VERSION}: use"
                " the release that wrote the store, or start with a new store"
            )
        return row.store_id, row.generation

    @contextmanager
    def transaction(
        self, failure: str, *, lock: bool = False
    ) -> Iterator[sa.Connection]:
        """Run one transaction, without other writers if it has a `lock`.

        `failure` is the rest of the message if it fails, after the store's name.
        """
        try:
            with self._engine.begin() as connection:
                if lock:
                    self.database.lock(connection)
                yield connection
        except DBAPIError as error:
            raise _unavailable(self.database, failure, error) from error
        except sa.exc.TimeoutError as error:
            msg = f"the store {self.place} {failure}: all connections are in use"
            raise StoreUnavailableError(msg) from error


def _append(connection: sa.Connection, batch: Sequence[Delivery]) -> list[Outcome]:
    """Insert the events that are new; the lock keeps out other writers."""
    known: dict[str, set[str]] = defaultdict(set)
    keys = list({delivery.event.dedupe_key for delivery in batch})
    for dedupe_key, variant in _known(connection, keys):
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


def _known(connection: sa.Connection, keys: list[str]) -> Iterable[Any]:
    """Return dedupe key and variant of the events that have one of the keys.

    The keys are one value, because SQLAlchemy and drivers are slow with many values.
    """
    value: object = keys
    among = "= ANY(%s)"
    if connection.dialect.name == "sqlite":
        value = msgspec.json.encode(keys).decode()
        among = "IN (SELECT value FROM json_each(?))"
    parts = (
        f"SELECT dedupe_key, variant FROM {table} WHERE dedupe_key {among}"  # noqa: S608 -- constants
        for table in (EVENTS, PRUNED)
    )
    return connection.exec_driver_sql(" UNION ALL ".join(parts), (value, value))


def _insert(connection: sa.Connection, rows: list[dict[str, object]]) -> None:
    """Insert rows in one statement.

    SQLite's driver releases the interpreter lock at each statement, and then waits
    until the event loop returns the lock. PostgreSQL gets all rows as one JSON value.
    """
    if connection.dialect.name == "postgresql":
        as_json = msgspec.json.encode(rows).decode()
        connection.exec_driver_sql(f"{_INSERT} {_FROM_JSON}", (as_json,))
    else:
        group = f"({', '.join('?' * len(_INSERTED))})"
        values = tuple(row[name] for row in rows for name in _INSERTED)
        groups = ", ".join([group] * len(rows))
        connection.exec_driver_sql(f"{_INSERT} VALUES {groups}", values)


def _unavailable(database: Database, failure: str, error: DBAPIError) -> StoreError:
    kind: type[StoreError] = StoreUnavailableError
    if isinstance(error, (sa.exc.DataError, sa.exc.IntegrityError)):
        kind = RowRefusedError
    elif code_of(error).startswith(_FORBIDDEN):
        kind = StoreForbiddenError
    return kind(f"the store {database.place} {failure}: {reason_of(error)}")
