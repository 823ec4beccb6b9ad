"""One transaction of the ledger, and the statements that it executes."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict

from stairoids_common.time import timestamp
from target_stairoids.dedup.duplicate_rules import (
    Key,
    Latest,
    Settled,
    State,
    Version,
    differ,
)
from target_stairoids.ledger import lookup
from target_stairoids.ledger.schema import (
    api_keys,
    checks,
    claims,
    days,
    dead_letters,
    known_signals,
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
    NOT_ENDED,
    UNFINISHED,
    Claim,
    Known,
    KnownMapping,
    NotifiedState,
    claim_from,
)

_CLAIMED = claims.c.keys()
_KEPT_SECONDS = 120.0  # requests count for a minute
_OUR_CLAIM = "WHERE entity = ? AND mapping = ? AND run = ?"
_COUNTED = f"{days.name}.requests + ?"
_COUNT_REQUESTS = lookup.upsert_text(
    days, requests=f"CASE WHEN {_COUNTED} > 0 THEN {_COUNTED} ELSE 0 END"
)
_KEEP_SCHEMA = lookup.upsert_text(
    streams,
    ("scope", "name", "alias", "schema"),
    ("scope", "name"),
    alias=f"{streams.name}.alias",
)
_KEEP_MAPPING = lookup.upsert_text(mappings)
#: A person may have let a check pass since the run began. It stays allowed then.
_CHECK_FIRED = lookup.upsert_text(checks, is_allowed=f"{checks.name}.is_allowed")
_CLAIM_AGAIN = f"UPDATE {claims.name} SET attempts = ?, attempted_at = ? {_OUR_CLAIM}"  # noqa: S608 - names of our own table
END_CLAIM = f"DELETE FROM {claims.name} {_OUR_CLAIM}"  # noqa: S608 - same


@dataclass(eq=False)
class Transaction:
    """One transaction. Each method writes at once; the commit makes it durable."""

    connection: sa.Connection
    run: int
    scope: str
    secret: bytes

    # Claims

    def claim(
        self, wanted: Sequence[Claim], api_key: bytes, at: str
    ) -> dict[Key, tuple[Latest | None, list[Settled]]]:
        """Claim entities before their signals are sent.

        Args:
            at: The time on the server's clock, else `OWN_CLOCK` and our time.

        Returns:
            The last state and the settled states that belong to each claim of ours.
        """
        if not wanted:
            return {}
        noted = {"api_key": api_key, "run": self.run, "attempts": 1}
        noted |= {"claimed_at": at, "attempted_at": at}
        rows = []
        for claim in wanted:
            (entity, mapping), of_record = claim.version.key, claim.version.record_key
            its = {"entity": entity, "mapping": mapping, "record_entity": of_record[0]}
            its |= {"signal": claim.request}
            values = asdict(claim) | asdict(claim.version) | its | noted
            rows.append([values[name] for name in _CLAIMED])
        insert = lookup.insert_text(claims, _CLAIMED, len(rows))
        text = f"{insert} ON CONFLICT DO NOTHING RETURNING entity, mapping"
        row = tuple(chain.from_iterable(rows))
        ours = {*map(tuple, lookup.execute(self.connection, text, row))}
        versions = [c.version for c in wanted if c.version.key in ours]
        for version in self._claimed_as_other(versions):
            self.withdraw(version)
            versions.remove(version)
        latest, keys = lookup.resolved(self.connection, versions)
        states = lookup.states_of(self.connection, versions)
        return {
            version.key: (latest.get(key), states.get(version.record_key, []))
            for version, key in zip(versions, keys, strict=True)
        }

    def _claimed_as_other(self, versions: Sequence[Version]) -> list[Version]:
        """Return the versions that other runs claimed on another entity.

        A run that does not know yet that people share a key claims the key itself. One
        that knows claims the person.
        """
        of = claims.c
        columns = of.entity, of.record_entity, of.mapping, of.email, of.domain
        query = sa.select(*columns).where(of.run != self.run)
        others = defaultdict[Key, list[Any]](list)
        for row in self.connection.execute(query):
            others[row.record_entity, row.mapping].append(row)
        return [
            version
            for version in versions
            if any(
                _is_same_claim((row.entity, row.mapping), row, version)
                for row in others.get(version.record_key, ())
            )
        ]

    def claim_again(self, claim: Claim) -> bool:
        """Note the attempts of a claim, and the time of the last one.

        Returns False if the claim is not ours.
        """
        row = claim.attempts, claim.attempted_at, *claim.version.key, self.run
        return lookup.execute(self.connection, _CLAIM_AGAIN, row).rowcount == 1

    def claim_on(self, version: Version) -> Claim | None:
        """Return the claim on a version's entity and mapping, if there is one.

        It may be on the key itself, if people share that in the meantime.
        """
        (entity, mapping), record_entity = version.key, version.record_key[0]
        of = claims.c
        are_they = (of.entity == entity) | (of.record_entity == record_entity)
        query = sa.select(claims).where(are_they, of.mapping == mapping)
        found = map(claim_from, self.connection.execute(query))
        its = (c for c in found if _is_same_claim(c.version.key, c.version, version))
        return next(its, None)

    def count_equal_claims(self, claim: Claim) -> int:
        """Return how many claims on other entities have the same request."""
        is_equal = (claims.c.signal == claim.request) & ~_claims_of(claim.version)
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
        self.execute(END_CLAIM, [(*version.key, self.run)])

    # Outcomes

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

    def note_key(self, digest: bytes) -> None:
        """Note that an API key belongs to the workspace of the ledger."""
        self._put(api_keys, scope=self.scope, api_key=digest)

    def note_others(self, source: str) -> None:
        """Note that other producers send signals of a source as well."""
        self._put(sources, scope=self.scope, source=source)

    def note_known(self, scope: str, source: str, type_: str, known: Known) -> None:
        """Note up to where Stairoids' signals are accounted for."""
        values = {"known_until": known.until, "signal_id": known.signal_id}
        self._put(known_signals, scope=scope, source=source, type=type_, **values)

    def _put(self, table: sa.Table, **values: Any) -> None:
        text = lookup.upsert_text(table, tuple(values))
        self.execute(text, [tuple(values.values())])

    def note_notified(self, source: str, notified: NotifiedState) -> None:
        """Note the state of a pipeline that people were notified of."""
        self._put(pipelines, scope=self.scope, source=source, **notified._asdict())

    # Streams and counters

    def keep_schema(self, name: str, schema: str) -> None:
        """Keep the SCHEMA message of a stream, which may be new."""
        alias = None  # the former name of another stream would give it that one's keys
        its = sa.select(streams.c.stream).filter_by(scope=self.scope, alias=name)
        if self.connection.scalar(its):
            alias = f"{name} {secrets.token_hex(8)}"
        is_changed = f"COALESCE({streams.name}.schema, '') <> excluded.schema"
        row = self.scope, name, alias, schema
        self.execute(f"{_KEEP_SCHEMA} WHERE {is_changed}", [row])

    def count_requests(self, scope: str, count: int) -> int:
        """Add to today's requests (UTC); return how many there are now.

        A negative count takes back requests, and none of a day before.
        """
        row = scope, timestamp()[:10], max(0, count), count, count
        text = f"{_COUNT_REQUESTS} RETURNING requests"
        return int(lookup.execute(self.connection, text, row).scalar_one())

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
        rows = [(*key, known.source, known.identity) for key, known in made.items()]
        self.execute(_KEEP_MAPPING, rows)

    def check_fired(self, stream: str, check: str, reason: str) -> None:
        """Note that a check set a stream aside."""
        self.execute(_CHECK_FIRED, [(self.scope, stream, check, reason, False)])

    def allow(self, stream: str) -> dict[str, str]:
        """Let the next checks of a stream pass; return them, and why they fired."""
        its = self._checks_of(stream)
        fired = self.connection.execute(sa.select(checks).where(its)).all()
        self.write(sa.update(checks).where(its).values(is_allowed=True))
        return {row.name: row.reason for row in fired}

    def _checks_of(self, *streams: str) -> Any:  # noqa: ANN401 - an SQL expression
        return (checks.c.scope == self.scope) & checks.c.subject.in_(streams)

    def checks_passed(self, *streams: str) -> None:
        """Forget the checks that set streams aside.

        An unfinished baseline stays one, unless a person lets it pass.
        """
        may_go = ~checks.c.name.startswith(UNFINISHED) | checks.c.is_allowed
        self.write(sa.delete(checks).where(self._checks_of(*streams) & may_go))

    def baselines_began(self, stream: str, mappings: Collection[str]) -> None:
        """Note that the baselines of mappings are unfinished."""
        self.baseline_ended(stream, mappings)  # a person allowed an old one
        for mapping in mappings:
            self.check_fired(stream, UNFINISHED + mapping, NOT_ENDED)

    def baseline_ended(self, stream: str, mappings: Iterable[str]) -> None:
        """Note that the baselines of mappings are finished."""
        if names := [UNFINISHED + mapping for mapping in mappings]:
            are_they = self._checks_of(stream) & checks.c.name.in_(names)
            self.write(sa.delete(checks).where(are_they))

    # Any statement

    def execute(self, text: str, rows: list[tuple[Any, ...]]) -> None:
        """Execute a text for each row."""
        if rows:
            lookup.execute(self.connection, text, rows)

    def write(self, statement: Any) -> int:  # noqa: ANN401 - any SQL statement
        """Execute a statement; return how many rows it changed."""
        return int(self.connection.execute(statement).rowcount)


def _is_same_claim(key: Key, person: State, version: Version) -> bool:
    """Return whether a claim on a key of a version's record is one on the version."""
    is_unsplit = version.record_key in {key, version.key}
    return key == version.key or (is_unsplit and not differ(person, version))


def _claims_of(version: Version) -> Any:  # noqa: ANN401 - an SQL expression
    entity, mapping = version.key
    return (claims.c.entity == entity) & (claims.c.mapping == mapping)
