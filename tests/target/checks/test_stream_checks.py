"""The checks of streams set a stream aside before much of it is sent again."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import sqlite3
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from target_stairoids import input as run_input
from target_stairoids.checks.stream_checks import BULK_CHANGE, StreamChecks
from target_stairoids.exceptions import SetAsideError
from target_stairoids.sending import queue as send_queue
from target_stairoids.sending import record_outcomes
from target_stairoids.target import TargetStairoids
from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.forks import forked
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, Run

KNOWN, LIMIT = 260, 52
SCHEMA = a_schema(plan="string")
NOT_HELD = (
    "Error: No check holds stream `trials` back. Compare the name with the error of "
    "the last run.\n"
)


def records(
    count: int, stream: str = "trials", start: int = 1, **fields: object
) -> list[Message]:
    return [a_record(n, stream, **fields) for n in range(start, start + count)]


def read(target: TargetUnderTest, plan: str, count: int = KNOWN, **config: Any) -> Run:
    """Run with all known records, of which the first ones have another plan."""
    changed = records(count, plan=plan)
    rest = records(KNOWN - count, start=count + 1, plan="a")
    return target.run(SCHEMA, *changed, *rest, a_state(plan), **config)


def allow(target: TargetUnderTest, stream: str = "trials") -> str:
    done = signals(target, "ledger", "allow", stream)
    return done.stdout if done.returncode == 0 else done.stderr


# Bulk change


@pytest.mark.slow
@on_both_connectors
def test_bulk_change_sets_the_stream_aside_and_a_retry_does_not_get_past(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a", first_run="baseline")

    for _ in range(2):
        run = read(target, "b")
        assert run.exit_code == 1
        assert f"more than {LIMIT} of its {KNOWN} known records" in run.error
        assert "ledger allow trials" in run.error
        assert run.outcomes == {"pending": KNOWN}
        assert run.states == []
    assert sandbox.signals == []

    fixed = read(target, "a")
    later = read(target, "c", LIMIT)
    assert fixed.outcomes == {"duplicate": KNOWN}
    assert fixed.states == [{"at": "a"}]
    assert later.outcomes == {"accepted": LIMIT, "duplicate": KNOWN - LIMIT}
    assert allow(target) == NOT_HELD


def test_changes_of_rejected_records_are_no_bulk_change(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="status", status=422, containing='"plan":"a"')])
    known = records(100, start=61)
    for some in range(0, 60, 20):  # the circuit breaker stops at 25 in a row
        rejected = target.run(SCHEMA, *records(20, start=some, plan="a"), *known)
    run = target.run(SCHEMA, *records(60, start=0, plan="b"), *known)

    assert rejected.outcomes == {"rejected": 20, "duplicate": 100}
    assert run.outcomes == {"accepted": 60, "duplicate": 100}


@pytest.mark.slow
@on_both_connectors
def test_bulk_change_that_is_allowed_is_sent_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a", first_run="baseline")
    read(target, "b")

    assert "Allowed for the next complete run" in allow(target)
    run = read(target, "b")
    again = read(target, "c")

    assert (run.exit_code, run.outcomes) == (0, {"accepted": KNOWN})
    assert (again.exit_code, again.outcomes) == (1, {"pending": KNOWN})
    assert len(sandbox.signals) == KNOWN


@pytest.mark.slow
@on_both_connectors
def test_bulk_change_after_a_first_run_that_did_not_end(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    old, new = records(100, plan="a"), records(100, plan="b")
    more = records(9, start=101)

    cut = target.run(SCHEMA, *old, *more, max_signals_per_run=100)
    stopped = [target.run(SCHEMA, *new) for _ in range(2)]
    changed = target.run(SCHEMA, *new[:50], *old[50:], *more)
    whole = target.run(SCHEMA, *records(100, plan="c"))

    assert (cut.exit_code, cut.outcomes) == (75, {"accepted": 100, "pending": 9})
    for run in (*stopped, whole):
        assert (run.exit_code, run.outcomes) == (1, {"pending": 100})
        assert "known records have changed" in run.error
    assert changed.outcomes == {"accepted": 50 + 9, "duplicate": 50}
    assert len(sandbox.signals) == 159


@pytest.mark.slow
@on_both_connectors
@pytest.mark.parametrize("is_before", [False, True])
def test_people_beside_those_of_known_keys_are_no_bulk_change(
    sandbox: Sandbox, target: TargetUnderTest, *, is_before: bool
) -> None:
    second = [a_record(n, email=f"bea{n}@acme.example") for n in range(1, 101)]
    both = [*second, *records(100)] if is_before else [*records(100), *second]
    target.run(a_schema(), *records(100))

    run = target.run(a_schema(), *both)
    again = target.run(a_schema(), *reversed(both))
    third = [a_record(n, email=f"cat{n}@acme.example") for n in range(1, 101)]
    block = [a_record(1)] * 1_000  # the records before it are decided
    more = target.run(a_schema(), *third, *block, *both)

    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 100, "accepted": 100})
    assert (again.exit_code, again.outcomes) == (0, {"duplicate": 200})
    assert (more.exit_code, more.outcomes) == (0, {"duplicate": 1200, "accepted": 100})
    assert len(sandbox.signals) == 300


@pytest.mark.slow
@on_both_connectors
@pytest.mark.parametrize("is_before", [False, True])
def test_people_beside_filtered_ones_of_known_keys_are_no_bulk_change(
    target: TargetUnderTest, *, is_before: bool
) -> None:
    second = [a_record(n, email=f"bea{n}@acme.example") for n in range(1, 101)]
    gone = records(100, _sdc_deleted_at="2026-01-02T00:00:00Z")
    both = [*second, *gone] if is_before else [*gone, *second]
    target.run(a_schema(), *records(100))

    run = target.run(a_schema(), *both)

    assert (run.exit_code, run.outcomes) == (0, {"filtered": 100, "accepted": 100})


def test_other_people_in_two_states_are_a_bulk_change(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    others = [
        a_record(n, email=f"bea{n}@else.example", plan=plan)
        for plan in "ab"
        for n in range(1, 61)
    ]
    target.run(SCHEMA, *records(60, plan="a"))

    run = target.run(SCHEMA, *others)

    assert (run.exit_code, run.outcomes) == (1, {"pending": 120})
    assert len(sandbox.signals) == 60


@pytest.mark.slow
def test_known_people_of_shared_keys_are_counted_once(target: TargetUnderTest) -> None:
    second = [a_record(n, email=f"bea{n}@acme.example") for n in range(1, 61)]
    target.run(SCHEMA, *records(60, plan="a"), *second)

    run = target.run(SCHEMA, *records(30, plan="b"))

    assert (run.exit_code, run.outcomes) == (0, {"accepted": 30})


@pytest.mark.slow
def test_other_people_that_no_check_counts_take_no_memory(
    target: TargetUnderTest,
) -> None:
    others = [a_record(n, email=f"bea{n}@acme.example") for n in range(60, 200)]
    target.run(SCHEMA, *records(KNOWN, plan="a"))
    night = text_of([SCHEMA, *records(LIMIT + 1, plan="b"), *others])

    set_aside, baseline = (
        TargetStairoids(config=target.config, overrides=overrides)
        for overrides in ({}, {"remembers_all": True, "first_run": "baseline"})
    )
    with pytest.raises(SetAsideError):
        set_aside.listen(io.StringIO(night))
    baseline.listen(io.StringIO(night))

    for program in (set_aside, baseline):
        assert program.run.records.outcomes.identity.others == set()


def test_changes_behind_known_states_count_once_a_run_was_complete(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    old, new = records(60, plan="a"), records(60, plan="b")
    target.run(SCHEMA, *old)

    run = target.run(SCHEMA, *old, *new)

    assert (run.exit_code, run.outcomes) == (1, {"duplicate": 60, "pending": 60})
    assert len(sandbox.signals) == 60


@pytest.mark.slow
@on_both_connectors
def test_log_of_several_states_continues_after_each_stop(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    log = [one for plan in "abc" for one in records(100, plan=plan)]

    runs = [target.run(SCHEMA, *log, max_signals_per_run=80) for _ in range(4)]

    assert [run.exit_code for run in runs] == [75, 75, 75, 0]
    assert len(sandbox.signals) == 300


@pytest.mark.slow
@on_both_connectors
def test_people_of_shared_keys_continue_after_a_first_run_that_did_not_end(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    second = [a_record(n, email=f"bea{n}@acme.example") for n in range(1, 101)]

    cut = target.run(a_schema(), *records(101), max_signals_per_run=100)
    rest = target.run(a_schema(), *records(1, start=101), *second)

    assert (cut.exit_code, rest.exit_code) == (75, 0)
    assert len(sandbox.signals) == 201


@pytest.mark.slow
def test_records_of_a_first_run_are_not_known_to_its_own_checks(
    target: TargetUnderTest,
) -> None:
    item = {"stream": "trials", "type": "trial", "occurred_at": "{{ plan }}"}
    old = records(10_500, plan="2020-01-01")  # more than the buffer holds
    wrong = records(200, start=20_000, plan="soon")

    run = target.run(SCHEMA, *old, *wrong, signals=[item], max_event_age_days=1)

    assert (run.exit_code, run.outcomes) == (0, {"too_old": 10_500, "invalid": 200})


@pytest.mark.slow
def test_bulk_change_works_on_postgresql(
    sandbox: Sandbox, target: TargetUnderTest, postgres_url: str
) -> None:
    target.config["ledger_url"] = postgres_url
    read(target, "a", first_run="baseline")

    stopped = read(target, "b")
    retried = read(target, "b")
    allow(target)
    run = read(target, "b")

    assert [stopped.exit_code, retried.exit_code, run.exit_code] == [1, 1, 0]
    assert len(sandbox.signals) == KNOWN


@pytest.mark.slow
def test_bulk_change_stays_allowed_until_a_run_is_complete(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a", first_run="baseline")
    read(target, "b")
    allow(target)

    interrupted = read(target, "b", max_signals_per_run=10)
    complete = read(target, "b")
    after = read(target, "c")

    assert interrupted.exit_code == 75
    assert complete.exit_code == 0
    assert after.exit_code == 1
    assert len(sandbox.signals) == KNOWN


@pytest.mark.slow
def test_allowed_stream_is_checked_again_though_another_one_is_set_aside(
    target: TargetUnderTest,
) -> None:
    leads = a_schema("leads", plan="string")

    def run(plan: str, **config: object) -> Run:
        return target.run(
            SCHEMA, *records(60, plan=plan), leads, *records(60, "leads", plan=plan),
            **config,
        )  # fmt: skip

    run("a", first_run="baseline")
    run("b")
    allow(target)

    assert run("b").outcomes == {"accepted": 60, "pending": 60}
    assert run("c").outcomes == {"pending": 120}


@pytest.mark.slow
@on_both_connectors
def test_bulk_change_may_be_expected_by_the_mapping(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "_QUEUE_SIZE", 20)
    expected = [{"stream": "trials", "bulk_changes": "expected"}]
    read(target, "a", first_run="baseline")
    assert read(target, "b").exit_code == 1

    for plan in "bc":
        run = read(target, plan, signals=expected)
        assert (run.exit_code, run.outcomes) == (0, {"accepted": KNOWN})


@pytest.mark.slow
def test_column_that_changes_at_every_sync_is_ignored_from_then_on(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a")
    target.config["signals"] = [{"stream": "trials", "ignore_changes": ["plan"]}]
    night = text_of([SCHEMA, *records(KNOWN, plan="b"), a_state()])
    assert target.run_text(night).exit_code == 1

    signals(target, "ledger", "baseline", text=night)

    assert [read(target, plan).exit_code for plan in "bc"] == [0, 0]
    assert len(sandbox.signals) == KNOWN


@pytest.mark.parametrize("way", ["command", "setting", "again"])
@pytest.mark.parametrize("decision", ["baseline", "allow"])
def test_rest_of_an_unfinished_baseline_is_sent_by_no_later_run(
    sandbox: Sandbox, target: TargetUnderTest, way: str, decision: str
) -> None:
    """A baseline whose input breaks off has read a part of the rows."""
    text = text_of([SCHEMA, *records(20, plan="a")])
    if way == "again":
        target.run_text(text_of([SCHEMA, *records(3, plan="b")]))
    sent = len(sandbox.signals)
    if way == "setting":
        assert target.run_text(text[:-500], first_run="baseline").exit_code == 1
    else:
        assert signals(target, "ledger", "baseline", text=text[:-500]).returncode == 1

    night = target.run_text(text)
    retry = target.run_text(text)
    assert (night.exit_code, retry.exit_code) == (1, 1)
    assert "`trials`: its baseline did not end" in retry.error
    assert len(sandbox.signals) == sent

    if decision == "baseline":
        signals(target, "ledger", "baseline", text=text)
    else:
        signals(target, "ledger", "allow", "trials")
    later = target.run_text(text_of([SCHEMA, *records(21, plan="a")]))
    assert later.exit_code == 0
    last = target.run_text(text_of([SCHEMA, *records(22, plan="a")]))
    assert last.outcomes == {"duplicate": 21, "accepted": 1}
    new = {signal.body["contact"]["email"] for signal in sandbox.signals[sent:]}
    assert (len(new) == 2) is (decision == "baseline")


def test_replay_of_dead_letters_ends_no_baseline(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(SCHEMA, *records(1, email=None))
    target.config["first_run"] = "baseline"
    text = text_of([SCHEMA, *records(20, plan="a")])
    signals(target, "ledger", "baseline", text=text[:-500])

    signals(target, "dead-letters", "replay")
    night = target.run_text(text)

    assert "accepted" not in night.outcomes
    assert sandbox.signals == []


def test_baseline_of_a_stream_whose_people_come_with_a_later_schema_is_unfinished(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    nameless = a_schema()
    del nameless["schema"]["properties"]["email"]
    text = text_of([nameless, a_record(1), SCHEMA, *records(20, plan="a")])
    signals(target, "ledger", "baseline", text=text[:-500])

    night = target.run_text(text)

    assert night.exit_code == 1
    assert "`trials`: its baseline did not end" in night.error
    assert sandbox.signals == []


@pytest.mark.parametrize("text", ["", text_of([a_state()])])
def test_baseline_of_an_input_without_a_stream_fails(
    target: TargetUnderTest, text: str
) -> None:
    """Such as that of a tap that fails at once: the next run would send all records."""
    command = signals(target, "ledger", "baseline", text=text)
    first_run = target.run_text(text, first_run="baseline")

    assert command.returncode == first_run.exit_code == 1
    assert (command.stdout, first_run.states) == ("", [])
    for told in (command.stderr, first_run.error):
        assert "the baseline remembers no record" in told
    target.run(a_schema(), a_record(1), first_run="baseline")
    assert target.run_text(text, first_run="baseline").exit_code == 0
    assert signals(target, "ledger", "baseline", text=text).returncode == 1
    no_rows = text_of([a_state(1), a_schema("shops"), a_state(2)])
    command = signals(target, "ledger", "baseline", text=no_rows)
    assert (command.returncode, command.stdout) == (0, '{"at":2}\n')


def test_dry_run_is_no_baseline(target: TargetUnderTest) -> None:
    messages = text_of([a_schema(), a_record(1)])
    done = signals(target, "ledger", "baseline", text=messages, dry_run=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert "`dry_run` is set, so the baseline would remember no record" in done.stderr


@pytest.mark.parametrize("decision", ["baseline", "allow"])
def test_stream_that_an_unfinished_baseline_never_read_is_not_sent(
    sandbox: Sandbox, target: TargetUnderTest, decision: str
) -> None:
    text = text_of([SCHEMA, *records(20, plan="a")])
    whole = text + text_of([a_schema("other"), *records(5, "other")])
    assert signals(target, "ledger", "baseline", text=text[:-500]).returncode == 1

    nights = [target.run_text(whole) for _ in range(2)]
    assert [night.exit_code for night in nights] == [1, 1]
    for night in nights:
        assert night.outcomes.keys() == {"duplicate", "pending"}
        assert "`other`: an earlier baseline did not end" in night.error
    signals(target, "ledger", "baseline", text=text)  # without the other stream
    assert target.run_text(whole).outcomes == {"duplicate": 20, "pending": 5}
    assert sandbox.signals == []

    if decision == "baseline":
        signals(target, "ledger", "baseline", text=whole)
        last = target.run_text(whole)
        assert last.outcomes == {"duplicate": 25}
    else:
        signals(target, "ledger", "allow", "other")
        last = target.run_text(whole)
        assert last.report["streams"]["other"] == {"accepted": 5}
    more = target.run_text(text_of([a_schema("other"), *records(6, "other")]))
    assert more.outcomes == {"duplicate": 5, "accepted": 1}


def test_unfinished_baseline_stays_one_until_it_ends(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    text = text_of([SCHEMA, *records(20, plan="a")])
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    target.config["signals"] = [one]
    broken = target.run_text(text[:-500], first_run="baseline")
    known = broken.outcomes["baselined"]

    duplicates = target.run_text(text_of([SCHEMA, *records(known, plan="a")]))
    assert (duplicates.exit_code, duplicates.outcomes) == (0, {"duplicate": known})
    assert target.run_text(text).exit_code == 1
    other = target.run_text(text, first_run="send", signals=[one, two])
    assert other.exit_code == 1
    assert not sandbox.signals

    again = target.run_text(text, first_run="baseline")
    assert again.outcomes == {"duplicate": known, "baselined": 20 - known}
    later = target.run_text(text_of([SCHEMA, *records(21, plan="a")]))
    assert later.outcomes == {"duplicate": 20, "accepted": 1}


def test_new_mapping_of_a_baseline_does_not_let_an_unfinished_one_pass(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    text = text_of([SCHEMA, *records(20, plan="a")])
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    signals(target, "ledger", "baseline", text=text[:-500], signals=[one])

    target.run_text(text, first_run="baseline", signals=[one, two])

    assert target.run_text(text, signals=[one, two]).outcomes == {"duplicate": 40}
    assert not sandbox.signals


def test_renamed_stream_keeps_its_unfinished_baseline(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    text = text_of([SCHEMA, *records(20, plan="a")])
    renamed = text.replace('"trials"', '"tests"')
    signals(target, "ledger", "baseline", text=text[:-500])
    signals(target, "ledger", "rename", "trials", "tests")

    assert target.run_text(renamed).exit_code == 1
    assert not sandbox.signals

    signals(target, "ledger", "baseline", text=renamed)
    assert target.run_text(renamed).outcomes == {"duplicate": 20}


def test_forgotten_stream_has_no_unfinished_baseline(target: TargetUnderTest) -> None:
    text = text_of([SCHEMA, *records(20, plan="a")])
    signals(target, "ledger", "baseline", text=text[:-500])
    signals(target, "ledger", "forget", "--stream", "trials", "--yes")

    assert target.run_text(text).outcomes == {"accepted": 20}


def test_baseline_without_records_ends(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals(target, "ledger", "baseline", text=text_of([SCHEMA]))

    assert target.run_text(text_of([SCHEMA, *records(2, plan="a")])).exit_code == 0
    assert len(sandbox.signals) == 2


@pytest.mark.slow
def test_bulk_change_survives_sigterm_between_retries(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a", first_run="baseline")

    def has_sent(count: int) -> bool:
        return len(sandbox.signals) == count

    leads = a_schema("leads")
    target.run(leads, a_record(0, "leads"))
    read(target, "b")

    for number in (2, 3):
        text = text_of([
            SCHEMA, *records(LIMIT, plan="b"),
            leads, a_record(number, "leads", email=f"ann@acme{number}.example"),
        ])  # fmt: skip
        process = target.start(text)
        wait_until(partial(has_sent, number))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        run = read(target, "b")
        assert (run.exit_code, run.states) == (1, [])
    assert {s.body["type"] for s in sandbox.signals} == {"leads"}


def test_other_streams_go_on_while_one_is_set_aside(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a", first_run="baseline")
    leads = [a_schema("leads"), a_record(1, "leads"), a_record(2, "leads")]

    run = target.run(
        *leads, a_state(0), SCHEMA, *records(KNOWN, plan="b"), a_state(1),
        a_record(3, "leads"), a_state(2),
    )  # fmt: skip

    assert run.exit_code == 1
    assert run.outcomes == {"accepted": 3, "pending": KNOWN}
    assert run.states == [{"at": 0}]
    assert {s.body["type"] for s in sandbox.signals} == {"leads"}


@pytest.mark.parametrize(("seconds", "is_full"), [(60.0, False), (0.0, True)])
def test_after_60_seconds_or_with_a_full_queue_at_most_the_limit_leaves(
    seconds: float, *, is_full: bool
) -> None:
    checks: StreamChecks[int] = StreamChecks("trials", KNOWN)
    left: list[int] = []

    for number in range(KNOWN):
        assert not checks.admit(
            number, is_changed=True, is_expected=False, sample=frozenset(), now=100.0
        )
        assert checks.due(159.9) == []
        left += checks.due(100.0 + seconds, is_full=is_full)

    assert left == list(range(LIMIT))
    assert checks.fired is not None
    assert checks.fired[0] == BULK_CHANGE
    assert len(checks.kept_back()) == KNOWN - LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("bulk_changes", ["check", "expected"])
def test_states_that_return_wait_within_limits(
    sandbox: Sandbox,
    target: TargetUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    bulk_changes: str,
) -> None:
    target.config["signals"] = [{"stream": "trials", "bulk_changes": bulk_changes}]
    for plan in "ab":
        target.run(SCHEMA, *records(40, plan=plan), a_state())
    monkeypatch.setattr(record_outcomes, "_WAITING_BYTES", 200_000)
    monkeypatch.setattr(run_input, "_CHUNK", 1_000)
    returned = text_of([SCHEMA, *records(40, plan="a"), a_state()])

    run = target.run_text(returned)

    assert run.exit_code == 1
    assert "more signals wait for the end of its input" in run.error
    assert run.outcomes == {"pending": 40}
    assert "Allowed" in allow(target)
    run = target.run_text(returned)
    assert (run.exit_code, run.outcomes) == (0, {"accepted": 40})
    assert len(sandbox.signals) == 3 * 40


def test_rows_of_one_key_that_wait_beyond_the_limits_are_not_sent_again(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.config["signals"] = [{"stream": "trials", "bulk_changes": "expected"}]
    schema = a_schema(bookmark="at", at="integer", plan="string")
    monkeypatch.setattr(run_input, "_CHUNK", 1_000)

    for night in range(3):
        rows = [
            r for n, p in enumerate("ab") for r in records(40, plan=p, at=night * 2 + n)
        ]
        run = target.run(schema, *rows, a_state())
        monkeypatch.setattr(record_outcomes, "_WAITING_BYTES", 200_000)

    assert (run.exit_code, len(sandbox.signals)) == (1, 80)


@pytest.mark.slow
@pytest.mark.parametrize("size", [20_000, 1 << 20])
def test_older_states_wait_within_limits(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    schema = a_schema(bookmark="at", at="string", plan="string")
    monkeypatch.setattr(record_outcomes, "_WAITING_BYTES", size)
    monkeypatch.setattr(run_input, "_CHUNK", 1_000)
    target.run(schema, *records(KNOWN, plan="a", at="2026-01-02"), a_state())

    run = target.run(schema, *records(KNOWN, plan="b", at="2026-01-01"), a_state())

    assert run.exit_code == 1
    left = run.outcomes.get("superseded", 0)
    assert (left > 0) == (size == 20_000)
    assert left <= LIMIT


def test_nothing_leaves_before_the_input_ends_if_the_check_fired_before() -> None:
    checks: StreamChecks[int] = StreamChecks("trials", KNOWN, fired_before=True)

    for number in range(LIMIT):
        is_changed = number % 2 == 0
        may_leave = checks.admit(
            number,
            is_changed=is_changed,
            is_expected=False,
            sample=frozenset(),
            now=100.0,
        )
        assert not may_leave

    assert checks.due(1_000.0) == []
    assert checks.end_of_input() == list(range(LIMIT))


def test_changes_up_to_the_limit_are_sent(target: TargetUnderTest) -> None:
    read(target, "a", first_run="baseline")

    assert read(target, "b", LIMIT).exit_code == 0
    assert read(target, "c", LIMIT + 1).exit_code == 1


@pytest.mark.slow
def test_new_records_are_no_bulk_change(target: TargetUnderTest) -> None:
    target.run(SCHEMA, *records(10, plan="a"))

    run = target.run(SCHEMA, *records(300, start=11, plan="a"), a_state())

    assert (run.exit_code, run.outcomes) == (0, {"accepted": 300})


def test_touched_records_are_no_bulk_change(target: TargetUnderTest) -> None:
    schema = a_schema(plan="string", updated_at="string", bookmark="updated_at")
    target.run(schema, *records(100, plan="a", updated_at="2026-01-01"))

    run = target.run(schema, *records(100, plan="a", updated_at="2026-01-02"))

    assert (run.exit_code, run.outcomes) == (0, {"unchanged": 100})


def test_replay_neither_counts_as_a_bulk_change_nor_ends_the_check(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a", first_run="baseline")
    target.run(SCHEMA, a_record(1, plan="z", email=None))
    read(target, "b")

    replayed = signals(target, "dead-letters", "replay")
    run = read(target, "b", LIMIT)

    assert "1 signal = 1 invalid" in replayed.stderr
    assert (run.exit_code, len(sandbox.signals)) == (0, LIMIT)


@pytest.mark.slow
@on_both_connectors
def test_order_that_starts_again_is_a_bulk_change_until_it_is_accepted(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string", _sdc_lsn="integer")

    def run(plan: str, lsn: int) -> Run:
        rows = [a_record(n, plan=plan, _sdc_lsn=lsn + n) for n in range(1, 81)]
        return target.run(schema, *rows[:1], a_state(plan), *rows[1:], a_state(plan))

    run("a", 1_000)
    stopped = [run("b", 0) for _ in range(2)]
    assert [r.exit_code for r in stopped] == [1, 1]
    assert [r.states for r in stopped] == [[], []]
    assert "reset-order trials" in stopped[0].error
    assert len(sandbox.signals) == 80

    done = signals(target, "ledger", "reset-order", "trials")
    assert done.stdout == "The next run decides the order of 80 records again.\n"
    accepted = run("b", 0)
    assert (accepted.exit_code, len(sandbox.signals)) == (0, 160)


@pytest.mark.slow
def test_signal_that_was_set_aside_leaves_no_state(target: TargetUnderTest) -> None:
    schema = a_schema(plan="string", n="integer")
    mapping = [{"stream": "trials", "properties": ["plan"]}]
    target.config["signals"] = mapping
    known = records(100, plan="a", n=1)
    target.run(schema, *known)
    new = [a_record(500, plan="x", n=n) for n in (1, 2)]

    stopped = target.run(schema, *new, *records(100, plan="b", n=1))
    allow(target)
    allowed = target.run(schema, *new, *records(100, plan="b", n=1), a_state())

    assert (stopped.exit_code, allowed.exit_code) == (1, 0)
    assert allowed.outcomes["accepted"] == 101


# Identity change

MAPPING = {"stream": "contacts", "type": "contact", "name": "contact"}
CONTACTS = a_schema("contacts", org="string")


def contacts(count: int, stream: str = "contacts") -> list[Message]:
    return records(count, stream, org="acme")


IDENTITY_CHANGES: dict[str, tuple[Message, dict[str, Any], list[tuple[str, ...]]]] = {
    "key columns": (
        a_schema("contacts", key=["id", "org"], org="string"),
        MAPPING,
        [("allow", "contacts")],
    ),
    "key in the mapping": (
        CONTACTS,
        MAPPING | {"key": ["email"]},
        [("allow", "contacts")],
    ),
    "stream renamed": (
        a_schema("public.contacts", org="string"),
        MAPPING | {"stream": "public.contacts"},
        [("rename", "contacts", "public.contacts"), ("allow", "public.contacts")],
    ),
    "mapping renamed": (
        CONTACTS,
        MAPPING | {"name": "lead"},
        [
            ("rename", "contacts", "--mapping", "contact", "lead"),
            ("allow", "contacts"),
        ],
    ),
    "another source": (
        CONTACTS,
        MAPPING | {"source": "crm"},
        [
            ("rename", "contacts", "--source", "singer", "crm"),
            ("allow", "contacts"),
        ],
    ),
}
WAYS = [
    (name, way)
    for name, (_, _, ways) in IDENTITY_CHANGES.items()
    for way in [*ways, ("baseline",)]
]


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize(("change", "way"), WAYS, ids=[f"{n}, {w[0]}" for n, w in WAYS])
def test_identity_change_sets_the_stream_aside_until_a_person_decides(
    sandbox: Sandbox,
    target: TargetUnderTest,
    change: str,
    way: tuple[str, ...],
    count: int,
) -> None:
    schema, mapping, _ = IDENTITY_CHANGES[change]
    messages = [schema, *contacts(count, schema["stream"]), a_state()]
    target.run(CONTACTS, *contacts(count), signals=[MAPPING])
    target.config["signals"] = [mapping]

    for _ in range(2):
        run = target.run(*messages)
        assert (run.exit_code, run.states) == (1, [])
        is_named = way[0] != "baseline" or change != "another source"
        assert not is_named or f"ledger {' '.join(way)}" in run.error
        assert len(sandbox.signals) == count
    done = signals(target, "ledger", *way, text=text_of(messages))
    assert done.returncode == 0, done.stderr

    allowed, again = target.run(*messages), target.run(*messages)
    assert (allowed.exit_code, again.exit_code) == (0, 0), allowed.error
    assert again.outcomes == {"duplicate": count}
    is_sent = way[0] == "allow" and change != "another source"  # each is known
    assert len(sandbox.signals) == count * (2 if is_sent else 1)


OTHER_IDS = "the ids are others"


@pytest.mark.slow
@pytest.mark.parametrize("change", [*IDENTITY_CHANGES, OTHER_IDS])
def test_identity_change_is_noticed_while_requests_of_a_killed_run_are_open(
    sandbox: Sandbox, target: TargetUnderTest, change: str
) -> None:
    count = 14
    schema, mapping, _ = IDENTITY_CHANGES.get(change, (CONTACTS, MAPPING, []))
    messages = [schema, *contacts(count, schema["stream"]), a_record(99, "new")]
    if change == OTHER_IDS:
        for message in messages[1:]:
            message["record"]["id"] += 1000
    target.config |= {"request_timeout_seconds": 1, "signals": [MAPPING]}
    sandbox.faults.add(Fault(kind="slow", delay_ms=200, on="send"))
    with target.start(text_of([CONTACTS, *contacts(count)])) as process:
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: len(sandbox.signals) >= 4)
        process.kill()
    sandbox.faults.set([])

    run = target.run(a_schema("new"), *messages, signals=[mapping, {"stream": "new"}])

    people = [signal.body["contact"]["email"] for signal in sandbox.signals]
    assert run.exit_code == 1, run.error
    assert "contacts" in run.error
    assert len(people) == len({*people})


@pytest.mark.parametrize("way", ["allow", "baseline"])
def test_keyless_stream_that_gains_a_column_is_set_aside(
    sandbox: Sandbox, target: TargetUnderTest, way: str
) -> None:
    before = a_schema("contacts", key=[], org="string")
    after = a_schema("contacts", key=[], org="string", plan="string")
    rows = records(30, "contacts", org="acme", plan="a")
    target.run(before, *contacts(30))
    null = records(30, "contacts", org="acme", plan=None)
    assert target.run(after, *null).outcomes == {"duplicate": 30}

    for _ in range(2):
        run = target.run(after, *rows, a_state())
        assert (run.exit_code, run.states, len(sandbox.signals)) == (1, [], 30)
        assert "Set `key` in the mapping" in run.error
    words = ["allow", "contacts"] if way == "allow" else ["baseline"]
    signals(target, "ledger", *words, text=text_of([after, *rows]))

    run, again = (target.run(after, *rows, a_state()) for _ in range(2))
    assert (run.exit_code, again.outcomes) == (0, {"duplicate": 30})
    assert len(sandbox.signals) == (60 if way == "allow" else 30)


# Keys that become null, or are filled in

DEALS = {"stream": "deals", "type": "deal", "properties": ["id", "org", "plan"]}


def deals(numbers: range, nulls: Collection[int], plan: str) -> list[Message]:
    """Return a run's input; a part of the key of some records is null."""
    schema = a_schema("deals", key=["org", "id"], org="string", plan="string")
    rows = [a_record(n, "deals", org=f"org {n}", plan=plan) for n in numbers]
    for number, row in zip(numbers, rows, strict=True):
        if number in nulls:
            row["record"]["id"] = None
    return [schema, *rows, a_state()]


