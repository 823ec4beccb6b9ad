"""Checks that hold signals back, end to end: limits, suppression, bulk changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault
from target_stairoids.checks import bulk_change
from target_stairoids.checks.bulk_change import BulkChangeCheck
from target_stairoids.checks.circuit_breaker import CircuitBreaker
from target_stairoids.checks.suppression import SuppressionList
from target_stairoids.mapping.signal import Signal
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Run


@pytest.mark.parametrize(
    ("entry", "is_suppressed"),
    [
        ("acme.example", True),
        ("eu.acme.example", True),
        ("me.example", False),
        ("x.eu.acme.example", False),
        ("ANN@eu.Acme.example", True),
        ("bob@eu.acme.example", False),
        ("*@*.acme.*", True),
        ("eu.acme.*", True),
        ("acme.*", False),
        ("company.example", True),
        ("  ", False),
    ],
)
def test_suppression_matches_email_and_domains(
    entry: str, *, is_suppressed: bool
) -> None:
    signal = Signal(
        type="trial",
        source="test",
        account={"domain": "company.example"},
        contact={"email": "Ann@eu.acme.example"},
        properties={},
        occurred_at=None,
    )

    assert SuppressionList([entry]).hides(signal) is is_suppressed


def test_suppressed_person_gets_no_signal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    records = [a_record(1), a_record(2)]

    run = target.run(a_schema(), *records, suppress=["u1@example.com"])

    assert run.outcomes == {"accepted": 1, "filtered": 1}
    assert [s.body["contact"]["email"] for s in sandbox.signals] == ["u2@example.com"]


def test_suppression_file_must_be_readable(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    path = tmp_path / "never.txt"
    path.write_text("example.com  # our own\n\n")

    suppressed = target.run(a_schema(), a_record(), suppress_path=str(path))
    missing = target.run(a_schema(), a_record(), suppress_path=str(tmp_path / "no"))

    assert suppressed.outcomes == {"filtered": 1}
    assert missing.exit_code == 1
    assert "`suppress_path` cannot be read: No such file" in missing.error


def test_events_older_than_max_event_age_days_are_not_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    now = datetime.now(UTC)
    schema = a_schema(occurred_at="string")
    records = [
        a_record(1, occurred_at=(now - timedelta(days=8)).isoformat()),
        a_record(2, occurred_at=(now - timedelta(days=6)).isoformat()),
    ]

    first = target.run(schema, *records, max_event_age_days=7)
    second = target.run(schema, *records)

    assert first.outcomes == {"too_old": 1, "accepted": 1}
    assert second.outcomes == {"duplicate": 2}
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    ("changes", "known", "stops"),
    [
        (1_000, 1_000, False),
        (1_001, 1_000, True),
        (1_001, 5_004, True),
        (1_001, 5_005, False),
        (5_000, 0, False),
    ],
)
def test_bulk_change_is_over_1000_and_over_a_fifth_of_the_known_entities(
    changes: int, known: int, *, stops: bool
) -> None:
    check = BulkChangeCheck()

    reasons = [check.changed("trials", known=known) for _ in range(changes)]

    assert (reasons[-1] is not None) is stops
    assert not any(reasons[:-1])


@pytest.fixture
def small_bulk_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let over 100 changed entities be a bulk change, instead of over 1,000."""
    monkeypatch.setattr(bulk_change, "_MOST", 100)


@pytest.mark.usefixtures("small_bulk_changes")
def test_bulk_change_of_a_known_stream_stops_before_it_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string")
    before = [a_record(n, plan="a") for n in range(1, 152)]
    after = [a_record(n, plan="b") for n in range(1, 152)]
    target.run(schema, *before, first_run="baseline")

    stopped = target.run(schema, *after, a_state(), requests_per_minute=1)

    assert stopped.exit_code == 75
    assert "`allow_surge`" in stopped.error
    assert stopped.states == []
    assert len(sandbox.signals) <= 1


