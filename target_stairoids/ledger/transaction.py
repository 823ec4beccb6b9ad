"""One transaction of the ledger: claims, outcomes and counters."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict

from stairoids_common.time import timestamp
from target_stairoids.dedup.duplicate_rules import Key, Latest, Settled, Version
from target_stairoids.ledger import lookup, sql
from target_stairoids.ledger.outcomes import write_outcomes
from target_stairoids.ledger.schema import (
    api_keys,
    checks,
    claims,
    days,
    dead_letters,
    mappings,
    pipelines,
    requests,
    runs,
    settled,
    signals,
    sources,
    streams,
)
from target_stairoids.ledger.structs import (
    Claim,
    Known,
    KnownMapping,
    NotifiedState,
    SettledVersion,
    claim_from,
)

_KEPT_SECONDS = 120.0  # requests count for a minute


@dataclass(eq=False)
class Transaction:
    """One transaction. Each method writes at once; the commit makes it durable."""

    connection: sa.Connection
    run: int
    statements: sql.Statements

    def known(
        self, versions: Sequence[Version]
    ) -> list[tuple[Latest | None, list[Settled]]]:
        """Return the last state and the settled states that belong to each version."""
        latest, keys = lookup.resolved(self.connection, versions)
        states = lookup.states_of(self.connection, versions)
        return [
            (latest.get(keys[place]), states.get(version.record_key, []))
            for place, version in enumerate(versions)
        ]

    # Claims

    def claim(
        self,
        wanted: Sequence[Claim],
        api_key: bytes | None = None,
        at: str | None = None,
    ) -> dict[Key, int]:
        """Claim entities before their signals are sent.

        Args:
            api_key: Digest of the key that they are sent with.
            at: The time on the server's clock, else `OWN_CLOCK` and our time.

        Returns:
            The run that holds each claim that is not ours.
        """
        at = timestamp() if at is None else at
        if not wanted:
            return {}
        rows = [
            {
                **asdict(claim),
                **asdict(claim.version),
                "entity": claim.version.key[0],
                "mapping": claim.version.key[1],
                "record_entity": claim.version.record_key[0],
                "api_key": api_key,
                "run": self.run,
                "attempts": 1,
                "claimed_at": at,
                "attempted_at": at,
            }
            for claim in wanted
        ]
        ours = set[Sequence[Any]]()
        for block in lookup.blocks(rows, lookup.PARAMETERS // len(sql.CLAIMED)):
            text = self.statements.claim(len(block))
            values = tuple(row[name] for row in block for name in sql.CLAIMED)
            ours |= {*map(tuple, self.connection.exec_driver_sql(text, values))}
        others = {c.version.key: c.version for c in wanted if c.version.key not in ours}
        return {
            key: self.connection.execute(
                sa.select(claims.c.run).where(_claims_of(version))
            ).scalar_one()
            for key, version in others.items()
        }

    def claim_again(self, claim: Claim, attempts: int, at: str) -> bool:
        """Note the attempts of a claim, and the time of the last one.

        Returns False if the claim is not ours.
        """
        row = attempts, at, *claim.version.key, self.run
        text = self.statements.claim_again
        return self.connection.exec_driver_sql(text, row).rowcount == 1

    def claim_on(self, version: Version) -> Claim | None:
        """Return the claim on a version's entity and mapping, if there is one."""
        query = sa.select(claims).where(_claims_of(version))
        row = self.connection.execute(query).first()
        return None if row is None else claim_from(row)

    def count_equal_claims(self, claim: Claim) -> int:
        """Return how many claims on other entities have the same request."""
        is_equal = (claims.c.signal == claim.signal) & ~_claims_of(claim.version)
        query = sa.select(sa.func.count()).select_from(claims).where(is_equal)
        return self.connection.scalar(query) or 0

    def take_over(self, claim: Claim) -> bool:
        """Make a dead run's claim ours; return False if another process was faster."""
        taken = self.write(
            sa.update(claims)
            .where(_claims_of(claim.version), claims.c.run == claim.run)
            .values(run=self.run)
        )
        return taken == 1

    def withdraw(self, version: Version) -> None:
        """Delete our claim of a signal that was certainly not accepted."""
        row = *version.key, self.run
        self.connection.exec_driver_sql(self.statements.end_claim, row)

    # Outcomes

    def settle(self, versions: Collection[SettledVersion]) -> None:
        """Write outcomes. Of two outcomes of one version, the later one counts."""
        if versions:
            write_outcomes(self, versions)

    def accepted_among(self, ids: Iterable[str]) -> set[str]:
        """Return those of some Stairoids signal ids that the ledger has as accepted.

        `settled` names only the last signal of a state, which may have returned. So
        all sent signals are read for the ids that it does not name.
        """
        wanted, known = {*ids}, set[str]()
        for column in (settled.c.signal_id, signals.c.signal_id):
            if wanted := wanted - known:
                query = sa.select(column).where(column.in_(wanted))
                known |= {*self.connection.scalars(query)}
        return known

    # API keys and sources

    def note_key(self, scope: str, digest: bytes) -> None:
        """Note that an API key belongs to the workspace of the ledger."""
        self._put(api_keys, scope=scope, api_key=digest)

    def note_others(self, scope: str, source: str) -> None:
        """Note that other producers send signals of a source as well."""
        self._put(sources, scope=scope, source=source)

    def note_known(self, scope: str, source: str, type_: str, known: Known) -> None:
        """Note up to where Stairoids' signals are accounted for."""
        row = scope, source, type_, known.until, known.signal_id
        self.connection.exec_driver_sql(self.statements.note_known, row)

    def _put(self, table: sa.Table, **values: Any) -> None:
        """Insert a row, or replace the values of the row with its key."""
        statement = self.statements.insert_into(table).values(values)
        key = table.primary_key.columns.keys()
        self.write(statement.on_conflict_do_update(index_elements=key, set_=values))

    def note_notified(self, scope: str, source: str, notified: NotifiedState) -> None:
        """Note the state of a pipeline that people were notified of."""
        self._put(pipelines, scope=scope, source=source, **notified._asdict())

    # Streams and counters

    def keep_schema(self, scope: str, name: str, schema: str) -> None:
        """Keep the SCHEMA message of a stream, which may be new."""
        is_used = (streams.c.scope == scope) & (streams.c.alias == name)
        alias = None  # the former name of another stream would give it that one's keys
        if self.connection.scalar(sa.select(streams.c.stream).where(is_used)):
            alias = f"{name} {secrets.token_hex(8)}"
        statement = self.statements.insert_into(streams).values(
            scope=scope, name=name, alias=alias, schema=schema
        )
        changed = streams.c.schema.is_distinct_from(statement.excluded.schema)
        self.write(
            statement.on_conflict_do_update(
                index_elements=["scope", "name"], set_={"schema": schema}, where=changed
            )
        )

    def count_requests(self, scope: str, count: int) -> int:
        """Add to today's requests (UTC); return how many there are now."""
        statement = self.statements.insert_into(days).values(
            scope=scope, day=timestamp()[:10], requests=count
        )
        total = statement.on_conflict_do_update(
            index_elements=["scope", "day"],
            set_={"requests": days.c.requests + statement.excluded.requests},
        ).returning(days.c.requests)
        return int(self.connection.scalar(total))

    def note_requests(self, api_key: bytes, count: int, limit: int | None) -> None:
        """Note requests that start now, and delete the old ones.

        A negative count takes back the newest requests of this run.
        """
        if count < 0:
            is_ours = (requests.c.api_key == api_key) & (requests.c.run == self.run)
            newest = sa.select(sa.func.max(requests.c.at)).where(is_ours)
            left = requests.c.requests + count
            is_newest = is_ours & (requests.c.at == newest.scalar_subquery())
            self.write(sa.update(requests).where(is_newest).values(requests=left))
            return
        now = self._now
        row = (api_key, now, self.run, count, limit)
        self.write(requests.insert().values(row))
        is_old = requests.c.at < now - _KEPT_SECONDS
        self.write(sa.delete(requests).where(requests.c.api_key == api_key, is_old))

    def requests_of_others(self, api_key: bytes) -> list[tuple[float, int, int | None]]:
        """Return the starts of requests by other runs, the oldest first.

        Each has its age in seconds, a number, and the rate limit that the run knew.
        """
        age = self._now - requests.c.at
        query = sa.select(age, requests.c.requests, requests.c.rate_limit).where(
            requests.c.api_key == api_key,
            requests.c.run != self.run,
            age.between(-_KEPT_SECONDS, _KEPT_SECONDS),
        )
        return [*map(tuple, self.connection.execute(query.order_by(requests.c.at)))]

    @property
    def _now(self) -> sa.ColumnElement[float]:
        """Seconds of the epoch by the clock that all runs of the ledger share."""
        if self.connection.dialect.name == "postgresql":
            return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return sa.literal(time.time())  # an SQLite file is on one machine

    def advance_counters(self) -> None:
        """Continue numbering after copied rows; SQLite does so by itself."""
        if self.connection.dialect.name != "postgresql":
            return
        counters = runs.c.run, streams.c.stream, dead_letters.c.id, signals.c.sequence
        for column in counters:
            table = column.table.name
            sequence = sa.func.pg_get_serial_sequence(table, column.name)
            newest = sa.select(
                sa.func.coalesce(sa.func.max(column), 0) + 1
            ).scalar_subquery()
            self.connection.execute(sa.select(sa.func.setval(sequence, newest, False)))  # noqa: FBT003 - positional in SQL

    # Checks of streams

    def keep_mappings(self, made: Mapping[tuple[int, str], KnownMapping]) -> None:
        """Keep mappings, by the number of their stream and their name."""
        for (stream, name), known in made.items():
            self._put(mappings, stream=stream, mapping=name, **asdict(known))

    def check_fired(self, scope: str, stream: str, check: str, reason: str) -> None:
        """Note that a check set a stream aside."""
        values = {"subject": stream, "name": check, "reason": reason}
        self._put(checks, scope=scope, **values, is_allowed=False)

    def allow(self, scope: str, stream: str) -> list[str]:
        """Let the next run's checks of a stream pass; return why they fired."""
        its = (checks.c.scope == scope) & (checks.c.subject == stream)
        reasons = self.connection.scalars(sa.select(checks.c.reason).where(its)).all()
        self.write(sa.update(checks).where(its).values(is_allowed=True))
        return list(reasons)

    def checks_passed(self, scope: str, streams: Collection[str]) -> None:
        """Forget the checks that set streams aside."""
        their = (checks.c.scope == scope) & checks.c.subject.in_(streams)
        self.write(sa.delete(checks).where(their))

    # Any statement

    def write(self, statement: Any, rows: list[dict[str, Any]] | None = None) -> int:  # noqa: ANN401 - any SQL statement
        """Execute a statement; return how many rows it changed."""
        return int(self.connection.execute(statement, rows).rowcount)


def _claims_of(version: Version) -> Any:  # noqa: ANN401 - an SQL expression
    entity, mapping = version.key
    return (claims.c.entity == entity) & (claims.c.mapping == mapping)