@on_both_connectors
@pytest.mark.parametrize("send", ["once", "on_change", "always"])
@pytest.mark.parametrize("is_filled", [True, False], ids=["filled in", "null"])
def test_null_keys_that_are_filled_in_or_the_reverse_set_the_stream_aside(
    sandbox: Sandbox, target: TargetUnderTest, send: str, *, is_filled: bool
) -> None:
    target.config["signals"] = [DEALS | {"send": send}]
    all_of_them = range(6)
    target.run(*deals(all_of_them, all_of_them if is_filled else (), "a"))
    changed = "b" if send == "once" else "a"
    messages = deals(all_of_them, () if is_filled else all_of_them, changed)

    for _ in range(2):
        run = target.run(*messages)
        assert (run.exit_code, run.outcomes, run.states) == (1, {"pending": 6}, [])
        assert "6 of its first 6 records under other keys" in run.error
    assert len(sandbox.signals) == 6


def test_outcomes_add_up_if_a_check_fires_while_requests_are_in_flight(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [DEALS]
    target.run(*deals(range(100), (), "a"))
    schema, *new, state = deals(range(100, 110), (), "a")
    _, *nulls, _ = deals(range(5), range(5), "a")

    run = target.run(schema, *new, *nulls, state)

    assert run.exit_code == 1
    assert "5 of its first 5 records under other keys" in run.error
    assert sum(run.outcomes.values()) == 15
    assert len(sandbox.signals) == 100 + run.outcomes.get("accepted", 0)


def test_one_null_key_sets_no_stream_aside(target: TargetUnderTest) -> None:
    target.config["signals"] = [DEALS]
    target.run(*deals(range(100), (), "a"))
    schema, *new, state = deals(range(100, 110), (), "a")
    _, null, _ = deals(range(1), range(1), "a")

    run = target.run(schema, null, *new, state)

    assert (run.exit_code, run.error) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("way", "sent"), [("allow", 500), ("baseline", 250)])