def test_identity_change_by_a_new_mapping_name_is_refused(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    def run(*, allow_surge: bool = False, **item: str) -> Run:
        signals = [{"stream": "trials", "send": "once", **item}]
        return target.run(
            a_schema(), a_record(1), signals=signals, allow_surge=allow_surge
        )

    run(type="product_trial_started")
    typo = run(type="product_trail_started")
    renamed = run(type="trial_began", name="product_trial_started")
    intended = run(type="trial_began", allow_surge=True)
    after = run(type="trial_began")

    assert typo.exit_code == 1
    assert "was sent as `product_trial_started`, which is in no map" in typo.error
    assert "`product_trail_started` is new and would send" in typo.error
    assert "add `name: product_trial_started`" in typo.error
    assert renamed.outcomes == {"duplicate": 1}
    assert intended.outcomes == {"accepted": 1}
    assert after.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 2


def test_mapping_may_be_renamed_if_all_its_signals_were_rejected(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="status", status=422, count=1)])
    target.run(a_schema(), a_record(1), signals=[{"stream": "trials", "type": "no"}])

    run = target.run(
        a_schema(), a_record(1), signals=[{"stream": "trials", "type": "yes"}]
    )

    assert run.outcomes == {"accepted": 1}


def test_second_mapping_of_a_stream_is_not_a_rename(target: TargetUnderTest) -> None:
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    target.run(a_schema(), a_record(1), signals=[one])

    run = target.run(a_schema(), a_record(1), signals=[one, two])

    assert run.outcomes == {"duplicate": 1, "accepted": 1}


@pytest.mark.usefixtures("small_bulk_changes")
def test_bulk_change_counts_touched_rows_as_known(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """110 of 1,200 rows have changed. The others have only a new bookmark."""
    schema = a_schema(plan="string", at="integer", bookmark="at")
    before = [a_record(n, plan="a", at=1) for n in range(1_200)]
    touched = [a_record(n, plan="a", at=2) for n in range(1_090)]
    changed = [a_record(n, plan="b", at=2) for n in range(1_090, 1_200)]
    target.run(schema, *before, first_run="baseline")

    run = target.run(schema, *touched, *changed, max_in_flight=16)

    assert run.exit_code == 0
    assert run.outcomes == {"accepted": 110, "unchanged": 1_090}
    assert len(sandbox.signals) == 110


@pytest.mark.usefixtures("small_bulk_changes")
def test_new_stream_is_not_a_bulk_change(target: TargetUnderTest) -> None:
    records = [a_record(n) for n in range(1, 103)]

    run = target.run(a_schema(), *records, dry_run=True)

    assert run.outcomes == {"would_send": 102}


def test_wrong_mapping_trips_the_circuit_breaker_and_loses_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    messages = [a_schema(), *(a_record(n) for n in range(1, 101)), a_state()]

    tripped = target.run(*messages)
    refused = len(sandbox.requests)
    sandbox.faults.set([])
    fixed = target.run(*messages)

    assert tripped.exit_code == 1
    assert "its mapping must be wrong" in tripped.error
    assert tripped.outcomes == {"pending": 100}
    assert tripped.states == []
    assert 25 <= refused <= 33
    assert fixed.outcomes == {"accepted": 100}


def test_excluded_domains_do_not_trip_the_circuit_breaker(
    target: TargetUnderTest,
) -> None:
    mapping = {"stream": "trials", "account": {"domain": "excluded.example"}}
    records = [a_record(n) for n in range(1, 31)]

    run = target.run(a_schema(), *records, signals=[mapping])

    assert (run.exit_code, run.outcomes) == (0, {"rejected": 30})


def test_circuit_breaker_keeps_few_rejections_until_the_end(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=3))

    run = target.run(a_schema(), *(a_record(n) for n in range(1, 4)), a_state())

    assert run.outcomes == {"rejected": 3}
    assert run.states == [{"at": 1}]


def test_circuit_breaker_lets_the_next_version_of_a_rejected_record_go(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    schema = a_schema(plan="string")

    run = target.run(schema, a_record(plan="a"), a_record(plan="b"), a_state())
    again = target.run(schema, a_record(plan="a"), a_record(plan="b"), a_state())

    assert (run.exit_code, run.outcomes) == (0, {"rejected": 1, "accepted": 1})
    assert run.states == [{"at": 1}]
    assert again.outcomes == {"duplicate": 2}
    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["b"]


def test_circuit_breaker_trips_at_nine_tenths_of_the_last_200() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    trips = []
    for number in range(200):
        if number % 10 == 0:
            breaker.accepted("s")
        elif breaker.rejected("s", number):
            trips.append(number)

    assert trips == [199]
    assert breaker.release() == list(range(191, 200))


def test_requests_per_day_counts_all_runs(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 11)), a_state()]

    first = target.run(*messages, requests_per_day=4)
    second = target.run(*messages, requests_per_day=4)
    third = target.run(*messages, requests_per_day=100)

    assert (first.exit_code, first.outcomes) == (75, {"accepted": 4, "pending": 6})
    assert (second.exit_code, second.outcomes) == (75, {"duplicate": 4, "pending": 6})
    assert "`requests_per_day`" in second.error
    assert third.outcomes == {"duplicate": 4, "accepted": 6}
    assert len(sandbox.signals) == 10


