"""The ledger: a local database of sent signals, asked before sending, written after.

One thread uses a `Ledger`; several processes may share its database.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from stairoids_common import database
from stairoids_common.text import visible
from stairoids_common.time import timestamp
from target_stairoids.dedup.duplicate_rules import Key, Latest, Settled, Version
from target_stairoids.dedup.record import keyed_digest
from target_stairoids.exceptions import LedgerError, LostLedgerError
from target_stairoids.ledger import lookup, schema
from target_stairoids.ledger.leases import SERVER_OPTIONS, FileLeases, ServerLeases
from target_stairoids.ledger.schema import (
    LOCK_KEY,
    claims,
    runs,
    streams,
)
from target_stairoids.ledger.structs import Claim, KnownMapping, claim_from
from target_stairoids.ledger.suppressed import SuppressedByData
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.ledger.write_buffer import WriteBuffer

#: The cache is in KiB. It is large, because keys come in random order. The write-ahead
#: log has up to 20 MB, because each page is in most of the large transactions.
_PRAGMAS = (*database.SAFE_WRITES, "cache_size = -16384", "wal_autocheckpoint = 5000")
_parsed_url = partial(database.parsed_url, setting="ledger_url", error=LedgerError)


class _NoLedgerError(LedgerError):
    def __init__(self, url: sa.URL, session: str = "") -> None:
        place = f"{database.file_of(url) or database.name_of(url)}{session}"
        hint = "Relative paths start at the working directory. See `ledger_url`."
        if session:
            hint = "See `ledger_url`, and the role's USAGE and `search_path`."
        super().__init__(
            f"There is no ledger at {place}. {hint} The first run of the target "
            "creates a ledger."
        )


class Ledger:
    """The durable list of sent signals. Use `create`, `open` or `open_read_only`.

    Attributes:
        scope: Origin of the API, and the namespace if set. Other scopes are not
            visible.
        run: Number of the current run; 0 before `begin_run`.
        name: The database, for messages: no password.
        buffer: Outcomes that `flush` writes. Lookups include them.
        secret: The key of digests of people, made with the ledger and kept in copies.
        may_lose_its_lease: Whether `check_lease` is necessary before sending.
    """

    def __init__(
        self, url: sa.URL, scope: str, *, creates: bool, reads_only: bool
    ) -> None:
        self.scope = scope
        self.run = 0
        self.name = database.name_of(url)
        self.buffer = WriteBuffer(is_kept=reads_only)
        self.suppressed = SuppressedByData(self, is_dry=reads_only)
        self._schemas: dict[str, str] = {}
        self._reads_only = reads_only
        self._leases: FileLeases | ServerLeases | None = None  # None in memory
        path, is_sqlite = database.file_of(url), url.get_backend_name() == "sqlite"
        with _errors(f"The ledger {self.name} cannot be opened", opens=True):
            if path and creates:
                database.create_file(path)
            elif path and not path.exists():
                raise _NoLedgerError(url)
            options = {} if is_sqlite else SERVER_OPTIONS
            self._engine = database.engine_of(url, _PRAGMAS, **options)
            self._connection = self._engine.connect()
        lock = f"SELECT pg_advisory_xact_lock({LOCK_KEY}, 0)"
        # One process writes at a time, so that no two wait for each other's rows.
        self._begin_write = "BEGIN IMMEDIATE" if is_sqlite else lock
        self._begin_read = "BEGIN" if is_sqlite else ""
        try:
            with _errors(f"The ledger {self.name} cannot be opened", opens=True):
                with self._begin(
                    self._begin_write if creates else self._begin_read
                ) as connection:
                    if not is_sqlite:
                        schema.check_encoding(connection, self.name)
                    if creates:
                        schema.create(connection)
                    elif not schema.is_created(connection):
                        raise _NoLedgerError(url, database.session_of(connection))
                    self.secret = schema.checked_secret_of(connection)
                if path:
                    self._leases = FileLeases(path)
                elif not is_sqlite:
                    self._leases = ServerLeases(self._engine)
            self.may_lose_its_lease = isinstance(self._leases, ServerLeases)
        except LedgerError:
            self.close()
            raise

    @classmethod
    def create(cls, url: str, scope: str) -> Self:
        """Open a ledger for writing, or create it, or raise `LedgerError`."""
        return cls(_parsed_url(url), scope, creates=True, reads_only=False)

    @classmethod
    def open(cls, url: str, scope: str) -> Self:
        """Open an existing ledger for writing, or raise `LedgerError`."""
        return cls(_parsed_url(url), scope, creates=False, reads_only=False)

    @classmethod
    def open_read_only(cls, url: str, scope: str, *, missing_ok: bool) -> Self:
        """Open a ledger for reading, or raise `LedgerError`. Nothing is created.

        With `missing_ok`, a missing ledger counts as an empty one.
        """
        parsed = _parsed_url(url)
        try:
            return cls(parsed, scope, creates=False, reads_only=True)
        except _NoLedgerError:
            if not missing_ok:
                raise
        with _errors(
            f"The ledger {database.name_of(parsed)} cannot be opened", opens=True
        ):
            database.check_folder(database.file_of(parsed) or Path())
        ledger = cls(sa.make_url("sqlite://"), scope, creates=True, reads_only=True)
        ledger.name = database.name_of(parsed)
        return ledger

    # Runs

    def begin_run(self, source: str = "") -> int:
        """Begin a run, take its lease, and return its number. Numbers count up."""
        with self.transaction() as transaction:
            self.run = transaction.connection.scalar(
                sa.insert(runs)
                .values(scope=self.scope, source=source, started_at=timestamp())
                .returning(runs.c.run)
            )
            self.buffer.run = self.run
            if self._leases:
                self._leases.take(self.run)
        if isinstance(self._leases, ServerLeases):
            with _errors(f"The ledger {self.name} cannot be used"):
                has_session = self._leases.has_session()
            if not has_session:
                raise LedgerError(
                    f"The ledger {self.name} is behind a pooler that shares sessions, "
                    "such as PgBouncer with `pool_mode = transaction`. Each run needs "
                    "a session of its own. Name PostgreSQL itself, or a pooler in "
                    "session mode, in `ledger_url`."
                )
        return self.run

    def end_run(
        self,
        exit_code: int,
        report: Mapping[str, Any],
        *,
        reason: str = "",
        mappings: Mapping[tuple[int, str], KnownMapping] | None = None,
        complete: Mapping[str, bool] | None = None,
        baselined: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """End the run, and forget the checks that its streams passed.

        Args:
            reason: Why it ended before everything was settled; "" if it did not.
            complete: The settled streams, and whether they had records: checks passed.
            baselined: Streams, and their mappings whose baseline has ended.
        """
        with self.transaction() as transaction:
            transaction.keep_mappings(mappings or {})
            for name, had_records in (complete or {}).items():
                if had_records:
                    transaction.checks_passed(name)
                its_row = sa.update(streams).filter_by(scope=self.scope, name=name)
                transaction.write(its_row.values(complete_run=self.run))
            for name, its in (baselined or {}).items():
                transaction.baseline_ended(name, its)
            transaction.write(
                sa.update(runs)
                .where(runs.c.run == self.run)
                .values(
                    ended_at=timestamp(),
                    exit_code=exit_code,
                    end_reason=visible(reason) or None,
                    report=json.dumps(report),
                )
            )

    def check_fired(self, stream: str, check: str, reason: str) -> None:
        """Remember that a check set a stream aside; a read-only ledger does not."""
        if not self._reads_only:
            with self.transaction() as transaction:
                transaction.check_fired(stream, check, reason)

    def begin_baselines(self, stream: str, mappings: Collection[str]) -> None:
        """Remember that the baselines of mappings are unfinished."""
        if mappings:
            with self.transaction() as transaction:
                transaction.baselines_began(stream, mappings)

    def is_new(self) -> bool:
        """Return whether nothing was ever settled or claimed in this scope."""
        return not self.value(sa.select(lookup.is_used(streams.c.scope == self.scope)))

    def key_digest(self, api_key: str) -> bytes:
        """Return the digest that stands for an API key."""
        return keyed_digest(self.secret, {"api_key": api_key})

    # Streams

    def open_stream(
        self, name: str, schema_message: Mapping[str, Any]
    ) -> tuple[int, str]:
        """Return a stream's number, and the name that its keys are made with.

        That name never changes. The SCHEMA is kept for exports. A read-only ledger
        keeps nothing; the number of a new stream is 0 there.
        """
        text = json.dumps(schema_message, default=str)
        if not self._reads_only and self._schemas.get(name) != text:
            with self.transaction() as transaction:
                transaction.keep_schema(name, text)
            self._schemas[name] = text
        its = sa.select(streams.c.stream, streams.c.alias).filter_by(scope=self.scope)
        for number, alias in self.rows(its.where(streams.c.name == name)):
            return number, alias or name
        is_used = self.value(its.where(streams.c.alias == name)) is not None
        return 0, f"{name} (new)" if is_used else name

    # Lookups

    def latest_of(self, keys: Collection[Key]) -> dict[Key, Latest]:
        """Return the last states of entities."""
        with self.reading() as connection:
            return lookup.latest_of(connection, keys)

    def states_of(self, versions: Collection[Version]) -> dict[Key, list[Settled]]:
        """Return record key -> the outcomes of states that are equal to a version's."""
        with self.reading() as connection:
            return lookup.states_of(connection, versions)

    def people_known(
        self, marks: Mapping[str, Sequence[lookup.Mark]]
    ) -> dict[tuple[Key, bytes], Key]:
        """Return shared key and text digest -> the person, if its state is written."""
        with self.reading() as connection:
            found = lookup.people_known(connection, marks)
        return {
            mark: person
            for mark, person in found.items()
            if self.buffer.unwritten(person) is None
        }

    def changed_entities(
        self,
        marks: Mapping[str, Sequence[lookup.Mark]],
        others: Collection[Key] = (),
    ) -> dict[Key, Latest | None]:
        """Return the last states of marked entities that changed, and of `others`.

        None stands for a new entity. `marks` has the known states by mapping. After the
        call, the buffer knows the database's states of these entities.
        """
        with self.reading() as connection:
            found = lookup.changed_entities(connection, marks)
        same, newest = self.buffer.compared(marks, others)
        for key in same:
            found.pop(key, None)
        if missing := {*newest, *others} - found.keys():
            latest = self.latest_of(missing)
            found |= {key: latest.get(key) for key in missing}
        self.buffer.know(found)
        return {**found, **newest}

    # Claims of other runs

    @cached_property
    def left_over(self) -> list[Claim]:
        """The claims of other runs when this one began."""
        query = lookup.in_scope(self.scope, claims, claims)
        rows = self.rows(query.where(claims.c.run != self.run))
        return [claim_from(row) for row in rows]

    def expect(self, claims: Iterable[tuple[int, Claim]]) -> None:
        """Note the last states that open claims will leave, by their numbers."""
        numbered = dict(claims)
        keys = [claim.version.key for claim in numbered.values()]
        self.buffer.know(self.latest_of(keys))
        for number, claim in numbered.items():
            self.buffer.expect(number, claim.version)

    def take_over_claims(self) -> list[Claim]:
        """Take over, and return, the claims of dead runs."""
        found = self.left_over
        dead = {run for run in {claim.run for claim in found} if not self.lives(run)}
        if not dead:
            return []
        with self.transaction() as transaction:
            return [c for c in found if c.run in dead and transaction.take_over(c)]

    def check_lease(self) -> None:
        """Raise `LedgerError` if another process may have taken over our claims."""
        with _errors(f"The ledger {self.name} cannot be read"):
            is_held = self._leases is None or self._leases.is_held()
        if not is_held:
            kind, lost = LedgerError, "file of"
            if self.may_lose_its_lease:
                kind, lost = LostLedgerError, "connection to"
            raise kind(f"The {lost} the ledger {self.name} is lost. Run again.")

    def lives(self, run: int) -> bool:
        """Return whether a run is still at work, here or in another process."""
        if run == self.run or self._leases is None:
            return run == self.run
        with _errors(f"The ledger {self.name} cannot be read"):
            return self._leases.lives(run)

    # Transactions

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write together: all is on disk after it, or nothing after a `LedgerError`."""
        if self._reads_only:
            raise LedgerError(f"The ledger {self.name} was opened for reading only.")
        with (
            _errors(f"The ledger {self.name} cannot be written"),
            self._begin(self._begin_write) as connection,
        ):
            yield Transaction(connection, self.run, self.scope, self.secret)

    @contextmanager
    def reading(self, *, once: bool = False) -> Iterator[sa.Connection]:
        """Read, or raise `LedgerError`. On SQLite, a block sees one snapshot.

        On PostgreSQL, each statement has a snapshot of its own. Within a transaction, a
        block also sees its rows. SQLite needs no BEGIN for a block that reads once.
        """
        with _errors(f"The ledger {self.name} cannot be read"):
            if self._connection.in_transaction():
                yield self._connection
                return
            with self._begin("" if once else self._begin_read) as connection:
                yield connection

    def rows(self, query: sa.Executable) -> list[Any]:
        """Return the rows of one query."""
        with self.reading(once=True) as connection:
            return list(connection.execute(query))

    def value(self, query: sa.Executable) -> Any:  # noqa: ANN401 - of any column
        """Return the first value of one query; None without a row."""
        with self.reading(once=True) as connection:
            return connection.scalar(query)

    @contextmanager
    def _begin(self, statement: str) -> Iterator[sa.Connection]:
        with self._connection.begin():
            if statement:
                self._connection.exec_driver_sql(statement)
            yield self._connection

    def flush(self) -> None:
        """Write the buffered outcomes; after the call they are on disk."""
        if isinstance(self._leases, FileLeases):
            self.check_lease()
        if not self.buffer.size:
            return
        with self.transaction() as transaction:
            self.buffer.write(transaction)
        self.buffer.clear()

    def scrub(self) -> None:
        """Overwrite deleted data, also in SQLite's write-ahead log."""
        if self._engine.dialect.name != "sqlite":
            return
        problem = f"The ledger {self.name} cannot be scrubbed"
        with _errors(problem), self._connection.begin():  # SQLite begins nothing
            self._connection.exec_driver_sql("VACUUM")
            self._connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Release the lease and close the database."""
        if self._leases:
            self._leases.release()
        self._connection.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()


@contextmanager
def _errors(problem: str, *, opens: bool = False) -> Iterator[None]:
    """Turn the database's errors into one that names the setting and no value."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        reason = database.reason_of(error)
        is_lost = getattr(error, "connection_invalidated", False)
        if isinstance(error, OperationalError) and opens:
            is_lost |= database.may_succeed_later(reason)
        elif isinstance(error, OperationalError):
            is_lost |= not database.code_of(error)  # the server did not respond
        kind, step = LedgerError, "See `ledger_url`"
        if is_lost:
            kind, step = LostLedgerError, "Run again"
        raise kind(f"{problem}: {reason}. {step}.") from None
