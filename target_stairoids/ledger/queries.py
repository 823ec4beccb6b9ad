"""Queries about a whole ledger: for people, for checks of streams, for the sync log.

`lookup` has those that run for each block of records.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from stairoids_common.time import timestamp
from target_stairoids.dedup.duplicate_rules import Key, Version
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import person_digest
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.lookup import (
    at_origin,
    blocks,
    in_scope,
    is_used,
)
from target_stairoids.ledger.schema import (
    api_keys,
    checks,
    claims,
    dead_letters,
    latest,
    mappings,
    pipelines,
    runs,
    settled,
    signals,
    sources,
    streams,
    suppressed,
)
from target_stairoids.ledger.structs import (
    OWN_CLOCK,
    UNFINISHED,
    KnownMapping,
    NotifiedState,
    PipelineFacts,
)


def counts(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return the number of versions by stream and outcome.

    Invalid records are counted by their dead letters. `claimed` versions are in flight,
    or were left by a killed run. `suppressed` are the people that a stream suppresses.
    """
    invalid = dead_letters.c.outcome == Outcome.INVALID
    claimed = sa.literal("claimed").label("outcome")
    query = sa.union_all(
        *(
            in_scope(
                ledger.scope, table, streams.c.name, outcome_column, sa.func.count()
            )
            .where(chosen)
            .group_by(streams.c.name, "outcome")
            for table, outcome_column, chosen in (
                (settled, settled.c.outcome, sa.true()),
                (dead_letters, dead_letters.c.outcome, invalid),
                (claims, claimed, sa.true()),
                (suppressed, sa.literal("suppressed").label("outcome"), sa.true()),
            )
        )
    )
    found: dict[str, dict[str, int]] = {}
    for name, outcome, count in ledger.rows(query):
        found.setdefault(name, {})[outcome] = count
    return found


def counts_of_runs(
    ledger: Ledger, dead: Collection[int]
) -> dict[int, tuple[dict[str, int], dict[str, int]]]:
    """Return run -> outcome -> versions settled, and signal type -> signals sent.

    Settled versions without the sent ones, and sent signals without those that a later
    run recovered. It reads all rows.
    """
    found: dict[int, tuple[dict[str, int], dict[str, int]]]
    found = {number: ({}, {}) for number in dead}
    is_not_sent = settled.c.outcome != Outcome.ACCEPTED
    names = (settled.c.outcome, is_not_sent), (signals.c.type, sa.true())
    for place, (name, is_it) in enumerate(names if dead else ()):
        run = name.table.c.run
        query = sa.select(run, name, sa.func.count()).where(run.in_(dead), is_it)
        for number, its, count in ledger.rows(query.group_by(run, name)):
            found[number][place][its] = count
    return found


def scopes(ledger: Ledger) -> list[str]:
    """Return the scopes of the ledger's streams: an origin, and a namespace if set."""
    query = sa.select(streams.c.scope).distinct().order_by("scope")
    return [row.scope for row in ledger.rows(query)]


def runs_since(ledger: Ledger, moment: datetime) -> list[sa.Row[Any]]:
    """Return the runs of the ledger's scope since a time, the oldest first."""
    query = sa.select(runs).filter_by(scope=ledger.scope).order_by(runs.c.run)
    return ledger.rows(query.where(runs.c.started_at >= timestamp(moment)))


def accepted_in(ledger: Ledger, run: int) -> list[sa.Row[Any]]:
    """Return the signals of a run that were accepted, in order."""
    return ledger.rows(sa.select(signals).filter_by(run=run).order_by("sequence"))


def pipeline_facts(ledger: Ledger, source: str) -> PipelineFacts:
    """Return the state of a pipeline: the ledger's namespace, and a default source."""
    its = (runs.c.scope == ledger.scope) & (runs.c.source == source)
    is_success = (runs.c.exit_code == 0) & runs.c.end_reason.is_(None)
    success = sa.select(sa.func.max(runs.c.ended_at)).where(its, is_success)
    start = sa.select(sa.func.min(runs.c.started_at)).where(its)
    newest = sa.func.coalesce(sa.func.max(dead_letters.c.id), 0)
    figures = sa.func.count(), sa.func.min(dead_letters.c.first_at), newest
    times = success.scalar_subquery(), start.scalar_subquery()
    (row,) = ledger.rows(in_scope(ledger.scope, dead_letters, *times, *figures))
    return PipelineFacts(*row)