@pytest.mark.parametrize("nulls", [range(0), range(250)], ids=["filled in", "null"])
def test_person_decides_on_keys_that_are_null_or_no_longer(
    sandbox: Sandbox, target: TargetUnderTest, nulls: range, way: str, sent: int
) -> None:
    target.config["signals"] = [DEALS]
    target.run(*deals(range(250), range(250 - len(nulls)), "a"))
    messages = deals(range(250), nulls, "a")
    assert target.run(*messages).exit_code == 1

    words = ["allow", "deals"] if way == "allow" else ["baseline"]
    signals(target, "ledger", *words, text=text_of(messages))
    runs = [target.run(*messages) for _ in range(2)]

    assert [run.exit_code for run in runs] == [0, 0]
    assert runs[1].outcomes == {"duplicate": 250}
    assert len(sandbox.signals) == sent


@pytest.mark.parametrize("send", ["once", "on_change", "always"])
def test_stream_with_a_few_null_keys_each_night_is_not_set_aside(
    target: TargetUnderTest, send: str
) -> None:
    target.config["signals"] = [DEALS | {"send": send}]
    for night in range(4):
        numbers = range(20 + 7 * night)
        run = target.run(*deals(numbers, numbers[::7], "a"))
        assert (run.exit_code, run.error) == (0, "")