def test_requests_per_day_counts_the_first_run_check(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    run = target.run(
        a_schema(), a_record(), a_state(), first_run="guard", requests_per_day=1
    )

    assert (run.exit_code, run.outcomes) == (75, {"pending": 1})
    assert [request.method for request in sandbox.requests] == ["GET"]


def test_run_with_dead_letters_fails_if_asked(target: TargetUnderTest) -> None:
    messages = [a_schema(), a_record(1), a_record(2, email=None), a_state()]

    run = target.run(*messages, fail_on_dead_letters=True)

    assert run.exit_code == 1
    assert "1 dead letter in this run" in run.error
    assert run.outcomes == {"accepted": 1, "invalid": 1}
    assert run.states == [{"at": 1}]


def test_records_are_not_kept_with_keep_records_false(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1, email="canary"), keep_records=False)

    ledger = (target.folder / "ledger.db").read_bytes()
    wal = target.folder / "ledger.db-wal"
    assert b"canary" not in ledger + (wal.read_bytes() if wal.exists() else b"")


def test_requests_per_day_ends_the_run_while_a_signal_waits_for_a_retry(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500, count=1))

    run = target.run(a_schema(), a_record(), a_state(), requests_per_day=1)

    assert (run.exit_code, run.outcomes) == (75, {"pending": 1})
    assert run.states == []


def test_complete_run_of_another_stream_does_not_resend_a_replay(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    trials = [
        a_schema(plan="string"),
        a_record(1, plan="a"),
        a_record(1, plan="b"),
        *(a_record(n, plan="a") for n in (2, 3)),
    ]

    first = target.run(*trials, max_signals_per_run=3)
    target.run(a_schema("leads"), a_record(9, stream="leads"))
    replay = target.run(*trials)

    assert first.exit_code == 75
    assert replay.outcomes == {"duplicate": 3, "accepted": 1}
    assert len(sandbox.signals) == 5


def test_rejections_are_settled_if_max_signals_per_run_ends_the_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    records = [a_record(n) for n in range(1, 5)]

    run = target.run(a_schema(), *records, a_state(), max_signals_per_run=2)

    assert run.exit_code == 75
    assert run.outcomes == {"rejected": 2, "pending": 2}
    assert run.states == []


def test_change_back_after_a_signal_that_was_too_old_is_sent(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    """A, then B that is too old, then A again."""
    schema = a_schema(plan="string", at="string")
    mapping = {"stream": "trials", "occurred_at": "{{ at }}"}
    now = datetime.now(UTC).isoformat()
    first = a_record(plan="a", at=now)
    old = a_record(plan="b", at="2020-01-01T00:00:00Z")
    settings = {"signals": [mapping], "max_event_age_days": 7}

    target.run(schema, first, **settings)
    again = target.run(schema, old, first, **settings)

    assert again.outcomes == {"too_old": 1, "accepted": 1}
    assert len(sandbox.signals) == 2


def test_stream_without_a_mapping_is_not_sent_if_a_mapping_matches_no_stream(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "people", "type": "signed_up"}]
    logs = {"type": "SCHEMA", "stream": "logs", "schema": {"properties": {"a": {}}}}
    messages = [logs | {"key_properties": []}, a_schema("contacts")]
    messages.append(a_record(1, "contacts"))

    stopped = target.run(*messages, signals=signals)
    intended = target.run(*messages, signals=[*signals, {"stream": "*"}])

    assert stopped.exit_code == 1
    assert "Stream `contacts` has no mapping in `signals`" in stopped.error
    assert intended.outcomes == {"accepted": 1}
    assert [s.body["type"] for s in sandbox.signals] == ["contacts"]
