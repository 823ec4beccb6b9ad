"""A turn: one transaction of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import delete, func, select, update

from target_stairoids.dedup.rules import (
    Known,
    Latest,
    Outcome,
    Settled,
)
from target_stairoids.ledger import sql
from target_stairoids.ledger.entries import CLAIM_COLUMNS, claim_from
from target_stairoids.ledger.outcomes import Settlement
from target_stairoids.ledger.schema import (
    claims,
    days,
    dead_letters,
    latest,
    runs,
    settled,
    streams,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy import Column, Connection, Row

    from target_stairoids.ledger.entries import Claim, DeadLetter, Verdict

T = TypeVar("T")

_PARAMETERS = 999  # that SQLite allows in builds still in use
_PAIRS = (_PARAMETERS - 1) // 2


class Transaction:
    """One transaction of the ledger."""

    def __init__(self, connection: Connection, run: int) -> None:
        self._connection = connection
        self._run = run
        self._dialect = connection.dialect.name
        self._verdicts: list[Verdict] = []  # written together, before anything is read

    def look_up(
        self, versions: Collection[bytes], entities: Collection[bytes]
    ) -> Known:
        """Return what is remembered of these versions and entities."""
        self.write_out()
        became = self._rows(settled.c.version, sql.SETTLED, versions)
        said = self._rows(latest.c.entity, sql.LATEST, entities)
        return Known(
            {
                (version, mapping): Settled(outcome, run, fingerprint)
                for version, mapping, outcome, run, fingerprint in became
            },
            {(entity, mapping): _latest_from(row) for entity, mapping, *row in said},
        )

    def said_otherwise(
        self, mapping: str, marks: Sequence[tuple[bytes, bytes]]
    ) -> Iterator[tuple[bytes, Latest | None]]:
        """Yield the entities of which a mapping has said something else last.

        Args:
            marks: Entities, each with a version or the spelling of one.

        Yields:
            An entity, and what was said of it last; None if there is nothing.
        """
        self.write_out()
        paramstyle = self._connection.dialect.paramstyle
        for block in _blocks(marks, _PAIRS):
            text = sql.select_said_otherwise(len(block), paramstyle)
            values = (*chain.from_iterable(block), mapping)
            for entity, *row in self._connection.exec_driver_sql(text, values).all():
                yield entity, None if row[0] is None else _latest_from(row)

    def _rows(
        self,
        key: Column[Any],
        columns: tuple[Column[Any], ...],
        values: Collection[bytes],
    ) -> Iterator[Sequence[Any]]:
        paramstyle = self._connection.dialect.paramstyle
        for block in _blocks(values, _PARAMETERS):
            text = sql.select_by(key, columns, len(block), paramstyle)
            yield from self._connection.exec_driver_sql(text, block).all()

    def add_stream(self, scope: str, name: str) -> Any:  # noqa: ANN401 - a row
        """Return the row of a stream, new unless another process was faster."""
        self._connection.execute(
            sql.insert_into(self._dialect, streams)
            .values(scope=scope, name=name)
            .on_conflict_do_nothing()
        )
        query = select(streams.c.stream, streams.c.schema)
        found = query.where(streams.c.scope == scope, streams.c.name == name)
        return self._connection.execute(found).one()

    def count_requests(self, scope: str, count: int) -> int:
        """Add to the requests of this day (UTC); returns how many there are now."""
        statement = sql.insert_into(self._dialect, days).values(
            scope=scope, day=timestamp()[:10], requests=count
        )
        total = statement.on_conflict_do_update(
            index_elements=["scope", "day"],
            set_={"requests": days.c.requests + statement.excluded.requests},
        ).returning(days.c.requests)
        return int(self.scalar(total))

    def claim(self, *wanted: Claim) -> dict[tuple[bytes, str], int]:
        """Claim entities before their signals are sent.

        Returns:
            The run that holds the claim, for each that is not ours now.
        """
        if not wanted:
            return {}
        at = timestamp()
        rows = [
            {
                **{name: getattr(claim, name) for name in CLAIM_COLUMNS},
                "run": self._run,
                "attempts": 1,
                "claimed_at": at,
                "attempted_at": at,
            }
            for claim in wanted
        ]
        self.write_out()
        inserted = self._connection.execute(sql.claim(self._dialect), rows)
        ours = {(row.entity, row.mapping) for row in inserted}
        keys = {(claim.entity, claim.mapping): claim for claim in wanted}
        return {
            key: self.scalar(select(claims.c.run).where(_same_key(claim)))
            for key, claim in keys.items()
            if key not in ours
        }

    def claim_again(self, claim: Claim, attempts: int) -> bool:
        """Note one more attempt of a claim; False if it is not ours any more."""
        self.write_out()
        again = {"attempts": attempts, "attempted_at": timestamp()}
        key = _key_of(claim) | {"key_run": self._run}
        found = self._connection.execute(sql.CLAIM_AGAIN, key | again)
        return found.rowcount == 1

    def claim_on(self, claim: Claim) -> Claim | None:
        """Return the claim that stands on the same entity and mapping, if one does."""
        row = self.first(select(claims).where(_same_key(claim)))
        return None if row is None else claim_from(row)

    def owns_signal(self, signal_id: str, *, other_than: Claim) -> bool:
        """Say whether a Stairoids signal id belongs to another settled version."""
        query = select(settled.c.version).where(
            settled.c.signal_id == signal_id,
            (settled.c.version != other_than.version)
            | (settled.c.mapping != other_than.mapping),
        )
        return self.scalar(query.limit(1)) is not None

    def is_buried(self, letter: int) -> bool:
        """Say whether a dead letter is still there."""
        query = select(dead_letters.c.id).where(dead_letters.c.id == letter)
        return self.scalar(query) is not None

    def take_over(self, claim: Claim) -> bool:
        """Make a dead run's claim ours; False if another process was faster."""
        taken = self.write(
            update(claims)
            .where(_same_key(claim), claims.c.run == claim.run)
            .values(run=self._run)
        )
        return taken == 1

    def withdraw(self, claim: Claim) -> None:
        """Drop a claim whose signal was certainly not accepted."""
        self.write(delete(claims).where(_same_key(claim), claims.c.run == self._run))

    def settle(self, *verdicts: Verdict) -> None:
        """Remember what became of versions, and drop their claims.

        An accepted version is no dead letter any more.

        Of two verdicts on one version the later one counts.
        """
        self._verdicts.extend(verdicts)

    def write_out(self) -> None:
        """Write what is settled so far."""
        verdicts, self._verdicts = self._verdicts, []
        if not verdicts:
            return
        Settlement(self._connection, self._run, self.look_up).write(verdicts)

    def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter; a second one of the same version counts up."""
        at = timestamp()
        values = {
            **{name: getattr(letter, name) for name in letter.__struct_fields__},
            "outcome": str(letter.outcome),
            "first_at": at,
            "last_at": at,
        }
        self._connection.execute(sql.bury(self._dialect), values)

    def discard(self, letters: Collection[int]) -> int:
        """Forget dead letters; returns how many there were."""
        if not letters:
            return 0
        return self.write(delete(dead_letters).where(dead_letters.c.id.in_(letters)))

    def resolve(self, letters: Collection[int], outcome: Outcome) -> int:
        """Settle unknown signals as a person says: accepted, or rejected to be resent.

        Returns:
            How many of these dead letters were of unknown signals.
        """
        are_unknown = dead_letters.c.id.in_(letters) & (
            dead_letters.c.outcome == Outcome.UNKNOWN
        )
        found = self._connection.execute(select(dead_letters).where(are_unknown)).all()
        for letter in found:
            self.write(
                update(settled)
                .where(
                    settled.c.version == letter.version,
                    settled.c.mapping == letter.mapping,
                )
                .values(outcome=str(outcome))
            )
        if outcome is Outcome.ACCEPTED:
            self.write(delete(dead_letters).where(are_unknown))
            return len(found)
        self.write(update(dead_letters).where(are_unknown).values(outcome=str(outcome)))
        for letter in found:  # it has said nothing, so to send it is news
            self.write(
                update(latest)
                .where(
                    latest.c.version == letter.version,
                    latest.c.mapping == letter.mapping,
                )
                .values(content=None, done=False)
            )
        return len(found)

    def advance_counters(self) -> None:
        """Let numbers go on after rows that brought their own; SQLite does itself."""
        if self._connection.dialect.name != "postgresql":
            return
        for column in (runs.c.run, streams.c.stream, dead_letters.c.id):
            table = column.table.name
            sequence = func.pg_get_serial_sequence(table, column.name)
            newest = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
            self._connection.execute(select(func.setval(sequence, newest, False)))  # noqa: FBT003 - positional in SQL

    def write(self, statement: Any, rows: list[dict[str, Any]] | None = None) -> int:  # noqa: ANN401 - any SQL statement
        """Execute a statement; returns how many rows it changed."""
        self.write_out()
        return int(self._connection.execute(statement, rows).rowcount)

    def all(self, statement: Any) -> Sequence[Row[Any]]:  # noqa: ANN401 - any SQL query
        """Return the rows of a query."""
        self.write_out()
        return self._connection.execute(statement).all()

    def first(self, statement: Any) -> Row[Any] | None:  # noqa: ANN401 - any SQL query
        """Return the first row of a query, or None."""
        self.write_out()
        return self._connection.execute(statement).first()

    def scalar(self, statement: Any) -> Any:  # noqa: ANN401 - whatever the column holds
        """Return the first column of the first row, or None."""
        self.write_out()
        return self._connection.scalar(statement)


def _key_of(key: Claim | Verdict) -> dict[str, Any]:
    return {"key_entity": key.entity, "key_mapping": key.mapping}


def _same_key(key: Claim | Verdict, table: Any = claims) -> Any:  # noqa: ANN401 - an SQL expression
    return (table.c.entity == key.entity) & (table.c.mapping == key.mapping)


def timestamp() -> str:
    """Return the time as the ledger keeps it: RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _latest_from(row: Sequence[Any]) -> Latest:
    version, content, position, done, basis, spelling = row
    return Latest(version, content, position, bool(done), basis, spelling)


def _blocks(items: Collection[T], size: int) -> Iterator[tuple[T, ...]]:
    listed = tuple(items)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]
