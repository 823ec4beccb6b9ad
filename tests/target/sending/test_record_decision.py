"""The decision on a record: one row for each outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from target_stairoids.dedup.record import RecordReader
from target_stairoids.dedup.rules import (
    Latest,
    Outcome,
    Policy,
    Settled,
    Version,
    latest_after,
)
from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.sending.record_decision import (
    DEAD_LETTER_FIELD,
    Checks,
    Decision,
    Facts,
    MappedRecord,
    decide,
    mapped_records,
    only_replaces_latest,
)
from target_stairoids.sending.streams import Stream
from target_stairoids.settings import Settings

SCOPE = "https://api.stairoids.com"
ROW = {"id": 1, "email": "jo@acme.com", "plan": "pro", "at": 2}
TOUCHED = {**ROW, "at": 3}
CHANGED = {**TOUCHED, "plan": "free"}
OLDER = {**ROW, "plan": "free", "at": 1}
NO_CHECKS = Checks(None, is_dry_run=False)
DRY_RUN = Checks(None, is_dry_run=True)
WEEK = Checks(7, is_dry_run=False)
DEAD_LETTER = {**ROW, DEAD_LETTER_FIELD: "7 trials"}
ALWAYS = {"send": "always"}
IGNORING = {"ignore_changes": ["plan"]}
DELETED = {**ROW, "_sdc_deleted_at": "2026-01-01T00:00:00Z"}


def a_stream(item: dict[str, Any], *, is_baseline: bool = False) -> Stream:
    config = {"api_key": "sk_test", "signals": [{"stream": "trials", **item}]}
    schema = StreamSchema(
        name="trials",
        properties={name: {} for name in (*ROW, "_sdc_deleted_at")},
        key_properties=("id",),
        bookmark="at",
    )
    maps = mappings_for(schema, Settings.from_config(config).signals, "test")
    return Stream(
        schema=schema,
        maps=maps,
        number=1,
        is_baseline=is_baseline,
        reader=RecordReader([mapping.key for mapping in maps], ["id", "at"]),
        keys=frozenset({"id"}),
        complete_run=0,
    )


def mapped(row: dict[str, Any], stream: Stream) -> MappedRecord:
    """Return a row under the stream's mapping, as the input reads it."""
    has_sdc = any(name.startswith("_sdc_") for name in row)
    sent = row if has_sdc else msgspec.Raw(json.dumps(row).encode())
    (found,) = mapped_records(stream, stream.reader.read(sent), SCOPE)
    return found


def decided(case: Case) -> Decision:
    stream = a_stream(case.item, is_baseline=case.is_baseline)
    policy = Policy(stream.maps[0].send, 0)
    facts = Facts(case.settled, case.latest, policy, case.is_queued, case.is_superseded)
    record = mapped(case.row, stream)
    record.is_suppressed = case.is_suppressed
    return decide(record, facts, case.checks)


@dataclass
class Case:
    """A row with its mapping, and the state of ledger and queue."""

    row: dict[str, Any] = field(default_factory=lambda: ROW)
    item: dict[str, Any] = field(default_factory=dict)
    checks: Checks = NO_CHECKS
    latest: Latest | None = None
    settled: Settled | None = None
    is_baseline: bool = False
    is_queued: bool = False
    is_superseded: bool = False
    is_suppressed: bool = False


def version_of(row: dict[str, Any], item: dict[str, Any] | None = None) -> Version:
    """Return a row's version with its content."""
    version = decided(Case(row, item or {})).version
    assert version is not None
    return version


def latest_of(version: Version) -> Latest:
    """Return the latest version of an entity after a version was accepted."""
    latest = latest_after(None, version, Outcome.ACCEPTED)
    assert latest is not None
    return latest


SENT = version_of(ROW)
LATEST = latest_of(SENT)
LATEST_ALWAYS = latest_of(version_of(ROW, ALWAYS))
LATEST_IGNORING = latest_of(version_of(ROW, IGNORING))
ACCEPTED = Settled("accepted", 1, SENT.mapping_digest)
REJECTED = Settled("rejected", 1, SENT.mapping_digest)
NEVER_SENT = replace(LATEST, content_digest=None, done=False)

PENDING, WOULD_SEND = Outcome.PENDING, Outcome.WOULD_SEND
DUPLICATE, UNCHANGED = Outcome.DUPLICATE, Outcome.UNCHANGED
FILTERED, INVALID = Outcome.FILTERED, Outcome.INVALID