def test_first_null_keys_of_new_records_are_sent(target: TargetUnderTest) -> None:
    target.config["signals"] = [DEALS]
    target.run(*deals(range(20), (), "a"))

    run = target.run(*deals(range(23), range(20, 23), "a"))

    assert (run.exit_code, run.outcomes) == (0, {"accepted": 3, "duplicate": 20})


@pytest.mark.parametrize("is_filled", [True, False], ids=["filled in", "null"])
def test_rows_whose_bookmark_value_changes_with_their_key_set_the_stream_aside(
    sandbox: Sandbox, target: TargetUnderTest, *, is_filled: bool
) -> None:
    for is_null, at in ((is_filled, "2026-01-01"), (not is_filled, "2026-01-02")):
        schema = a_schema(updated_at="string", bookmark="updated_at")
        rows = records(6, updated_at=at)
        for row in rows if is_null else ():
            row["record"]["id"] = None
        run = target.run(schema, *rows, a_state())

    assert (run.exit_code, run.states, len(sandbox.signals)) == (1, [], 6)
    words = "were null and are filled in" if is_filled else "are null now"
    assert f"Stream `trials`: its keys {words}, and the ledger knows" in run.error


@pytest.mark.parametrize("send", ["on_change", "always"])
def test_null_keys_that_are_filled_in_beside_others_set_the_stream_aside(
    target: TargetUnderTest, send: str
) -> None:
    target.config["signals"] = [DEALS | {"send": send}]
    target.run(*deals(range(20), range(10), "a"))

    run = target.run(*deals(range(25), (), "a"))

    assert run.exit_code == 1
    assert "10 of its first 15 records under other keys" in run.error