def notified_state(ledger: Ledger, source: str) -> NotifiedState | None:
    """Return the state of a pipeline that people were notified of."""
    query = sa.select(pipelines.c.state, pipelines.c.newest_dead_letter)
    query = query.filter_by(scope=ledger.scope, source=source)
    return next((NotifiedState(*row) for row in ledger.rows(query)), None)


def run_before(ledger: Ledger, source: str) -> sa.Row[Any] | None:
    """Return the newest run of a pipeline before this one."""
    its = sa.select(runs).filter_by(scope=ledger.scope, source=source)
    query = its.where(runs.c.run != ledger.run)
    return next(iter(ledger.rows(query.order_by(runs.c.run.desc()).limit(1))), None)


def dead_letters_after(ledger: Ledger, number: int) -> int:
    """Return how many dead letters of the namespace have a higher id."""
    query = in_scope(ledger.scope, dead_letters, sa.func.count())
    return ledger.value(query.where(dead_letters.c.id > number)) or 0


def count_dead_letters(ledger: Ledger, run: int) -> int:
    """Return how many dead letters of a run are left; none if a run made none."""
    begun = sa.select(runs.c.started_at).filter_by(run=run).scalar_subquery()
    query = in_scope(ledger.scope, dead_letters, sa.func.count())
    return ledger.value(query.where(dead_letters.c.last_at >= begun)) or 0


def mappings_of(ledger: Ledger, stream: int) -> dict[str, KnownMapping]:
    """Return the mappings that have read a stream, by name."""
    rows = ledger.rows(sa.select(mappings).filter_by(stream=stream))
    return {row.mapping: KnownMapping(row.source, row.identity) for row in rows}


def layouts_of(ledger: Ledger) -> set[tuple[str, frozenset[str], frozenset[str]]]:
    """Return name, key and columns of all streams that mappings have read."""
    asked = streams.c.name, mappings.c.identity, streams.c.schema
    found = set()
    for name, identity, message in ledger.rows(
        in_scope(ledger.scope, mappings, *asked)
    ):
        key = json.loads(identity)
        columns = json.loads(message or "{}").get("schema", {}).get("properties", {})
        is_keyless = key[:1] == ["*"]
        found.add((name, frozenset(key * (not is_keyless)), frozenset(columns)))
    return found


def keys_of(ledger: Ledger, stream: str) -> set[frozenset[str]]:
    """Return the columns of the keys of a stream: of its mappings, else its SCHEMA."""
    if found := {key for name, key, _ in layouts_of(ledger) if name == stream}:
        return found
    query = sa.select(streams.c.schema).filter_by(scope=ledger.scope, name=stream)
    message = json.loads(ledger.value(query) or "{}")
    return {frozenset(message.get("key_properties") or ())}


def fired_checks(ledger: Ledger, stream: str) -> dict[str, bool]:
    """Return the checks that set a stream aside, and whether a person allows it."""
    query = sa.select(checks).filter_by(scope=ledger.scope, subject=stream)
    return {row.name: row.is_allowed for row in ledger.rows(query)}


def unfinished_in(fired: dict[str, bool]) -> set[str]:
    """Return the mappings whose baseline did not end, given the checks that fired."""
    began = {name for name, is_allowed in fired.items() if not is_allowed}
    return {n.removeprefix(UNFINISHED) for n in began if n.startswith(UNFINISHED)}


def has_unfinished(ledger: Ledger) -> bool:
    """Return whether the baseline of any stream did not end."""
    its = checks.c.name.startswith(UNFINISHED), ~checks.c.is_allowed
    query = sa.select(checks.c.subject).filter_by(scope=ledger.scope).where(*its)
    return bool(ledger.rows(query.limit(1)))


def entities_of(ledger: Ledger, stream: int) -> tuple[int, set[bool], bool, bool]:
    """Return how many entities of a stream are known, and whether their key is null.

    The set holds both if both are known. The third value is whether no run of the
    stream was complete; then the entities of this run are not known. The last value is
    whether nothing was ever settled or claimed, in any namespace.
    """
    complete = sa.select(streams.c.complete_run).where(streams.c.stream == stream)
    was_complete = complete.scalar_subquery().is_not(None)
    null_keys = sa.func.count(sa.case((latest.c.has_null_key, 1)))
    earlier = sa.func.count(sa.case((was_complete | (latest.c.run != ledger.run), 1)))
    has_entries = is_used(at_origin(ledger.scope))
    columns = sa.func.count(), earlier, null_keys, was_complete, has_entries
    its = (latest.c.stream == stream) & ~latest.c.is_shared
    [(count, known, nulls, had_whole, has_entries)] = ledger.rows(
        sa.select(*columns).where(its)
    )
    found = {is_null for is_null, n in ((True, nulls), (False, count - nulls)) if n}
    found |= {version.has_null_key for version in _left_over(ledger, stream)}
    return known, found, not had_whole, not has_entries