CASES = {
    "new": (Case(), PENDING, ""),
    "changed": (Case(CHANGED, latest=LATEST), PENDING, ""),
    "older than the latest": (Case(OLDER, latest=LATEST), DUPLICATE, ""),
    "sent before": (Case(latest=LATEST, settled=ACCEPTED), DUPLICATE, ""),
    "sent before, but queued": (
        Case(latest=LATEST, settled=ACCEPTED, is_queued=True), PENDING, ""),
    "rejected before": (
        Case(latest=NEVER_SENT, settled=REJECTED), DUPLICATE, "was rejected before"),
    "only the bookmark is new": (Case(TOUCHED, latest=LATEST), UNCHANGED, ""),
    "only the bookmark is new, with send always": (
        Case(TOUCHED, ALWAYS, latest=LATEST_ALWAYS), PENDING, ""),
    "changed, but send once": (
        Case(CHANGED, {"send": "once"}, latest=LATEST), DUPLICATE, ""),
    "only an ignored column changed": (
        Case(CHANGED, IGNORING, latest=LATEST_IGNORING), UNCHANGED, ""),
    "the content is the same": (
        Case(CHANGED, IGNORING, latest=replace(LATEST_IGNORING, source_digest=None)),
        UNCHANGED, ""),
    "baseline": (Case(is_baseline=True), Outcome.BASELINED, ""),
    "too old": (
        Case(item={"occurred_at": "2020-01-01T00:00:00Z"}, checks=WEEK),
        Outcome.TOO_OLD, ""),
    "young enough": (
        Case(item={"occurred_at": "2098-01-01T00:00:00Z"}, checks=WEEK), PENDING, ""),
    "suppressed": (Case(is_suppressed=True), FILTERED, "suppressed"),
    "suppressed, but sent before": (
        Case(latest=LATEST, settled=ACCEPTED, is_suppressed=True), FILTERED,
        "suppressed"),
    "excluded by when, but sent before": (
        Case(item={"when": "plan == 'free'"}, latest=LATEST, settled=ACCEPTED),
        FILTERED, "by `when`"),
    "excluded by when": (
        Case(item={"when": "plan == 'free'"}), FILTERED, "by `when`"),
    "left out": (Case(item={"type": None}), FILTERED, "its stream is left out"),
    "deleted": (Case(DELETED), FILTERED, "deleted at its source"),
    "deleted, and the mapping reads it": (
        Case(DELETED, {"properties": {"gone": "{{ _sdc_deleted_at }}"}}), PENDING, ""),
    "invalid": (
        Case({**ROW, "email": None}), INVALID,
        "neither account.domain nor contact.email is known"),
    "dry run, new": (Case(checks=DRY_RUN), WOULD_SEND, ""),
    "dry run, changed": (
        Case(CHANGED, checks=DRY_RUN, latest=LATEST),
        WOULD_SEND, "its content changed"),
    "dry run, rejected under an earlier mapping": (
        Case(checks=DRY_RUN, latest=NEVER_SENT,
             settled=Settled("rejected", 1, b"earlier")),
        WOULD_SEND, "was rejected before"),
    "dead letter": (
        Case(DEAD_LETTER, latest=NEVER_SENT, settled=REJECTED), PENDING, ""),
}  # fmt: skip


@pytest.mark.parametrize(("case", "outcome", "reason"), CASES.values(), ids=CASES)
def test_decision_on_a_record(case: Case, outcome: Outcome, reason: str) -> None:
    decision = decided(case)

    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert not decision.discards
    is_sent = outcome in {PENDING, WOULD_SEND}
    assert (decision.signal is not None) is is_sent
    assert bool(decision.text) is is_sent


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (
            Case(DEAD_LETTER, latest=LATEST, is_superseded=True),
            DUPLICATE,
            "a newer version was sent since",
        ),
        (Case(DEAD_LETTER, latest=LATEST, settled=REJECTED), UNCHANGED, ""),
    ],
    ids=["superseded", "same content was sent since"],
)
def test_replay_discards_a_dead_letter_that_is_no_longer_needed(
    case: Case, outcome: Outcome, reason: str
) -> None:
    decision = decided(case)

    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert decision.discards


def test_signal_has_the_text_and_the_content_of_its_record() -> None:
    decision = decided(Case())

    assert json.loads(decision.text) == {
        "type": "trials",
        "source": "test",
        "account": {"domain": "acme.com"},
        "contact": {"email": "jo@acme.com"},
        "properties": {"id": 1, "plan": "pro", "at": 2},
    }
    assert decision.version == SENT
    assert SENT.content_digest == version_of(TOUCHED).content_digest
    assert SENT.content_digest != version_of(CHANGED).content_digest


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case(TOUCHED, latest=LATEST), True),
        (Case(ROW, latest=LATEST), True),
        (Case({**ROW, "_sdc_batched_at": "x"}, latest=LATEST), False),
        (Case(CHANGED, latest=LATEST), False),
        (Case(OLDER, latest=LATEST), False),
        (Case(TOUCHED, latest=NEVER_SENT), False),
        (Case(TOUCHED), False),
        (Case(TOUCHED, latest=LATEST, checks=WEEK), False),
        (Case(TOUCHED, latest=LATEST, is_baseline=True), False),
    ],
    ids=[
        "only the bookmark is new",
        "the same state in another spelling",
        "the same state without a text",
        "changed",
        "older",
        "nothing was sent",
        "new",
        "its age must be checked",
        "baseline",
    ],
)
def test_record_only_replaces_the_latest_version(case: Case, *, expected: bool) -> None:
    record = mapped(case.row, a_stream({}, is_baseline=case.is_baseline))

    assert only_replaces_latest(record, case.latest, case.checks) is expected