# Values of keys that are written in another way


def keyed(count: int, spelling: str) -> list[Message]:
    """Return a run's input with keys in a spelling."""
    schema = a_schema("people", plan="string")
    schema["schema"]["properties"]["id"] = {}
    rows = records(count, "people", plan="a")
    for row in rows:
        row["record"]["id"] = spelling.format(row["record"]["id"])
    return [schema, *rows, a_state()]


@on_both_connectors
@pytest.mark.parametrize("send", ["once", "on_change", "always"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("{:05x}ab", "{:05X}AB"), ("{}", "{:04}"), ("{}", "gid://shop/{}"), ("{}", "{} ")],
)
def test_keys_that_are_written_in_another_way_set_the_stream_aside(
    sandbox: Sandbox, target: TargetUnderTest, before: str, after: str, send: str
) -> None:
    target.config["signals"] = [{"stream": "people", "send": send}]
    target.run(*keyed(6, before))

    for _ in range(2):
        run = target.run(*keyed(6, after))
        assert (run.exit_code, run.outcomes, run.states) == (1, {"pending": 6}, [])
        assert "the values of its key are others" in run.error
    signals(target, "ledger", "baseline", text=text_of(keyed(6, after)))

    assert target.run(*keyed(6, after)).outcomes == {"duplicate": 6}
    assert len(sandbox.signals) == 6


@pytest.mark.parametrize("send", ["once", "on_change", "always"])
@pytest.mark.parametrize("kind", [int, str, float])
def test_key_of_another_type_is_the_same_key(
    target: TargetUnderTest, kind: type, send: str
) -> None:
    target.config["signals"] = [{"stream": "people", "send": send}]
    messages = keyed(6, "{}")
    target.run(*messages)
    for message in messages[1:-1]:
        message["record"]["id"] = kind(message["record"]["id"])

    assert target.run(*messages).outcomes == {"duplicate": 6}