def _left_over(ledger: Ledger, stream: int) -> list[Version]:
    """Return the versions of a stream whose signals earlier runs may have sent."""
    versions = [claim.version for claim in ledger.left_over]
    return [version for version in versions if version.stream == stream]


def records_like(
    ledger: Ledger, digests: Collection[bytes | None], stream: str = ""
) -> list[tuple[Key, bytes, str, str | None]]:
    """Return key, digest, stream and bookmark value of records that were sent before.

    The digests are those of sources, and of a stream also those of contents. Records
    that earlier runs may have sent come last.
    """
    of = latest.c
    both = of.source_digest, of.content_digest
    columns = of.entity, of.mapping, *both, streams.c.name, of.bookmark_value
    query = in_scope(ledger.scope, latest, *columns).where(of.run != ledger.run)
    is_its = streams.c.name == stream
    rows = [
        ((entity, mapping), {source, content}, name, value)
        for block in blocks(digests)
        for entity, mapping, source, content, name, value in ledger.rows(
            query.where(both[0].in_(block) | (is_its & both[1].in_(block)))
        )
    ]
    for claim in ledger.left_over:
        its = claim.version
        known = {its.source_digest, its.content_digest}
        rows.append((its.key, known, claim.stream_name, its.bookmark_value))
    return [
        (key, digest, name, value)
        for key, known, name, value in rows
        for digest in known.intersection(digests)
        if digest is not None
    ]


def namespaces_with(
    ledger: Ledger,
    stream: str,
    sources: Collection[bytes | None],
    *,
    mappings: Collection[str],
    api_key: bytes,
) -> dict[bytes, str]:
    """Return source digest -> another namespace that sent a record of a stream.

    It used one of the mappings, because others send other signals, and the API key with
    this digest. Another key may be of another workspace.
    """
    with_key = sa.select(api_keys.c.scope).where(api_keys.c.api_key == api_key)
    its = sa.select(streams.c.stream, streams.c.scope).where(
        at_origin(ledger.scope),
        streams.c.scope != ledger.scope,
        streams.c.scope.in_(with_key),
        streams.c.name == stream,
    )
    namespaces = {number: scope.partition(" ")[2] for number, scope in ledger.rows(its)}
    if not namespaces:
        return {}  # without a look at all records
    query = sa.select(latest.c.source_digest, latest.c.stream)
    query = query.where(latest.c.stream.in_(namespaces), latest.c.mapping.in_(mappings))
    query = query.where(latest.c.source_digest.in_(sources))
    return {source: namespaces[number] for source, number in ledger.rows(query)}


def known_contents(
    ledger: Ledger, stream: int, sample: Collection[bytes]
) -> set[bytes]:
    """Return the contents and people of a sample that earlier runs of a stream sent."""
    found: set[bytes] = set()
    person = sa.func.coalesce(latest.c.email, latest.c.domain)
    for column in (latest.c.content_digest, person):
        query = sa.select(column).where(latest.c.stream == stream, column.in_(sample))
        rows = ledger.rows(query.where(latest.c.run != ledger.run))
        found |= {digest for (digest,) in rows}
    for left in _left_over(ledger, stream):
        found |= {left.content_digest or b"", left.email or left.domain or b""}
    return found.intersection(sample)


def schema_of(ledger: Ledger, stream: int) -> dict[str, Any]:
    """Return the last SCHEMA message of a stream."""
    query = sa.select(streams.c.schema).where(streams.c.stream == stream)
    found: dict[str, Any] = json.loads(ledger.value(query) or "{}")
    return found


def knows_key(ledger: Ledger, digest: bytes) -> bool:
    """Return whether an API key was used with this ledger."""
    query = sa.select(api_keys.c.api_key).filter_by(scope=ledger.scope, api_key=digest)
    return ledger.value(query) is not None


