"""The guards: what holds signals back on purpose, end to end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault
from target_stairoids.checks.circuit_breaker import CircuitBreaker
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Run


@pytest.mark.parametrize(
    ("entry", "email", "is_sent"),
    [
        ("acme.example", "ann@acme.example", False),
        ("acme.example", "ann@eu.acme.example", False),
        ("acme.example", "ann@notacme.example", True),
        ("Ann@Acme.example", "ann@acme.example", False),
        ("ann@acme.example", "bob@acme.example", True),
        ("*@acme.*", "ann@acme.example", False),
        ("acme.*", "ann@acme.example", False),
        ("  ", "ann@acme.example", True),
    ],
)
def test_suppressed_people_get_nothing(
    sandbox: Sandbox, target: TargetUnderTest, entry: str, email: str, *, is_sent: bool
) -> None:
    run = target.run(a_schema(), a_record(email=email), suppress=[entry])

    assert run.outcomes == ({"accepted": 1} if is_sent else {"filtered": 1})
    assert len(sandbox.signals) == is_sent


def test_suppression_file_counts_too_and_must_be_readable(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    path = tmp_path / "never.txt"
    path.write_text("example.com  # our own\n\n")

    hidden = target.run(a_schema(), a_record(), suppress_path=str(path))
    missing = target.run(a_schema(), a_record(), suppress_path=str(tmp_path / "no"))

    assert hidden.outcomes == {"filtered": 1}
    assert missing.exit_code == 1
    assert "`suppress_path` cannot be read: No such file" in missing.error


def test_old_events_count_as_seen(sandbox: Sandbox, target: TargetUnderTest) -> None:
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


def test_surge_of_a_known_stream_stops_before_it_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string")
    before = [a_record(n, plan="a") for n in range(1, 1502)]
    after = [a_record(n, plan="b") for n in range(1, 1502)]
    target.run(schema, *before, first_run="baseline")

    stopped = target.run(schema, *after, a_state(), requests_per_minute=1)

    assert stopped.exit_code == 75
    assert "`allow_surge`" in stopped.error
    assert stopped.states == []
    assert len(sandbox.signals) <= 1


def test_mapping_under_a_new_name_does_not_send_a_stream_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    def run(*, allow_surge: bool = False, **item: str) -> Run:
        signals = [{"stream": "trials", "send": "once", **item}]
        return target.run(
            a_schema(), a_record(1), signals=signals, allow_surge=allow_surge
        )

    run(type="product_trial_started")
    misspelt = run(type="product_trail_started")
    renamed = run(type="trial_began", name="product_trial_started")
    meant = run(type="trial_began", allow_surge=True)
    after = run(type="trial_began")

    assert misspelt.exit_code == 1
    assert "was sent as `product_trial_started`, which is in no map" in misspelt.error
    assert "`product_trail_started` is new and would send" in misspelt.error
    assert "add `name: product_trial_started`" in misspelt.error
    assert renamed.outcomes == {"duplicate": 1}
    assert meant.outcomes == {"accepted": 1}
    assert after.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 2


def test_mapping_that_only_was_rejected_may_be_renamed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="status", status=422, count=1)])
    target.run(a_schema(), a_record(1), signals=[{"stream": "trials", "type": "no"}])

    run = target.run(
        a_schema(), a_record(1), signals=[{"stream": "trials", "type": "yes"}]
    )

    assert run.outcomes == {"accepted": 1}


def test_second_mapping_of_a_stream_is_no_new_name(target: TargetUnderTest) -> None:
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    target.run(a_schema(), a_record(1), signals=[one])

    run = target.run(a_schema(), a_record(1), signals=[one, two])

    assert run.outcomes == {"duplicate": 1, "accepted": 1}


def test_rows_that_were_touched_before_are_known_all_the_same(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """1,100 of 12,000 have changed; that the others were written again is no surge."""
    schema = a_schema(plan="string", at="integer", bookmark="at")
    before = [a_record(n, plan="a", at=1) for n in range(12_000)]
    touched = [a_record(n, plan="a", at=2) for n in range(10_900)]
    changed = [a_record(n, plan="b", at=2) for n in range(10_900, 12_000)]
    target.run(schema, *before, first_run="baseline")

    run = target.run(schema, *touched, *changed, max_in_flight=16)

    assert run.exit_code == 0
    assert run.outcomes == {"accepted": 1_100, "unchanged": 10_900}
    assert len(sandbox.signals) == 1_100


def test_new_stream_is_no_surge(target: TargetUnderTest) -> None:
    records = [a_record(n) for n in range(1, 1102)]

    run = target.run(a_schema(), *records, dry_run=True)

    assert run.outcomes == {"would_send": 1101}


def test_wrong_mapping_trips_the_breaker_and_loses_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    messages = [a_schema(), *(a_record(n) for n in range(1, 101)), a_state()]

    tripped = target.run(*messages)
    refused = len(sandbox.requests)
    sandbox.faults.set([])
    mended = target.run(*messages)

    assert tripped.exit_code == 1
    assert "its mapping must be wrong" in tripped.error
    assert tripped.outcomes == {"pending": 100}
    assert tripped.states == []
    assert 25 <= refused <= 33
    assert mended.outcomes == {"accepted": 100}


def test_excluded_domains_do_not_trip_the_breaker(target: TargetUnderTest) -> None:
    mapping = {"stream": "trials", "account": {"domain": "excluded.example"}}
    records = [a_record(n) for n in range(1, 31)]

    run = target.run(a_schema(), *records, signals=[mapping])

    assert (run.exit_code, run.outcomes) == (0, {"rejected": 30})


def test_few_rejections_are_settled_at_the_end(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=3))

    run = target.run(a_schema(), *(a_record(n) for n in range(1, 4)), a_state())

    assert run.outcomes == {"rejected": 3}
    assert run.states == [{"at": 1}]


def test_rejection_that_is_held_back_lets_the_next_version_go(
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


def test_nine_in_ten_of_the_last_two_hundred_trip_the_breaker() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    trips = []
    for number in range(200):
        if number % 10 == 0:
            breaker.accepted("s")
        elif breaker.rejected("s", number):
            trips.append(number)

    assert trips == [199]
    assert breaker.release() == list(range(191, 200))


def test_day_has_so_many_requests_over_all_runs(
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


def test_guards_question_is_one_of_the_days_requests(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    run = target.run(
        a_schema(), a_record(), a_state(), first_run="guard", requests_per_day=1
    )

    assert (run.exit_code, run.outcomes) == (75, {"pending": 1})
    assert [request.method for request in sandbox.requests] == ["GET"]


def test_dead_letters_make_a_pipeline_red_on_request(target: TargetUnderTest) -> None:
    messages = [a_schema(), a_record(1), a_record(2, email=None), a_state()]

    run = target.run(*messages, fail_on_dead_letters=True)

    assert run.exit_code == 1
    assert "1 dead letter in this run" in run.error
    assert run.outcomes == {"accepted": 1, "invalid": 1}
    assert run.states == [{"at": 1}]


def test_records_are_not_kept_where_they_must_not_be(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1, email="canary"), keep_records=False)

    ledger = (target.folder / "ledger.db").read_bytes()
    wal = target.folder / "ledger.db-wal"
    assert b"canary" not in ledger + (wal.read_bytes() if wal.exists() else b"")


def test_day_that_ends_while_a_signal_waits_ends_the_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500, count=1))

    run = target.run(a_schema(), a_record(), a_state(), requests_per_day=1)

    assert (run.exit_code, run.outcomes) == (75, {"pending": 1})
    assert run.states == []


def test_other_pipelines_success_does_not_end_the_protection_of_a_replay(
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


def test_rejections_that_are_held_when_a_cap_ends_the_run_are_settled(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    records = [a_record(n) for n in range(1, 5)]

    run = target.run(a_schema(), *records, a_state(), max_signals_per_run=2)

    assert run.exit_code == 75
    assert run.outcomes == {"rejected": 2, "pending": 2}
    assert run.states == []


def test_what_was_settled_without_a_request_counts_before_it_is_written(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    """A, then B that is too old to be told, then A again: that is news."""
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


def test_stream_is_not_sent_in_place_of_the_one_a_mapping_means(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "people", "type": "signed_up"}]
    nobody = {"type": "SCHEMA", "stream": "logs", "schema": {"properties": {"a": {}}}}
    messages = [nobody | {"key_properties": []}, a_schema("contacts")]
    messages.append(a_record(1, "contacts"))

    stopped = target.run(*messages, signals=signals)
    meant = target.run(*messages, signals=[*signals, {"stream": "*"}])

    assert stopped.exit_code == 1
    assert "Stream `contacts` has no mapping in `signals`" in stopped.error
    assert meant.outcomes == {"accepted": 1}
    assert [s.body["type"] for s in sandbox.signals] == ["contacts"]
