"""Limits of age, of requests per day and of dead letters."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault, Sandbox
from tests.support.commands import signals, target_command
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("days", [9007199254740994.0, 10**30])
def test_age_limit_may_be_any_number(target: TargetUnderTest, days: float) -> None:
    schema, record = a_schema(occurred_at="string"), a_record(occurred_at="2025-01-01")

    run = target.run(schema, record, max_event_age_days=days)

    assert run.outcomes == {"accepted": 1}


def test_inferred_time_that_cannot_be_read_is_not_sent_under_an_age_limit(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [
        a_schema(event_time="string"),
        *(a_record(n, event_time=t) for n, t in enumerate(["5.11.25", "45292", ""])),
    ]

    limited = target.run(*messages, max_event_age_days=30)
    assert limited.outcomes == {"invalid": 2, "accepted": 1}
    assert [reason["reason"] for reason in limited.report["reasons"]] == [
        "occurred_at: cannot be read, and `max_event_age_days` needs it"
    ]
    assert "without `occurred_at`" not in caplog.text


def test_inferred_time_that_cannot_be_read_is_warned_about_once_with_the_count(
    sandbox: Sandbox, target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    times = ["5.11.25", "45292", "", "2025/11/05", "1899-12-30"]

    run = target.run(
        a_schema(event_time="string"),
        *(a_record(n, event_time=time) for n, time in enumerate(times)),
    )

    assert run.outcomes == {"accepted": 5}
    found = {
        s.body["properties"]["id"]: (
            s.body["properties"].get("event_time"),
            s.body.get("occurred_at"),
        )
        for s in sandbox.signals
    }
    assert found == {
        0: ("5.11.25", None),
        1: ("45292", None),
        2: (None, None),
        3: (None, "2025-11-05T00:00:00Z"),
        4: ("1899-12-30", None),
    }
    assert caplog.text.count("without `occurred_at`") == 1
    assert (
        "Stream `trials`: 3 signals are without `occurred_at`, because `event_time` "
        "holds no time that can be read."
    ) in caplog.text


def test_new_schema_does_not_forget_the_fields_of_records(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    properties = {"seats": "{{ seats }}"}
    target.config["signals"] = [{"stream": "trials", "properties": properties}]

    target.run(
        a_schema(seats="integer"),
        a_record(1, seats=3),
        a_schema(seats="integer", plan="string"),
        a_record(2, plan="pro"),
    )

    assert "no record had" not in caplog.text


def test_field_of_a_known_record_is_not_reported_as_absent(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    """A record that is known word for word is not looked at again."""
    item = {"stream": "trials", "properties": [{"p": "{{ user.plan }}"}]}
    with_plan = a_record(1, user={"plan": "pro"})
    messages = [a_schema(user="object"), with_plan, a_record(2, email=None)]

    target.run(*messages, signals=[item])
    run = target.run(*messages, signals=[item])

    assert run.outcomes == {"duplicate": 1, "invalid": 1}
    assert "no record had" not in caplog.text


def test_new_schema_loses_no_record_from_the_count(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "singer_sdk.metrics")
    target.run(
        a_schema(event_time="string"),
        a_record(1, event_time="5.11.25"),
        a_schema(event_time="string", plan="string"),
        a_record(2, event_time="5.11.25", plan="pro"),
    )

    assert "2 signals are without `occurred_at`" in caplog.text
    metrics = re.findall(r'"record_count","value":(\d+)', caplog.text)
    assert sum(map(int, metrics)) == 2


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


def test_requests_per_day_counts_all_namespaces(target: TargetUnderTest) -> None:
    one, other = [a_record(n) for n in range(1, 4)], [a_record(n) for n in range(4, 7)]

    target.run(a_schema(), *one, requests_per_day=4)
    run = target.run(a_schema(), *other, requests_per_day=4, namespace="another")

    assert (run.exit_code, run.outcomes) == (75, {"accepted": 1, "pending": 2})


def test_requests_per_day_counts_the_first_run_check(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    run = target.run(
        a_schema(), a_record(), a_state(), first_run="guard", requests_per_day=1
    )

    assert (run.exit_code, run.outcomes) == (75, {"pending": 1})
    assert [request.method for request in sandbox.requests] == ["GET"]


def test_requests_per_day_counts_the_look_at_the_workspace_of_a_new_key(
    tmp_path: Path,
) -> None:
    with Sandbox(keys={"old": "read_write", "new": "read_write"}) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)
        target.run(a_schema(), a_record(1), api_key="old", requests_per_day=1)
        spent, looked = [
            target.run(a_schema(), a_record(2), api_key="new", requests_per_day=limit)
            for limit in (1, 2)
        ]
        methods = [request.method for request in sandbox.requests]

    assert "no request (`requests_per_day` is reached)" in spent.error
    assert (spent.exit_code, looked.exit_code) == (75, 75)
    assert methods == ["POST", "GET"]


def test_run_with_dead_letters_fails_if_asked(target: TargetUnderTest) -> None:
    messages = [a_schema(), a_record(1), a_record(2, email=None), a_state()]

    run = target.run(*messages, fail_on_dead_letters=True)

    assert run.exit_code == 1
    assert "1 dead letter in this run" in run.error
    assert run.outcomes == {"accepted": 1, "invalid": 1}
    assert run.states == [{"at": 1}]


def test_run_fails_for_no_dead_letter_that_a_later_state_has_closed(
    target: TargetUnderTest,
) -> None:
    older = target.run(a_schema(), a_record(1, email=None))
    run = target.run(
        a_schema(), a_record(2, email=None), a_record(2), fail_on_dead_letters=True
    )

    assert older.outcomes == {"invalid": 1}
    assert (run.exit_code, run.error) == (0, "")
    assert run.outcomes == {"invalid": 1, "accepted": 1}


def test_summary_names_no_dead_letter_that_a_later_state_has_closed(
    target: TargetUnderTest,
) -> None:
    states = a_schema(), a_record(2, email=None), a_record(2)

    closed = target_command(target, text_of([*states]))
    report = signals(target, "report").stdout
    left = target_command(target, text_of([*states, a_record(3, email=None)]))

    assert "1 invalid" in closed.stderr
    assert "See which, and why" not in closed.stderr
    assert " completed.\n" in report
    assert "See which, and why" in left.stderr


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


def test_change_back_after_a_signal_that_was_too_old_is_sent(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    """A, then B that is too old, then A again, each in a run of its own."""
    schema = a_schema(plan="string", at="string")
    mapping = {"stream": "trials", "occurred_at": "{{ at }}"}
    now = datetime.now(UTC).isoformat()
    first = a_record(plan="a", at=now)
    old = a_record(plan="b", at="2020-01-01T00:00:00Z")
    settings = {"signals": [mapping], "max_event_age_days": 7}

    target.run(schema, first, **settings)
    target.run(schema, old, **settings)
    again = target.run(schema, first, **settings)

    assert again.outcomes == {"accepted": 1}
    assert len(sandbox.signals) == 2