def newest_signals(ledger: Ledger) -> list[str]:
    """Return the ids of the three newest signals, also of a pruned log; reads all."""
    for table, order in ((signals, signals.c.accepted_at), (settled, settled.c.run)):
        ids = in_scope(ledger.scope, table, table.c.signal_id)
        query = ids.where(table.c.signal_id.is_not(None))
        if rows := ledger.rows(query.order_by(order.desc()).limit(3)):
            return [row.signal_id for row in rows]
    return []


def sources_of_others(ledger: Ledger) -> set[str]:
    """Return the sources that other producers send as well."""
    query = sa.select(sources).filter_by(scope=ledger.scope)
    return {row.source for row in ledger.rows(query)}


class FoundSignal(msgspec.Struct, frozen=True, gc=False):
    """A signal of the ledger; `claimed` while it is in flight.

    Attributes:
        key: The values of the record's key as a JSON array, or its digest.
        at: When it was accepted or last tried.
    """

    at: str
    stream: str
    key: str | None
    type: str | None
    outcome: str
    run: int | None
    signal_id: str | None


def find(
    ledger: Ledger, address: str | None, keys: Collection[str]
) -> list[FoundSignal]:
    """Return the signals of the ledger about a person or a record, the oldest first.

    `address` is in lower case; None for any person. `keys` has each form that the key
    may have in the ledger; empty for any record.
    """
    email, found = person_digest(ledger.secret, address), []
    times = {signals: "accepted_at", claims: "attempted_at", dead_letters: "last_at"}
    outcomes = {signals: Outcome.ACCEPTED, claims: "claimed"}
    for table, time in times.items():
        query = in_scope(ledger.scope, table, table, streams.c.name)
        if keys:
            query = query.where(table.c.key_values.in_(keys))
        if email is not None and table is not dead_letters:
            query = query.where(table.c.email == email)
        for row in ledger.rows(query):
            values = {"signal": None, **row._asdict()}
            sent = msgspec.json.decode(values["signal"] or b"{}")
            to = str(sent.get("contact", {}).get("email")).lower()
            if table is dead_letters and address not in {None, to}:
                continue
            found.append(
                FoundSignal(
                    at=values[time].lstrip(OWN_CLOCK),
                    stream=row.name,
                    key=row.key_values,
                    type=values.get("type") or sent.get("type"),
                    outcome=outcomes.get(table) or row.outcome,
                    run=values.get("run"),
                    signal_id=values.get("signal_id"),
                )
            )
    return sorted(found, key=lambda signal: signal.at)


def accepted_since(ledger: Ledger, since: str) -> dict[str, str]:
    """Return id -> time of acceptance, of the signals since a time."""
    columns = signals.c.signal_id, signals.c.accepted_at
    is_it = signals.c.signal_id.is_not(None) & (signals.c.accepted_at >= since)
    rows = ledger.rows(in_scope(ledger.scope, signals, *columns).where(is_it))
    return {row.signal_id: row.accepted_at for row in rows}


def sent_pairs(ledger: Ledger) -> set[tuple[str, str]]:
    """Return source and type of all signals that were accepted."""
    pair = signals.c.source, signals.c.type
    rows = ledger.rows(in_scope(ledger.scope, signals, *pair).distinct())
    return {(row.source, row.type) for row in rows}


# The sync log of all scopes, for tap-stairoids-signals

_LOGS = {"signals": signals, "runs": runs, "dead_letters": dead_letters}


def log_after(ledger: Ledger, name: str, after: int, limit: int) -> list[sa.Row[Any]]:
    """Return the rows of a log after a sequence, or after the id of a dead letter."""
    table = _LOGS[name]
    number = dead_letters.c.id if table is dead_letters else table.c.sequence
    query = sa.select(table).where(number > after).order_by(number).limit(limit)
    if table is not runs:
        of_stream = streams.c.stream == table.c.stream
        query = query.join(streams, of_stream).add_columns(
            streams.c.scope, streams.c.name
        )
    return ledger.rows(query)


def log_has(ledger: Ledger, name: str, sequence: int, time: str) -> bool:
    """Return whether a log has the row of a bookmark, which may have changed since."""
    table = _LOGS[name]
    at = runs.c.started_at if table is runs else signals.c.accepted_at
    is_it = (table.c.sequence >= sequence) & (at == time)
    return ledger.value(sa.select(table.c.sequence).where(is_it)) is not None