def test_renamed_stream_with_a_new_column_and_another_type_of_key_is_set_aside(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(CONTACTS, *contacts(6))
    schema = a_schema("contacts_v2", org="string", plan="string")
    rows = contacts(6, "contacts_v2")
    for row in rows:
        row["record"] |= {"id": str(row["record"]["id"]), "plan": "pro"}

    for _ in range(2):
        assert target.run(schema, *rows, a_state()).exit_code == 1
    assert len(sandbox.signals) == 6


@pytest.mark.slow
@on_both_connectors
@pytest.mark.parametrize(
    ("before", "now", "where", "advice"),
    [
        (None, "eu", "without a namespace", "remove `namespace`"),
        ("eu", None, "in the namespace `eu`", "set that `namespace` again"),
        ("eu", "us", "in the namespace `eu`", "set that `namespace` again"),
    ],
)
def test_pipeline_with_another_namespace_is_set_aside(
    target: TargetUnderTest,
    before: str | None,
    now: str | None,
    where: str,
    advice: str,
) -> None:
    target.run(a_schema(), *records(60), namespace=before)

    for _ in range(2):
        run = target.run(a_schema(), *records(70), a_state(), namespace=now)
        assert (run.exit_code, run.outcomes, run.states) == (1, {"pending": 70}, [])
        assert f"the ledger knows 60 of its first 70 records {where}." in run.error
        assert f"If the pipeline is the same, {advice}." in run.error
    right = target.run(a_schema(), *records(70), namespace=before)
    target.config["namespace"] = now
    allow(target)
    allowed = target.run(a_schema(), *records(70))
    again = target.run(a_schema(), *records(70))

    assert right.outcomes == {"duplicate": 60, "accepted": 10}
    assert allowed.outcomes == {"accepted": 70}
    assert again.outcomes == {"duplicate": 70}


@pytest.mark.slow
@on_both_connectors
def test_pipeline_with_another_namespace_is_set_aside_at_its_next_full_table(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """The tap's bookmark stays, so that the first run has new records only."""
    target.run(a_schema(), *records(120))
    newest = target.run(a_schema(), *records(20, start=121), namespace="eu")

    runs = [target.run(a_schema(), *records(140), namespace="eu") for _ in range(2)]

    assert newest.outcomes == {"accepted": 20}
    for run in runs:
        assert (run.exit_code, run.outcomes) == (1, {"duplicate": 20, "pending": 120})
        assert "knows 120 of its first 120 records without a namespace" in run.error
        assert "If the pipeline is the same, remove `namespace`." in run.error
    assert len(sandbox.signals) == 140


@pytest.mark.slow
def test_two_namespaces_may_send_other_signals_of_the_same_rows(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    for count in (60, 80):
        for name in ("sales", "support"):
            item = {"stream": "trials", "type": name, "name": name}
            run = target.run(
                a_schema(), *records(count), namespace=name, signals=[item]
            )
            assert run.exit_code == 0, run.error
    assert len(sandbox.signals) == 160


def test_database_with_the_same_streams_has_its_own_namespace(
    target: TargetUnderTest,
) -> None:
    others = [a_record(n, email=f"{n}@us.example") for n in range(1, 61)]
    target.run(a_schema(), *records(60), namespace="eu")

    run = target.run(a_schema(), *others, *records(5, start=61), namespace="us")

    assert run.outcomes == {"accepted": 65}


def test_new_records_that_repeat_others_of_their_stream_are_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """Rows that are there twice, and events of the same people, are ordinary."""
    for night in range(3):
        logins = records(10, "logins", start=10 * night, at=f"2026-01-0{night + 1}")
        for row in logins:
            row["record"]["email"] = f"u{row['record']['id'] % 10}@example.com"
        run = target.run(
            a_schema("leads"), *records(10 + night * 6, "leads", email="a@acme.com"),
            a_schema("logins", at="string", bookmark="at"), *logins, a_state(),
        )  # fmt: skip
        assert (run.exit_code, run.error) == (0, "")
    assert len(sandbox.signals) == 22 + 30


@pytest.mark.parametrize("send", ["once", "on_change", "always"])
def test_few_new_records_that_repeat_those_of_a_small_stream_are_sent(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    for number in (1, 2):
        first, *rest, state = keyed(4, f"{number}{{}}")
        run = target.run(first, *rest, state, signals=[{"stream": "*", "send": send}])
        assert (run.exit_code, run.outcomes) == (0, {"accepted": 4})
    assert len(sandbox.signals) == 8


@on_both_connectors
@pytest.mark.parametrize(
    ("names", "error"),
    [
        (("typo", "lead"), "Stream `contacts` has no mapping `typo`."),
        (("contact", "other"), "Mapping `other` has signals of its own."),
    ],
)
def test_mapping_that_is_not_there_or_has_signals_is_not_renamed(
    target: TargetUnderTest, names: tuple[str, str], error: str
) -> None:
    mappings = [MAPPING, MAPPING | {"name": "other"}]
    target.run(CONTACTS, a_record(1, "contacts"), signals=mappings)

    done = signals(target, "ledger", "rename", "contacts", "--mapping", *names)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(error)
    assert target.run(CONTACTS, a_record(1, "contacts"), signals=mappings).outcomes == {
        "duplicate": 2
    }


@pytest.mark.parametrize(
    "words", [["contacts"], ["--source", "s", "s"], ["--mapping", "m", "m"]]
)
def test_rename_to_the_same_name_is_refused(
    target: TargetUnderTest, words: list[str]
) -> None:
    target.run(CONTACTS, a_record(1, "contacts"))

    done = signals(target, "ledger", "rename", "contacts", *words)

    assert done.returncode == 2
    assert "The old and the new name are the same." in done.stderr


def test_mapping_may_be_renamed_if_all_its_signals_were_rejected(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(CONTACTS, a_record(1, "contacts"), signals=[MAPPING])

    run = target.run(
        CONTACTS, a_record(1, "contacts"), signals=[MAPPING | {"name": "lead"}]
    )

    assert run.outcomes == {"accepted": 1}


def test_renamed_stream_is_set_aside(sandbox: Sandbox, target: TargetUnderTest) -> None:
    target.run(a_schema("public-contacts"), *records(3, "public-contacts"))

    run = target.run(a_schema("public.contacts"), *records(3, "public.contacts"))

    assert (run.exit_code, run.outcomes) == (1, {"pending": 3})
    assert "`public-contacts`" in run.error
    assert len(sandbox.signals) == 3


@on_both_connectors
def test_second_mapping_and_new_streams_are_no_identity_change(
    target: TargetUnderTest,
) -> None:
    target.run(CONTACTS, *contacts(30), signals=[MAPPING])
    two = [MAPPING, {"stream": "contacts", "type": "vip"}, {"stream": "*"}]

    run = target.run(
        CONTACTS, *contacts(30), a_schema("leads"), *records(30, "leads", start=31),
        a_state(), signals=two,
    )  # fmt: skip

    assert (run.exit_code, run.states) == (0, [{"at": 1}])
    assert run.outcomes == {"accepted": 60, "duplicate": 30}


@pytest.mark.slow
def test_two_streams_with_the_same_rows_are_no_identity_change_in_their_first_run(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "_QUEUE_SIZE", 1)
    views = ["contacts", "customers"]

    run = target.run(*(m for v in views for m in (a_schema(v), *records(1_100, v))))

    assert run.exit_code == 0, run.error


@on_both_connectors
def test_database_of_another_source_is_set_aside_until_it_has_a_namespace(
    target: TargetUnderTest,
) -> None:
    def run(source: str, **config: object) -> Run:
        rows = [a_record(n, email=f"ann{n}@{source}.example") for n in range(30)]
        return target.run(a_schema(), *rows, a_state(), source=source, **config)

    run("eu")
    mixed = [run("us"), run("us")]
    own = run("us", namespace="us")

    assert [r.exit_code for r in mixed] == [1, 1]
    assert [r.states for r in mixed] == [[], []]
    assert "had the source `eu`" in mixed[0].error
    assert "`namespace`" in mixed[0].error
    assert own.outcomes == {"accepted": 30}
    assert run("eu").outcomes == {"duplicate": 30}


@pytest.mark.parametrize("source", ["{{ 1 // 0 }}", "{{ 'a' * 2 }}", "{{ none }}"])
def test_constant_source_that_cannot_be_read_makes_records_invalid(
    target: TargetUnderTest, source: str
) -> None:
    item = {"stream": "trials", "source": source}

    run = target.run(a_schema(), *records(2), a_state(), signals=[item])

    assert (run.exit_code, run.outcomes) == (0, {"invalid": 2})


def test_other_template_with_the_same_source_is_no_other_source(
    target: TargetUnderTest,
) -> None:
    for source, outcome in (
        ("crm", "accepted"),
        ("{{ 'crm' }}", "duplicate"),
        ("{{ 'CRM' | lower }}", "duplicate"),
    ):
        item = {"stream": "trials", "source": source}
        run = target.run(a_schema(), *records(2), a_state(), signals=[item])
        assert (run.exit_code, run.outcomes) == (0, {outcome: 2})


# `once` for other people


@on_both_connectors
def test_once_for_other_people_is_set_aside(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    once = {"signals": [{"stream": "trials", "send": "once"}]}
    others = [a_record(n, email=f"ann{n}@other.example") for n in range(1, 61)]
    target.run(a_schema(), *records(60), **once)

    stopped = [target.run(a_schema(), *others, a_state(), **once) for _ in range(2)]
    few = target.run(a_schema(), *others[:50], a_state(), **once)

    assert [r.exit_code for r in stopped] == [1, 1]
    assert [r.states for r in stopped] == [[], []]
    assert "more than 50 keys were already sent for other people" in stopped[0].error
    assert stopped[0].outcomes == {"pending": 60}
    assert (few.exit_code, few.outcomes) == (0, {"superseded": 50})
    assert len(sandbox.signals) == 60


@pytest.mark.slow
@on_both_connectors
@pytest.mark.parametrize("is_older", [False, True])
@pytest.mark.parametrize("way", ["allow", "baseline"])
def test_superseded_records_are_known_once_a_person_decided(
    sandbox: Sandbox, target: TargetUnderTest, way: str, *, is_older: bool
) -> None:
    item = {"stream": "trials"} if is_older else {"stream": "trials", "send": "once"}
    target.config["signals"] = [item]
    schema = a_schema(at="string", plan="string", bookmark="at" if is_older else None)
    others = {} if is_older else {"email": "ann@other.example"}
    later = [
        a_record(n, plan="b", at="2025", **{k: f"{n}{v}" for k, v in others.items()})
        for n in range(1, 61)
    ]
    target.run(schema, *records(60, plan="a", at="2026"))

    stopped = target.run(schema, *later, a_state())
    words = [way, "trials"] if way == "allow" else [way]
    done = signals(target, "ledger", *words, text=text_of([schema, *later]))
    runs = [target.run(schema, *later, a_state()) for _ in range(3)]
    if not is_older:
        for row in later:
            row["record"]["plan"] = "c"
        runs.append(target.run(schema, *later))

    assert (stopped.exit_code, done.returncode) == (1, 0), done.stderr
    assert [run.exit_code for run in runs] == [0] * len(runs)
    assert runs[0].outcomes == {"superseded" if way == "allow" else "duplicate": 60}
    assert all(run.outcomes == {"duplicate": 60} for run in runs[1:])
    assert len(sandbox.signals) == 60


# Invalid records


@on_both_connectors
@pytest.mark.parametrize("count", [5, 30])
def test_known_stream_whose_records_all_become_invalid_is_set_aside(
    sandbox: Sandbox, target: TargetUnderTest, count: int
) -> None:
    broken = [a_record(n, email=None) for n in range(1, count + 1)]
    target.run(a_schema(), *records(30))

    stopped = [target.run(a_schema(), *broken, a_state()) for _ in range(2)]
    assert [r.exit_code for r in stopped] == [1, 1]
    assert [r.states for r in stopped] == [[], []]
    assert f"all {count} records are invalid" in stopped[0].error
    assert stopped[0].outcomes == {"pending": count}
    assert signals(target, "dead-letters", "export").stdout == ""

    allow(target)
    allowed = target.run(a_schema(), *broken, a_state())
    assert (allowed.exit_code, allowed.outcomes) == (0, {"invalid": count})
    assert len(sandbox.signals) == 30


@pytest.mark.slow
def test_nine_tenths_of_the_last_200_records_may_not_be_invalid(
    target: TargetUnderTest,
) -> None:
    broken = [a_record(n, email=None) for n in range(60, 240)]
    target.run(a_schema(), *records(300))

    run = target.run(a_schema(), *records(59), *broken, a_state())

    assert (run.exit_code, run.states) == (1, [])
    assert "nearly all of the last 200 records are invalid" in run.error


@pytest.mark.parametrize(
    ("known", "invalid", "valid"), [(0, 30, 0), (30, 4, 0), (30, 30, 5)]
)
def test_some_invalid_records_become_dead_letters(
    target: TargetUnderTest, known: int, invalid: int, valid: int
) -> None:
    target.run(a_schema(), *records(known))
    broken = [a_record(n, email=None) for n in range(1, invalid + 1)]

    run = target.run(a_schema(), *broken, *records(valid), a_state())

    assert (run.exit_code, run.states) == (0, [{"at": 1}])
    assert run.outcomes["invalid"] == invalid


# First run


@on_both_connectors
def test_baseline_ends_with_the_first_run_that_read_the_stream(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    leads = [a_schema("leads"), *records(3, "leads")]
    target.config |= {"first_run": "baseline"}
    target.run(a_schema("other"), a_record(1, "other"))
    other = [a_schema("other"), *records(2, "other", start=2)]

    first = target.run(*leads, *other, max_signals_per_run=1)
    second = target.run(*leads, a_record(9, "leads"), *other, max_signals_per_run=1)

    assert first.exit_code == 75
    assert first.outcomes == {"baselined": 3, "accepted": 1, "pending": 1}
    assert second.outcomes["accepted"] == 1
    assert second.outcomes["pending"] >= 1
    third = target.run(*leads, a_record(9, "leads"), *other)
    assert third.exit_code == 0
    assert [s.body["type"] for s in sandbox.signals].count("leads") == 1


def test_baseline_ends_though_its_stream_is_set_aside(target: TargetUnderTest) -> None:
    target.config |= {"first_run": "baseline"}
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    read(target, "a", signals=[one])

    aside = read(target, "b", signals=[one, two])
    after = target.run(SCHEMA, a_record(999, plan="a"), signals=[one, two])

    assert aside.outcomes == {"pending": KNOWN, "baselined": KNOWN}
    assert after.outcomes == {"accepted": 2}


@on_both_connectors
def test_baseline_is_per_stream_and_mapping(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config |= {"first_run": "baseline"}
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    read(target, "a", signals=[one])

    second = read(target, "a", signals=[one, two])
    later = target.run(SCHEMA, a_record(999, plan="a"), signals=[one, two])

    assert second.outcomes == {"baselined": KNOWN, "duplicate": KNOWN}
    assert later.outcomes == {"accepted": 2}
    assert {s.body["type"] for s in sandbox.signals} == {"one", "two"}


@pytest.mark.slow
def test_large_first_run_says_how_long_it_takes(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    target.run(a_schema(), *records(1_001))

    assert "At 100,000 requests per minute, 10,000 signals take" in caplog.text
    assert "`first_run: baseline`" in caplog.text


# Dry runs


def test_preview_says_which_check_would_stop_a_run(target: TargetUnderTest) -> None:
    text = text_of([SCHEMA, *records(KNOWN, plan="b")])
    read(target, "a", first_run="baseline")

    shown = signals(target, "preview", text=text)
    found = signals(target, "preview", "--format", "json", text=text)
    explained = signals(target, "explain", text=text)

    assert f"A run would stop here. Stream `trials`: more than {LIMIT}" in shown.stdout
    assert "0 signals would be sent." in shown.stdout
    assert "more than" in json.loads(found.stdout)["stops"][0]
    assert "pending     trials  id=1  its stream is set aside" in explained.stdout
    assert allow(target) == NOT_HELD
    assert target.run(SCHEMA, dry_run=True).exit_code == 0


def test_check_says_that_another_source_would_stop_a_run(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), *records(3), source="eu")
    catalog = target.folder / "catalog.jsonl"
    catalog.write_text(text_of([a_schema()]))

    done = signals(target, "check", "--catalog", catalog, source="us")

    assert "A run would stop here. Stream `trials`: its signals had the" in done.stdout
    assert "key      " in done.stdout  # the rest is checked as well
    assert done.returncode == 1


# Mistakes at the SCHEMA


@on_both_connectors
@pytest.mark.parametrize("key", [[], ["id"]])
def test_once_needs_a_key(target: TargetUnderTest, key: list[str]) -> None:
    once = {"stream": "trials", "send": "once"}
    schema, row = a_schema(key=[]), a_record()

    run = target.run(schema, row, signals=[once | {"key": key} if key else once])

    assert run.exit_code == (0 if key else 1)
    assert ("`send: once` needs a key" in run.error) is not bool(key)


@on_both_connectors
@pytest.mark.parametrize("name", ["idd", "Id", "user_id"])
def test_misspelt_key_of_the_mapping_stops_the_run_at_the_schema(
    sandbox: Sandbox, target: TargetUnderTest, name: str
) -> None:
    schema = a_schema()
    schema["schema"]["additionalProperties"] = True
    item = {"stream": "trials", "key": [name]}

    run = target.run(schema, *records(10), a_state(), signals=[item])

    assert (run.exit_code, run.states) == (1, [])
    assert run.failure in {"", "config_error"}
    assert f"`{name}` is not a property of `trials`" in run.error
    assert len(sandbox.signals) == 0
    right = target.run(schema, *records(10), signals=[item | {"key": ["id"]}])
    assert right.outcomes == {"accepted": 10}


@on_both_connectors
def test_key_of_the_mapping_that_is_null_makes_a_record_invalid(
    target: TargetUnderTest,
) -> None:
    rows = [a_record(n, user=None) for n in range(3)]

    run = target.run(
        a_schema(user="string"), *rows, signals=[{"stream": "*", "key": ["user"]}]
    )

    assert run.outcomes == {"invalid": 3}
    assert "`user` of the mapping is null" in run.report["reasons"][0]["reason"]


def test_one_loader_behind_two_taps_stops_at_new_and_similar_streams_only(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    items = [{"stream": "trials"}, {"stream": "crm-trials"}]
    stopped = target.run(a_schema("leads"), a_record(1, "leads"), signals=items)
    assert "no stream so far matched `trials`" in stopped.error
    target.run(a_schema(), a_record(1), signals=items)
    target.run(a_schema("crm-trials"), a_record(2, "crm-trials"), signals=items)
    caplog.clear()

    leads = target.run(a_schema("leads"), a_record(3, "leads"), signals=items)
    target.run(a_schema("crm-trials"), a_record(4, "crm-trials"), signals=items)
    close = target.run(a_schema("trails"), a_record(5, "trails"), signals=items)

    assert leads.exit_code == 0
    assert "No stream matched" not in caplog.text
    assert "`trials` is nearly its name" in close.error


@pytest.mark.parametrize(
    "option", ["--config conf/prod.json", "--config=conf/prod.json"]
)
@pytest.mark.slow
def test_command_of_a_check_has_the_config_of_the_run(
    target: TargetUnderTest, option: str
) -> None:
    target.run(a_schema(), a_record(1), source="website")
    path = target.folder / "conf" / "prod.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**target.config, "source": "crm"}))
    run = partial(
        subprocess.run, text=True, capture_output=True, check=False, cwd=target.folder
    )
    words = forked(["target-stairoids", *option.split()])
    messages = text_of([a_schema(), a_record(1)])

    stopped = run(words, input=messages)
    commands = re.findall("`(stairoids-signals [^`]*)`", stopped.stderr)
    pasted = run(forked(shlex.split(commands[-1])))
    passed = run(words, input=messages)

    wanted = "rename trials --source website crm", "allow trials"
    assert commands == [
        f"stairoids-signals ledger {words} --config conf/prod.json" for words in wanted
    ]
    assert stopped.stderr.rstrip().endswith("[E082]")
    assert (pasted.returncode, passed.returncode) == (0, 0), pasted.stderr
    report = signals(target, "report").stdout  # has its own config, in another folder
    assert "ledger allow trials --config config.json" in report
    assert "prod.json" not in report


def test_baseline_remembers_a_stream_whose_identifying_columns_changed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(key=[], plan="string", seats="integer")
    rows = [a_record(n, plan="a", seats=n) for n in range(1, 9)]
    target.config["signals"] = [{"stream": "trials", "properties": ["plan"]}]
    target.run(schema, *rows)
    target.config["signals"] = [{"stream": "trials", "properties": ["plan", "seats"]}]

    stopped = target.run(schema, *rows)
    baseline = signals(
        target, "ledger", "baseline", text=text_of([schema, *rows, a_state()])
    )
    later = target.run(schema, *rows, a_record(9, plan="a", seats=9))

    assert stopped.exit_code == 1
    assert (
        "the columns that identify its records have changed. They were `email` and "
        "`plan` (without a key), and are `seats`, `email` and `plan` (without a key) "
        "now."
    ) in stopped.error
    assert "pipe the tap into `stairoids-signals ledger baseline" in stopped.error
    assert (baseline.returncode, "8 baselined" in baseline.stderr) == (0, True)
    assert later.outcomes == {"duplicate": 8, "accepted": 1}
    assert len(sandbox.signals) == 9


@pytest.mark.parametrize("count", [1, 30])
def test_signals_that_wait_for_the_end_of_an_input_that_breaks_stay_pending(
    sandbox: Sandbox, target: TargetUnderTest, count: int
) -> None:
    schema, other = a_schema(plan="string"), a_schema("deals")
    wrong = [
        {"stream": "trials"},
        {"stream": "deals", "properties": "*", "skip": ["zz"]},
    ]
    target.run(schema, *(a_record(n, plan="free") for n in range(30)))

    changed = [a_record(n, plan="pro") for n in range(count)]
    broken = target.run(schema, *changed, other, signals=wrong)
    again = target.run(schema, *changed)

    assert broken.exit_code == 1
    assert broken.outcomes == {"pending": count}
    assert broken.report["adds_up"]
    assert again.outcomes == {"accepted": count}
    assert len(sandbox.signals) == 30 + count


def test_signals_that_wait_when_a_limit_ends_the_run_are_counted_once(
    target: TargetUnderTest,
) -> None:
    schema = a_schema(plan="string")
    target.run(schema, *(a_record(n, plan="free") for n in range(30)))

    changed = [a_record(n, plan="pro") for n in range(10)]
    new = [a_record(n) for n in range(100, 105)]
    run = target.run(schema, *new, *changed, max_signals_per_run=1)

    assert run.outcomes == {"accepted": 1, "pending": 14}
    assert run.report["adds_up"]


@pytest.mark.slow
def test_signals_that_wait_when_a_limit_ends_the_run_before_its_input_are_counted_once(
    target: TargetUnderTest,
) -> None:
    schema = a_schema(plan="string")
    target.run(schema, *(a_record(n, plan="free") for n in range(30)))

    changed = [a_record(n, plan="pro") for n in range(10)]
    known = [a_record(n % 10 + 20, plan="free") for n in range(20_000)]
    new = a_record(100), a_record(101)
    run = target.run(schema, *changed, *new, *known, max_signals_per_run=1)

    assert run.outcomes["accepted"] == 1
    assert run.outcomes["pending"] == 11
    assert run.report["adds_up"]


@pytest.mark.slow
def test_checks_of_two_databases_pass_only_with_a_word_of_a_person(
    target: TargetUnderTest,
) -> None:
    """`allow` lets the next run pass, whichever database that is of."""
    schema, many = a_schema(plan="string"), range(1, 80)

    def sync(source: str, plan: str) -> Run:
        target.config["source"] = source
        return target.run(schema, *(a_record(n, plan=plan) for n in many))

    assert sync("crm", "a").exit_code == 0
    assert sync("crm", "b").exit_code == 1
    assert sync("shop", "c").exit_code == 1

    refused = signals(target, "ledger", "allow", "trials")
    again = sync("shop", "c")
    allowed = signals(target, "ledger", "allow", "trials", "--all")

    assert refused.returncode == 1
    assert "more than 50 of its 79 known records have changed" in refused.stderr
    assert "its signals had the source `crm`" in refused.stderr
    assert "add --all" in refused.stderr
    assert again.outcomes == {"pending": 79}
    assert allowed.returncode == 0
    assert allowed.stdout.count("Allowed for the next complete run") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "outcome"), [("crm", "accepted"), ("shop", "pending")]
)
def test_check_that_is_allowed_during_a_run_passes_in_the_next_one(
    sandbox: Sandbox, target: TargetUnderTest, source: str, outcome: str
) -> None:
    """Another check that fires in that run does not pass."""
    read(target, "a", first_run="baseline", source="crm")
    read(target, "b", source="crm")
    schema, *leads = a_schema("leads"), a_record(1, "leads"), a_record(2, "leads")
    target.run(schema, leads[0], source=source)
    messages = text_of([SCHEMA, schema, leads[1]])
    with target.start(messages, source=source) as process:
        wait_until(lambda: len(sandbox.signals) == 2)
        allow(target)
        process.communicate(text_of(records(KNOWN, plan="b")).encode(), timeout=60)

    run = read(target, "b", source=source)

    assert process.returncode == 1
    assert run.outcomes == {outcome: KNOWN}


def test_allowed_check_passes_though_a_mapping_of_its_stream_begins_a_baseline(
    target: TargetUnderTest,
) -> None:
    one, more = {"stream": "trials"}, {"stream": "trials", "name": "new", "type": "new"}
    target.run(SCHEMA, a_record(plan="a"), source="crm", signals=[one])
    target.run(SCHEMA, a_record(plan="b"), source="shop", signals=[one])
    allow(target)
    both: dict[str, Any] = {"signals": [one, more], "first_run": "baseline"}
    longer = a_schema(plan="string", more="string")
    run = target.run(SCHEMA, longer, a_record(plan="b"), source="shop", **both)

    assert run.outcomes == {"accepted": 1, "baselined": 1}


def test_signal_whose_source_is_compared_is_set_aside_with_its_stream(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    read(target, "a")
    sandbox.faults.set([Fault(kind="slow", on="read", delay_ms=3_000)])
    new = text_of([SCHEMA, a_record(KNOWN + 1, plan="b")])
    config = {"first_run": "guard", "requests_per_day": 1_000}

    with target.start(new, **config) as process:
        wait_until(lambda: requests_today(target) == 1)
        process.communicate(text_of(records(KNOWN, plan="b")).encode())

    assert target.report()["outcomes"]["pending"] == KNOWN + 1
    assert len(sandbox.signals) == KNOWN


def requests_today(target: TargetUnderTest) -> int:
    with sqlite3.connect(target.folder / "ledger.db") as ledger:
        query = "SELECT SUM(requests) FROM stairoids_days"
        return ledger.execute(query).fetchone()[0] or 0
