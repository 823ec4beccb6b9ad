"""The ledger: what became of every signal, asked before sending, written after.

One thread uses a `Ledger`; several processes may share its database. What must be on
disk together is written in one `turn`: when the `with` block ends, it is.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import (
    func,
    insert,
    make_url,
    select,
    update,
)

from target_stairoids.dedup.rules import Known
from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.database import (
    as_ledger_error,
    engine_of,
    file_of,
    name_of,
    parsed_url,
)
from target_stairoids.ledger.entries import claim_from
from target_stairoids.ledger.leases import (
    FileLeases,
    Leases,
    NoLeases,
    ServerLeases,
)
from target_stairoids.ledger.schema import (
    check_is_current,
    claims,
    dead_letters,
    is_prepared,
    latest,
    prepare,
    runs,
    settled,
    streams,
)
from target_stairoids.ledger.transaction import Transaction, timestamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import URL, Connection

    from target_stairoids.dedup.rules import Latest
    from target_stairoids.ledger.entries import Claim


class Ledger:
    """The durable memory of what was sent.

    Args:
        url: SQLAlchemy URL of an SQLite or PostgreSQL database; created on first use.
        scope: Origin of the API; other origins' entries are not seen.
        read_only: Refuse to write; a database without a ledger then counts as empty.
        must_exist: Refuse a database without a ledger, and create nothing.

    Raises:
        LedgerError: The database cannot be opened; the message names `ledger_url`.
    """

    def __init__(
        self,
        url: str,
        scope: str,
        *,
        read_only: bool = False,
        must_exist: bool = False,
    ) -> None:
        self.scope = scope
        self.run = 0
        self._streams: dict[str, int] = {}
        self._complete_runs: dict[int, int] = {}
        parsed = parsed_url(url)
        self.name = name_of(parsed)
        self._read_only = read_only
        path = file_of(parsed)
        if must_exist and path and not path.exists():
            raise _no_ledger_at(str(path))
        with as_ledger_error(f"The ledger {self.name} cannot be opened"):
            if read_only and path and not path.exists():
                parsed, path = make_url("sqlite://"), None
            writes = not read_only or parsed.database is None
            if path and writes:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
            self._connect(parsed)
        self._leases: Leases = NoLeases()
        try:
            with as_ledger_error(f"The ledger {self.name} cannot be opened"):
                if must_exist and not self._is_prepared():
                    raise _no_ledger_at(str(path or self.name))
                if not writes and not self._is_prepared():
                    self._disconnect()
                    self._connect(make_url("sqlite://"))
                    writes = True
                self._leases = self._leases_of(path)
                with self._begin(write=writes) as connection:
                    if writes:
                        prepare(connection)
                    else:
                        check_is_current(connection)
            self.last_complete_run = self._newest_complete_run()
        except LedgerError:
            self.close()
            raise

    def _connect(self, url: URL) -> None:
        self._engine = engine_of(url)
        self._connection = self._engine.connect()

    def _is_prepared(self) -> bool:
        with self._begin(write=False) as connection:
            return is_prepared(connection)

    def _leases_of(self, path: Path | None) -> Leases:
        if path is not None:
            return FileLeases(path)
        on_server = self._engine.dialect.name == "postgresql"
        return ServerLeases(self._engine) if on_server else NoLeases()

    # Runs

    def begin_run(self) -> int:
        """Open a run and take its lease.

        Returns:
            Its number, greater than any before.
        """
        with self.transaction() as turn:
            self.run = turn.scalar(
                insert(runs)
                .values(scope=self.scope, started_at=timestamp())
                .returning(runs.c.run)
            )
            self._leases.take(self.run)
        return self.run

    def end_run(
        self,
        exit_code: int,
        report: Mapping[str, Any],
        *,
        is_complete: bool | None = None,
    ) -> None:
        """Close the run; if all it read is settled, its streams are known ones.

        Args:
            is_complete: Whether all is settled; by default what exit code 0 means.
        """
        if is_complete is None:
            is_complete = exit_code == 0
        with self.transaction() as turn:
            turn.write(
                update(runs)
                .where(runs.c.run == self.run)
                .values(
                    ended_at=timestamp(),
                    exit_code=exit_code,
                    is_complete=is_complete,
                    report=json.dumps(report),
                )
            )
            if is_complete and self._streams:
                turn.write(
                    update(streams)
                    .where(streams.c.stream.in_(self._streams.values()))
                    .values(complete_run=self.run)
                )

    def _newest_complete_run(self) -> int:
        newest = select(func.max(runs.c.run)).where(
            runs.c.scope == self.scope, runs.c.is_complete
        )
        with self.reading() as connection:
            return connection.scalar(newest) or 0

    def is_new(self) -> bool:
        """Say whether nothing was ever settled or claimed in this scope."""
        entries = (
            select(table.c.stream)
            .join(streams, streams.c.stream == table.c.stream)
            .where(streams.c.scope == self.scope)
            .limit(1)
            for table in (settled, claims)
        )
        with self.reading() as connection:
            return all(connection.scalar(entry) is None for entry in entries)

    # Streams

    def stream_id(self, name: str, schema_message: Mapping[str, Any]) -> int:
        """Return the number of a stream and keep its SCHEMA for exports."""
        text = json.dumps(schema_message, default=str)
        with self.transaction() as turn:
            row = turn.first(
                select(streams.c.stream, streams.c.schema).where(
                    streams.c.scope == self.scope, streams.c.name == name
                )
            )
            if row is None:
                row = turn.add_stream(self.scope, name)
            if row.schema != text:
                turn.write(
                    update(streams)
                    .where(streams.c.stream == row.stream)
                    .values(schema=text)
                )
            complete_run = turn.scalar(
                select(streams.c.complete_run).where(streams.c.stream == row.stream)
            )
        number = self._streams[name] = int(row.stream)
        self._complete_runs[number] = complete_run or 0
        return number

    def find_stream(self, name: str) -> int:
        """Return the number of a stream, and write nothing; 0 if it is new."""
        query = select(streams.c.stream, streams.c.complete_run).where(
            streams.c.scope == self.scope, streams.c.name == name
        )
        with self.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return 0
        self._complete_runs[row.stream] = row.complete_run or 0
        return int(row.stream)

    def complete_run_of(self, stream: int) -> int:
        """Return the newest run before this one that settled all it read of a stream.

        A run of another pipeline on the same ledger says nothing about this stream.
        """
        return self._complete_runs.get(stream, self.last_complete_run)

    def is_first_run_of(self, stream: int) -> bool:
        """Say whether no run that saw the stream has ended with exit code 0 yet."""
        with self.reading() as connection:
            complete_run = connection.scalar(
                select(streams.c.complete_run).where(streams.c.stream == stream)
            )
        return complete_run is None

    def entities_of(self, stream: int) -> int:
        """Return how many entities of a stream are known; 0 before a complete run."""
        if self.is_first_run_of(stream):
            return 0
        query = select(func.count()).where(latest.c.stream == stream)
        with self.reading() as connection:
            return connection.scalar(query) or 0

    # Questions

    def look_up(
        self, versions: Collection[bytes], entities: Collection[bytes]
    ) -> Known:
        """Return what is remembered of these versions and entities."""
        if not versions and not entities:
            return Known({}, {})
        with self.reading() as connection:
            return Transaction(connection, self.run).look_up(versions, entities)

    def said_otherwise(
        self, marks: Mapping[str, Sequence[tuple[bytes, bytes]]]
    ) -> dict[tuple[bytes, str], Latest | None]:
        """Return what was said last, where that is something else.

        Args:
            marks: Mapping's name -> entities, each with a version or its spelling.

        Returns:
            (entity, mapping's name) -> the latest version; None if there is none.
        """
        with self.reading() as connection:
            turn = Transaction(connection, self.run)
            return {
                (entity, mapping): latest
                for mapping, asked in marks.items()
                for entity, latest in turn.said_otherwise(mapping, asked)
            }

    def was_said_since(self, letter: int, key: tuple[bytes, str]) -> bool:
        """Say whether a later run than a dead letter's has said what is the latest now.

        Args:
            key: The entity it is about, and the mapping's name.
        """
        entity, mapping = key
        query = select(latest.c.entity).where(
            latest.c.entity == entity,
            latest.c.mapping == mapping,
            latest.c.run == runs.c.run,
            dead_letters.c.id == letter,
            runs.c.started_at > dead_letters.c.last_at,
        )
        with self.reading() as connection:
            return connection.scalar(query) is not None

    def orphans(self) -> list[Claim]:
        """Take over, and return, the claims of runs that no longer live."""
        with self.reading() as connection:
            query = select(claims).join(streams, streams.c.stream == claims.c.stream)
            rows = connection.execute(
                query.where(streams.c.scope == self.scope, claims.c.run != self.run)
            ).all()
        dead = {run for run in {row.run for row in rows} if not self._leases.lives(run)}
        orphaned = [claim_from(row) for row in rows if row.run in dead]
        with self.transaction() as turn:
            return [claim for claim in orphaned if turn.take_over(claim)]

    def hold(self) -> None:
        """Make sure that the claims of this run are still its own.

        Raises:
            LedgerError: Another process may have taken them over; send nothing more.
        """
        if not self._leases.is_held():
            msg = f"The connection to the ledger {self.name} broke; run again."
            raise LedgerError(msg)

    @property
    def may_lose_its_lease(self) -> bool:
        """Whether the lease may go while the run lives: `hold` must be asked."""
        return isinstance(self._leases, ServerLeases)

    def lives(self, run: int) -> bool:
        """Say whether a run is still at work, here or in another process."""
        return run == self.run or self._leases.lives(run)

    # Transactions

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write what belongs together; when the block ends, it is on disk.

        Raises:
            LedgerError: Nothing of the block is written. Stop the run.
        """
        if self._read_only:
            msg = f"The ledger {self.name} was opened to be read only."
            raise LedgerError(msg)
        with (
            as_ledger_error(f"The ledger {self.name} cannot be written"),
            self._begin(write=True) as connection,
        ):
            turn = Transaction(connection, self.run)
            yield turn
            turn.write_out()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read; what a block sees is of one moment.

        Raises:
            LedgerError: The ledger cannot be read. Stop the run.
        """
        with (
            as_ledger_error(f"The ledger {self.name} cannot be read"),
            self._begin(write=False) as connection,
        ):
            yield connection

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[Connection]:
        self._connection.info["write"] = write
        with self._connection.begin():
            yield self._connection

    def scrub(self) -> None:
        """Overwrite what was deleted, also in SQLite's write-ahead log."""
        if self._engine.dialect.name != "sqlite":
            return
        with as_ledger_error(f"The ledger {self.name} cannot be scrubbed"):
            raw = self._connection.connection.driver_connection
            if raw is not None:  # outside of any transaction
                raw.execute("VACUUM")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Give the lease back and close the database."""
        self._leases.release()
        self._disconnect()

    def _disconnect(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()


def _no_ledger_at(place: str) -> LedgerError:
    return LedgerError(
        f"There is no ledger at {place}. Relative paths count from the working "
        "directory; see `ledger_url`."
    )
