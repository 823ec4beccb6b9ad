"""`stairoids-signals dead-letters`: list, export, replay, resolve, discard."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import a_record, a_schema, wait_until

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, TargetUnderTest

COMPARE = "Compare the ids with `stairoids-signals dead-letters list`."


def test_replay_sends_dead_letters_with_the_fixed_mapping(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    broken = {"stream": "trials", "contact": {"email": "{{ nobody }}"}}
    schema = a_schema(nobody="string")
    target.run(schema, a_record(1), a_record(2), signals=[broken])
    target.config["signals"] = [{"stream": "trials"}]

    one = signals(target, "dead-letters", "replay", "1")
    lost = signals(target, "dead-letters", "replay", "2", "99", "98")
    rest = signals(target, "dead-letters", "replay")
    none = signals(target, "dead-letters", "replay")

    assert one.returncode == 0, one.stderr
    assert "1 signal = 1 accepted" in one.stderr
    assert lost.returncode == 1
    assert lost.stderr == f"Error: Dead letters 98, 99 are not there. {COMPARE}\n"
    assert "1 signal = 1 accepted" in rest.stderr
    assert none.stderr == "No dead letters to send.\n"
    assert one.stdout == rest.stdout == none.stdout == ""
    assert len(sandbox.signals) == 2


@pytest.mark.parametrize("send", ["on_change", "always"])
@pytest.mark.parametrize("bookmark", ["at", None])
@pytest.mark.parametrize("in_one_run", [True, False])
@pytest.mark.parametrize("failed", [{"plan": "wrong"}, {"plan": 10**400}])
def test_newer_state_of_a_person_who_shares_a_key_closes_the_older_dead_letter(
    sandbox: Sandbox,
    target: TargetUnderTest,
    failed: dict[str, Any],
    send: str,
    bookmark: str | None,
    in_one_run: bool,  # noqa: FBT001 - a case of the test
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    sandbox.faults.set([Fault(kind="status", status=422, containing="wrong")])
    schema = a_schema(plan="string", at="string")
    schema["bookmark_properties"] = [bookmark] if bookmark else []
    bob = a_record(1, email="bob@example.com", plan="b", at="2026-01-02")
    older = a_record(1, at="2026-01-01", **failed)
    newer = [a_record(1, plan="new", at="2026-01-03"), bob]
    if in_one_run:
        target.run(schema, older, bob, *newer)
    else:
        target.run(schema, older, bob)
        assert dead_letters_left(target) == 1
    again = target.run(schema, *newer)
    sandbox.faults.set([])

    replayed = signals(target, "dead-letters", "replay")

    assert "No dead letters to send." in replayed.stderr
    assert again.outcomes.keys() <= {"accepted", "duplicate"}
    assert target.run(schema, *newer).outcomes == {"duplicate": 2}
    assert sorted(s.properties["plan"] for s in sandbox.signals) == ["b", "new"]


@pytest.mark.parametrize("send", ["on_change", "always", "once"])
def test_person_accepted_after_another_ones_rejection_closes_no_dead_letter(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    sandbox.faults.add(Fault(kind="slow", delay_ms=500, containing="bob@", on="send"))
    sandbox.faults.add(Fault(kind="status", status=422, containing="ann@"))
    # Up to the first accepted signal, requests are made one by one.
    records = [
        a_record(number, email=f"{name}@{name}.example")
        for number, name in ((2, "eve"), (1, "bob"), (1, "ann"))
    ]

    run = target.run(a_schema(), *records)

    assert run.outcomes == {"accepted": 2, "rejected": 1}
    assert dead_letters_left(target) == 1


def test_dead_letter_of_a_shared_key_stays_if_another_person_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": "on_change"}]
    sandbox.faults.set([Fault(kind="status", status=422, containing="wrong")])
    people = [
        a_record(1, email=f"{name}@example.com", plan=plan)
        for name, plan in [("ann", "wrong"), ("bob", "b"), ("eve", "e"), ("bob", "c")]
    ]
    target.run(a_schema(plan="string"), *people)
    sandbox.faults.set([])

    replayed = signals(target, "dead-letters", "replay")

    assert "1 signal = 1 accepted" in replayed.stderr
    assert sandbox.signals[-1].body["contact"]["email"] == "ann@example.com"


@pytest.mark.parametrize(
    ("send", "bookmark", "number", "left"),
    [
        ("on_change", "at", "2", 0),
        ("on_change", "at", "1", 1),
        ("on_change", None, "2", 0),
        ("on_change", None, "1", 1),
        ("once", None, "1", 0),
    ],
)
def test_replay_of_one_dead_letter_closes_the_older_ones_of_its_record(
    sandbox: Sandbox,
    target: TargetUnderTest,
    send: str,
    bookmark: str | None,
    number: str,
    left: int,
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    sandbox.faults.set([Fault(kind="status", status=422)])
    schema = a_schema(plan="string", at="string")
    schema["bookmark_properties"] = [bookmark] if bookmark else []
    states = [{"plan": p, "at": f"2026-01-0{n}"} for n, p in enumerate("ab", 1)]
    target.run(schema, *(a_record(1, **state) for state in states))
    sandbox.faults.set([])

    replayed = signals(target, "dead-letters", "replay", number)

    assert replayed.returncode == 0, replayed.stderr
    assert dead_letters_left(target) == left


def test_replay_closes_each_dead_letter_of_a_key_that_is_sent_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": "once"}]
    sandbox.faults.set([Fault(kind="status", status=422)])
    schema = a_schema(plan="string")
    run = target.run(schema, a_record(1, plan="free"), a_record(1, plan="pro"))
    sandbox.faults.set([])

    replayed = signals(target, "dead-letters", "replay")

    assert run.outcomes == {"rejected": 2}
    assert replayed.returncode == 0, replayed.stderr
    assert "2 signals = 1 accepted + 1 duplicate" in replayed.stderr
    assert "No dead letters." in signals(target, "dead-letters", "list").stdout
    assert len(sandbox.signals) == 1


def test_dead_letter_of_a_removed_mapping_is_filtered(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1, email=None))
    exported = signals(target, "dead-letters", "export").stdout

    run = target.run_text(exported, signals=[{"stream": "trials", "name": "other"}])

    assert run.outcomes == {"filtered": 1}
    (reason,) = run.report["reasons"]
    assert reason["reason"] == "its mapping is gone"


def test_dead_letters_are_listed_without_their_records(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), a_record(1, email="canary"))

    done = signals(target, "dead-letters", "list")

    header, row, _, ledger = done.stdout.splitlines()
    assert header.split() == [
        "id", "stream", "outcome", "reason", "attempts", "first_at", "last_at",
    ]  # fmt: skip
    assert "trials  invalid" in row
    assert re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d$", row)
    assert ledger == f"Ledger {target.config['ledger_url']}"
    assert "canary" not in done.stdout


def test_exported_dead_letter_is_sent_and_leaves_the_list(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    rejected = target.run(a_schema(mrr="number"), a_record(1, mrr=1.10))

    exported = signals(target, "dead-letters", "export").stdout
    replayed = target.run_text(exported)

    assert rejected.outcomes == {"rejected": 1}
    assert replayed.outcomes == {"accepted": 1}
    assert signals(target, "dead-letters", "export").stdout == ""
    again = target.run(a_schema(mrr="number"), a_record(1, mrr=1.10))
    assert again.outcomes == {"duplicate": 1}


@pytest.mark.parametrize(
    ("send", "outcome"), [("always", "duplicate"), ("on_change", "unchanged")]
)
def test_closed_dead_letter_is_not_sent_again(
    sandbox: Sandbox, target: TargetUnderTest, send: str, outcome: str
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(a_schema(), a_record(1))
    exported = signals(target, "dead-letters", "export").stdout

    first, second = target.run_text(exported), target.run_text(exported)

    assert first.outcomes == {"accepted": 1}
    assert second.outcomes == {outcome: 1}
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ({"send": "always"}, "duplicate"),
        ({"send": "on_change"}, "unchanged"),
        ({"send": "once"}, "unchanged"),
        ({"when": "plan != 'test'"}, "filtered"),
    ],
)
def test_dead_letter_that_is_in_the_input_twice_is_sent_once(
    sandbox: Sandbox, target: TargetUnderTest, more: dict[str, Any], outcome: str
) -> None:
    target.config["signals"] = [{"stream": "trials", **more}]
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(a_schema(plan="string"), a_record(1, plan="pro"))
    exported = signals(target, "dead-letters", "export").stdout
    copy = exported.replace('"pro"', '"test"') if "when" in more else exported

    replayed = target.run_text(exported + copy)

    assert replayed.outcomes == {"accepted": 1, outcome: 1}
    assert len(sandbox.signals) == 1
    assert dead_letters_left(target) == 0
    again = target.run(a_schema(plan="string"), a_record(1, plan="pro"))
    assert again.outcomes == {"duplicate": 1}


@pytest.mark.parametrize("bookmark", ["updated_at", None])
def test_dead_letter_is_not_sent_after_a_newer_version(
    sandbox: Sandbox, target: TargetUnderTest, bookmark: str | None
) -> None:
    schema = a_schema(plan="string", updated_at="string", bookmark=bookmark)
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, a_record(1, plan="free", updated_at="2026-01-01"))
    exported = signals(target, "dead-letters", "export").stdout
    target.run(schema, a_record(1, plan="pro", updated_at="2026-01-02"))

    replayed = target.run_text(exported)

    assert replayed.outcomes == {"superseded": 1}
    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["pro"]
    assert "No dead letters." in signals(target, "dead-letters", "list").stdout


@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize("bookmark", ["updated_at", None])
@pytest.mark.parametrize("is_fixed", [True, False])
def test_rejected_newer_version_closes_no_dead_letter(
    sandbox: Sandbox,
    target: TargetUnderTest,
    bookmark: str | None,
    send: str,
    *,
    is_fixed: bool,
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    schema = a_schema(plan="string", updated_at="string", bookmark=bookmark)
    target.run(schema, a_record(1, plan="a", updated_at="2026-01-01", email="broken"))
    sandbox.faults.set([Fault(kind="status", status=422)])
    target.run(schema, a_record(1, plan="b", updated_at="2026-01-02"))
    exported = signals(target, "dead-letters", "export").stdout
    sandbox.faults.set([] if is_fixed else [Fault(kind="status", status=422)])

    replayed = target.run_text(exported.replace("broken", "u1@example.com"))

    plans = ["a"] if send == "once" else ["a", "b"]
    assert replayed.outcomes.get("superseded") is None
    assert dead_letters_left(target) == 0 or not is_fixed
    sent = [signal.properties["plan"] for signal in sandbox.signals]
    assert sent == (plans if is_fixed else [])


@pytest.mark.parametrize("bookmark", ["updated_at", None])
def test_replay_sends_each_state_of_a_record_in_order(
    sandbox: Sandbox, target: TargetUnderTest, bookmark: str | None
) -> None:
    schema = a_schema(plan="string", updated_at="string", bookmark=bookmark)
    sandbox.faults.set([Fault(kind="status", status=422)])
    days = "2026-01-01", "2026-01-02"
    target.run(schema, *(a_record(1, plan=day, updated_at=day) for day in days))
    sandbox.faults.set([])
    exported = signals(target, "dead-letters", "export").stdout
    schema_line, first, second = exported.splitlines(keepends=True)

    with target.start(schema_line + first) as process:
        wait_until(lambda: dead_letters_left(target) == 1)
        process.communicate(second.encode())

    assert [signal.properties["plan"] for signal in sandbox.signals] == [*days]
    assert dead_letters_left(target) == 0


@pytest.mark.parametrize("send", ["on_change", "always"])
@pytest.mark.parametrize("ids", [[""], ["2", "1"]])
def test_replay_sends_states_in_the_order_in_which_they_were_read(
    sandbox: Sandbox, target: TargetUnderTest, send: str, ids: list[str]
) -> None:
    """The second one fails first, because a rejection waits for an acceptance."""
    target.config |= {"signals": [{"stream": "trials", "send": send}]}
    rejected = Fault(kind="status", status=422, containing='"plan":"a"')
    lost = Fault(kind="reset", on="send", containing='"plan":"b"')
    sandbox.faults.set([rejected, lost])
    rows = (a_record(1, plan=plan) for plan in "ab")
    target.run(a_schema(plan="string"), *rows, on_unknown="hold")
    sandbox.faults.set([])

    signals(target, "dead-letters", "resolve", "1", "--resend")
    for number in ids:
        signals(target, "dead-letters", "replay", *number.split())

    assert [signal.properties["plan"] for signal in sandbox.signals] == ["a", "b"]
    assert dead_letters_left(target) == 0


@pytest.mark.parametrize("send", ["on_change", "always"])
def test_replay_sends_the_rejected_state_last_that_was_read_again(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    target.config |= {"signals": [{"stream": "trials", "send": send}]}
    sandbox.faults.set([Fault(kind="status", status=422)])
    for plan in "abab":
        target.run(a_schema(plan="string"), a_record(1, plan=plan))
    target.run(a_schema(plan="string"), a_record(1, plan="a"))
    sandbox.faults.set([])

    signals(target, "dead-letters", "replay")

    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b", "a"]
    assert dead_letters_left(target) == 0


def test_state_is_not_sent_after_a_newer_one_that_a_person_found_delivered(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    rejected = Fault(kind="status", status=422, containing='"plan":"a"')
    dropped = Fault(kind="drop_after_accept", containing='"plan":"b"')
    sandbox.faults.set([rejected, dropped])
    rows = (a_record(1, plan=plan) for plan in "ab")
    target.run(a_schema(plan="string"), *rows, on_unknown="hold")
    sandbox.faults.set([])

    signals(target, "dead-letters", "resolve", "1", "--delivered")
    replayed = signals(target, "dead-letters", "replay")

    assert "1 signal = 1 superseded" in replayed.stderr
    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b"]


def test_row_that_fails_again_is_sent_after_the_states_between(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema, broken = a_schema(plan="string"), a_record(1, plan="a", email="broken")
    target.run(schema, broken)
    sandbox.faults.set([Fault(kind="status", status=422)])
    target.run(schema, a_record(1, plan="b"))
    target.run(schema, broken)
    sandbox.faults.set([])

    exported = signals(target, "dead-letters", "export").stdout
    target.run_text(exported.replace("broken", "u1@example.com"))

    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b", "a"]


def test_row_that_returns_after_a_replay_of_two_nights_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string")
    sandbox.faults.set([Fault(kind="status", status=422)])
    for plan in "ab":
        target.run(schema, a_record(1, plan=plan))
    sandbox.faults.set([])
    signals(target, "dead-letters", "replay")

    target.run(schema, a_record(1, plan="a"))

    assert [signal.properties["plan"] for signal in sandbox.signals] == [*"aba"]


@pytest.mark.parametrize("send", ["on_change", "always"])
def test_export_of_a_closed_dead_letter_is_not_sent_after_a_newer_state(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    schema = a_schema(plan="string")
    target.run(schema, a_record(1, plan="a", email="broken"))
    exported = signals(target, "dead-letters", "export").stdout
    target.run(schema, a_record(1, plan="b"))
    assert dead_letters_left(target) == 0

    replayed = target.run_text(exported.replace("broken", "u1@example.com"))

    assert replayed.outcomes == {"superseded": 1}
    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b"]


@pytest.mark.parametrize("send", ["on_change", "always"])
@pytest.mark.parametrize("bookmark", ["updated_at", None])
def test_dead_letter_is_not_sent_after_its_row_was_excluded(
    sandbox: Sandbox, target: TargetUnderTest, bookmark: str | None, send: str
) -> None:
    only = "{{ plan != 'c' }}"
    target.config["signals"] = [{"stream": "trials", "send": send, "when": only}]
    schema = a_schema(plan="string", updated_at="string", bookmark=bookmark)
    target.run(schema, a_record(1, plan="a", updated_at="2026-01-01"))
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, a_record(1, plan="b", updated_at="2026-01-02"))
    exported = signals(target, "dead-letters", "export").stdout
    target.run(schema, a_record(1, plan="c", updated_at="2026-01-03"))

    assert target.run_text(exported).outcomes == {"superseded": 1}


def test_dead_letter_of_a_mapping_with_always_is_sent_after_a_newer_state(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": "always"}]
    schema = a_schema(plan="string", updated_at="string", bookmark="updated_at")
    target.run(schema, a_record(1, plan="b", updated_at="2026-01-02", email=None))
    exported = signals(target, "dead-letters", "export").stdout
    target.run(schema, a_record(1, plan="c", updated_at="2026-01-03"))

    corrected = exported.replace('"email": null', '"email": "u1@example.com"')
    assert target.run_text(corrected).outcomes == {"accepted": 1}


def test_dead_letter_of_a_record_with_an_older_signal_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(plan="string"), a_record(1, plan="free"))
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(a_schema(plan="string"), a_record(1, plan="pro"))

    replayed = target.run_text(signals(target, "dead-letters", "export").stdout)

    assert replayed.outcomes == {"accepted": 1}
    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["free", "pro"]


def test_dead_letter_with_an_edited_record_leaves_the_list(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1, email=None))
    exported = signals(target, "dead-letters", "export").stdout

    edited = exported.replace('"email": null', '"email": "ann@acme.example"')
    replayed = target.run_text(edited)

    assert replayed.outcomes == {"accepted": 1}
    assert len(sandbox.signals) == 1
    assert "No dead letters." in signals(target, "dead-letters", "list").stdout


def test_dead_letter_that_fails_again_is_exported_unchanged(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), a_record(1, email=None))

    for _ in range(2):
        exported = signals(target, "dead-letters", "export").stdout
        assert target.run_text(exported).outcomes == {"invalid": 1}

    assert exported.count("_sdc_stairoids_dead_letter") == 1
    assert signals(target, "dead-letters", "export").stdout == exported


@pytest.mark.parametrize("odd", [r'"\ud800"', "NaN", "-Infinity"])
def test_dead_letter_keeps_numbers_and_texts_that_are_not_unicode(
    target: TargetUnderTest, odd: str
) -> None:
    numbers = f'"a":1.00000000000000000000000001,"b":1E+400,"c":{"7" * 40}'
    record = f'{{"id":1,"email":"jörg@acme.com","plan":{odd},{numbers}}}'
    message = f'{{"type": "RECORD", "stream": "trials", "record": {record}}}'
    schema = json.dumps(a_schema(plan="string", a="number"))
    run = target.run_text(f"{schema}\n{message}\n")

    exported = signals(target, "dead-letters", "export").stdout

    assert run.outcomes == {"invalid": 1}
    assert f'"record":{record[:-1]},' in exported


def test_dead_letter_is_sent_by_its_own_mapping_only(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    two = [{"stream": "trials", "type": "one"}, {"stream": "trials", "type": "two"}]
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(a_schema(), a_record(1), signals=two)

    target.run_text(signals(target, "dead-letters", "export").stdout, signals=two)

    assert sorted(s.body["type"] for s in sandbox.signals) == ["one", "two"]


def test_unknown_signal_is_exported_only_after_resolve(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500, count=1))
    target.run(a_schema(), a_record(1), on_unknown="hold")

    before = signals(target, "dead-letters", "export").stdout
    resolved = signals(target, "dead-letters", "resolve", "1", "--resend")
    replayed = target.run_text(signals(target, "dead-letters", "export").stdout)

    assert before == ""
    assert resolved.stdout == "1 dead letter resolved.\n"
    assert replayed.outcomes == {"accepted": 1}
    assert len(sandbox.signals) == 1


def test_state_before_an_unknown_signal_that_did_not_arrive_is_not_sent_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema, first = a_schema(plan="string"), a_record(1, plan="a")
    target.run(schema, first)
    sandbox.faults.add(Fault(kind="status", status=500, count=1))
    target.run(schema, a_record(1, plan="b"), on_unknown="hold")
    signals(target, "dead-letters", "resolve", "1", "--resend")

    back = target.run(schema, first)
    replayed = target.run_text(signals(target, "dead-letters", "export").stdout)

    assert back.outcomes == {"duplicate": 1}
    assert replayed.outcomes == {"accepted": 1}
    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["a", "b"]


@pytest.mark.parametrize("before", [[], ["2026-01-02"]])
@pytest.mark.parametrize("send", ["on_change", "always"])
def test_no_state_older_than_an_unknown_one_is_sent_after_resolve(
    sandbox: Sandbox, target: TargetUnderTest, before: list[str], send: str
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    schema = a_schema(plan="string", at="string", bookmark="at")

    def rows(*days: str) -> list[Message]:
        return [schema, *(a_record(1, plan=day, at=day) for day in days)]

    target.run(*rows(*before))
    sandbox.faults.add(Fault(kind="status", status=500, count=1))
    target.run(*rows("2026-01-04"), on_unknown="hold")
    signals(target, "dead-letters", "resolve", "1", "--resend")

    for day in ("2026-01-01", "2026-01-03"):
        assert target.run(*rows(day)).outcomes == {"superseded": 1}
    assert "1 accepted" in signals(target, "dead-letters", "replay").stderr
    assert target.run(*rows("2026-01-03")).outcomes == {"superseded": 1}
    assert [s.properties["plan"] for s in sandbox.signals] == [*before, "2026-01-04"]


def test_each_state_of_the_run_before_an_unknown_signal_counts_as_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema, keys = a_schema(plan="string"), range(1, 9)
    target.run(schema, *(a_record(k, plan=plan) for plan in "ab" for k in keys))
    sandbox.faults.add(Fault(kind="status", status=500, containing='"plan":"c"'))
    target.run(schema, *(a_record(k, plan="c") for k in keys), on_unknown="hold")
    signals(target, "dead-letters", "resolve", *map(str, keys), "--resend")
    back = target.run(schema, *(a_record(k, plan="b") for k in keys))

    assert back.outcomes == {"duplicate": 8}


def test_unknown_signal_resolved_as_delivered_is_a_duplicate(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    target.run(a_schema(), a_record(1), on_unknown="hold")

    signals(target, "dead-letters", "resolve", "1", "--delivered")
    run = target.run(a_schema(), a_record(1))

    assert run.outcomes == {"duplicate": 1}
    assert "No dead letters." in signals(target, "dead-letters", "list").stdout
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize("other", ["other.db", "ledger.db"])
def test_export_of_another_ledger_or_namespace_closes_no_dead_letter_here(
    sandbox: Sandbox, target: TargetUnderTest, other: str
) -> None:
    url = f"sqlite:///{target.folder}/{other}"
    theirs: dict[str, Any] = {"ledger_url": url, "namespace": "b"}
    sandbox.faults.add(Fault(kind="status", status=422, count=2))
    target.run(a_schema(), a_record(1), **theirs)
    target.run(a_schema(), a_record(2))

    exported = signals(target, "dead-letters", "export", **theirs).stdout
    run = target.run_text(exported)

    assert run.outcomes == {"accepted": 1}
    assert "u2@example.com" in signals(target, "dead-letters", "export").stdout
    left = signals(target, "dead-letters", "export", **theirs).stdout
    assert left == exported


def test_numbers_that_no_database_has_are_no_traceback(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(a_schema(), a_record(1))
    exported = signals(target, "dead-letters", "export").stdout

    for number in ("0", f"{2**63}", "9" * 5_000):
        for command in ("list", "export", "replay", "discard --yes"):
            refused = signals(target, "dead-letters", *command.split(), number)
            assert refused.returncode == 2
            assert "IDS" in refused.stderr.splitlines()[-1]
        assert target.run_text(exported.replace('"1.', f'"{number}.')).exit_code == 0
    listed = signals(target, "dead-letters", "list", "--limit", f"{2**63}")
    assert listed.returncode == 0


def test_discard_deletes_a_dead_letter(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1, email=None))

    done = signals(target, "dead-letters", "discard", "1", "1", "--yes")

    assert (done.returncode, done.stdout) == (0, "1 dead letter discarded.\n")
    assert signals(target, "dead-letters", "export").stdout == ""


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["discard", "1", "7", "--yes"], "Dead letter 7 is not there."),
        (["discard", "7", "1", "--dry-run"], "Dead letter 7 is not there."),
        (["resolve", "2", "7", "--delivered"], "Dead letter 7 is not there."),
        (["resolve", "1", "2", "--delivered"], "Dead letter 1 is not `unknown`."),
        (["resolve", "2", "1", "--resend"], "Dead letter 1 is not `unknown`."),
        (["resolve", "2", "3", "--delivered"], "Dead letter 3 is not there."),
        (
            ["replay", "1", "2"],
            "Dead letter 2 is `unknown`, or without a record, or of another mapping.",
        ),
        (["export", "2", "1"], "Dead letter 2 is `unknown`, or without a record."),
        (["export", "1", "7"], "Dead letter 7 is not there."),
        (["list", "1", "7"], "Dead letter 7 is not there."),
        (
            ["list", "1", "2", "--reason", "account"],
            "Dead letter 2 is not there, or not chosen.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_id_is_named_and_no_other_dead_letter_is_touched(
    sandbox: Sandbox, target: TargetUnderTest, words: list[str], error: str
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500))
    target.run(a_schema(), a_record(1, email=None), a_record(2), on_unknown="hold")
    target.run(a_schema(), a_record(3), on_unknown="hold", namespace="other")
    sandbox.faults.set([])
    before = signals(target, "dead-letters", "list", "--format", "json").stdout

    done = signals(target, "dead-letters", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {error} {COMPARE}\n"
    after = signals(target, "dead-letters", "list", "--format", "json").stdout
    assert after == before
    assert sandbox.signals == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["discard", "7", "--yes"], "Dead letter 7 is not there."),
        (["discard", "9", "7", "--yes"], "Dead letters 7, 9 are not there."),
        (["discard", "9", "--dry-run"], "Dead letter 9 is not there."),
        (["list", "7"], "Dead letter 7 is not there."),
        (["list", "7", "--format", "json"], "Dead letter 7 is not there."),
        (["resolve", "7", "--delivered"], "Dead letter 7 is not there."),
    ],
)
def test_absent_dead_letters_are_named(
    target: TargetUnderTest, words: list[str], error: str
) -> None:
    target.run(a_schema(), a_record(1, email=None))

    done = signals(target, "dead-letters", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {error} {COMPARE}\n"


def test_invalid_dead_letter_cannot_be_resolved(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1, email=None))

    done = signals(target, "dead-letters", "resolve", "1", "--delivered")

    assert done.returncode == 1
    assert "not `unknown`" in done.stderr


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], 2),
        (["--stream", "trials"], 1),
        (["--stream", "other"], 0),
        (["--reason", "EITHER account"], 2),
        (["--reason", "%"], 0),
        (["--older-than", "0m"], 2),
        (["--older-than", "1d"], 0),
        (["--older-than", "2020-01-31"], 0),
        (["--limit", "1"], 1),
        (["2"], 1),
        (["1", "2"], 2),
        (["1", "2", "7"], 0),
        (["1", "--stream", "leads"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_dead_letters_are_listed_and_exported_by_the_same_choice(
    target: TargetUnderTest, words: list[str], shown: int
) -> None:
    target.run(
        a_schema(), a_record(email=None),
        a_schema("leads"), a_record(stream="leads", email=None),
    )  # fmt: skip

    done = signals(target, "dead-letters", "list", "--format", "json", *words)
    exported = signals(target, "dead-letters", "export", *words)

    assert len(done.stdout.splitlines()) == shown
    assert exported.stdout.count('"RECORD"') == shown


def test_wrong_age_is_a_usage_error(target: TargetUnderTest) -> None:
    done = signals(target, "dead-letters", "list", "--older-than=3w")

    assert done.returncode == 2
    assert "not an age (90d, 12h, 30m) or a time (2026-01-31)." in done.stderr


def test_key_is_shown_with_the_option_only(target: TargetUnderTest) -> None:
    target.run(
        a_schema(key=["id", "region"], region="string"),
        a_record(3, region="eu\x1b[2J", email=None),
        a_schema("leads", key=[]), a_record(stream="leads", email=None),
    )  # fmt: skip

    without = signals(target, "dead-letters", "list").stdout
    table = signals(target, "dead-letters", "list", "--with-key").stdout
    lines = signals(
        target, "dead-letters", "list", "--with-key", "--format", "json"
    ).stdout.splitlines()

    assert "region" not in without
    assert table.splitlines()[0].split()[:4] == ["id", "stream", "key", "outcome"]
    assert "id=3, region=eu\\u001b[2J  invalid" in table
    found = [json.loads(line)["key"] for line in lines]
    assert found == [{"id": 3, "region": "eu\x1b[2J"}, {}]


def test_numbers_of_keys_and_records_may_have_any_number_of_digits(
    target: TargetUnderTest,
) -> None:
    keys = "9" * 5_000, "1.10"
    lines = (
        f'{{"type": "RECORD", "stream": "trials", "record": {{"id": {key}}}}}\n'
        for key in keys
    )
    target.run_text(json.dumps(a_schema()) + "\n" + "".join(lines))

    table = signals(target, "dead-letters", "list", "--with-key").stdout
    printed = signals(
        target, "dead-letters", "list", "--with-key", "--format", "json"
    ).stdout

    for key, line in zip(keys, printed.splitlines(), strict=True):
        assert f"id={key} " in table
        assert f'"key": {{"id": {key}}}' in line


def test_key_of_the_mapping_precedes_the_key_of_the_stream(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "key": ["user.id", "nr"]}]
    target.run(
        a_schema(key=[], user="object", nr="integer"),
        a_record(email=None, user={"id": "x"}, nr=None),
    )

    table = signals(target, "dead-letters", "list", "--with-key").stdout

    assert "trials  user.id=x, nr=null  invalid" in table


def test_key_is_empty_without_the_record(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(email=None), keep_records=False)

    table = signals(target, "dead-letters", "list", "--with-key").stdout

    assert "id=" not in table
    assert "invalid" in table


def test_table_has_at_most_100_dead_letters(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), *(a_record(n, email=None) for n in range(103)))

    table = signals(target, "dead-letters", "list").stdout
    whole = signals(target, "dead-letters", "list", "--limit", "103").stdout

    assert table.count("invalid") == 100
    assert "3 more: --limit 103 shows them." in table
    assert whole.count("invalid") == 103
    assert "more" not in whole


def test_export_counts_dead_letters_without_a_record(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1, email=None), keep_records=False)

    done = signals(target, "dead-letters", "export")

    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.startswith("1 left out: ")


def test_dead_letter_keeps_its_source_without_meltano(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_email = {
        "stream": "trials",
        "contact": {"email": "{{ email }}"},
        "properties": None,
    }
    by_name = {"stream": "trials", "contact": {"email": "{{ name }}"}}
    schema = a_schema(name="string")
    monkeypatch.setenv("MELTANO_EXTRACTOR_NAME", "tap-jsonl")
    target.run(schema, a_record(1, name="x"), signals=[by_email])
    target.run(schema, a_record(1, name="y"), a_record(2, name="z"), signals=[by_name])
    target.config["signals"] = [by_email]
    monkeypatch.delenv("MELTANO_EXTRACTOR_NAME")
    exported = signals(target, "dead-letters", "export").stdout

    replayed = target.run_text(exported)

    assert json.loads(exported.splitlines()[0])["stairoids_source"] == "jsonl"
    assert replayed.outcomes == {"accepted": 1, "unchanged": 1}
    assert [s.body["source"] for s in sandbox.signals] == ["jsonl", "jsonl"]


@pytest.mark.parametrize(
    ("config", "source"),
    [
        ({}, "kept"),
        ({"source": "set"}, "set"),
        ({"signals": [{"stream": "trials", "source": "mapped"}]}, "mapped"),
    ],
)
def test_source_of_an_exported_schema_precedes_the_environment(
    sandbox: Sandbox,
    target: TargetUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, object],
    source: str,
) -> None:
    monkeypatch.setenv("MELTANO_EXTRACTOR_NAME", "tap-csv")

    target.run({**a_schema(), "stairoids_source": "kept"}, a_record(1), **config)

    assert [s.body["source"] for s in sandbox.signals] == [source]


def test_source_of_a_later_schema_message_replaces_an_earlier_one(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(
        a_schema(), a_record(1),
        {**a_schema(), "stairoids_source": "kept"}, a_record(2),
        {**a_schema(), "stairoids_source": 7}, a_record(3),
    )  # fmt: skip

    found = {s.body["contact"]["email"]: s.body["source"] for s in sandbox.signals}
    assert found == {
        "u1@example.com": "singer",
        "u2@example.com": "kept",
        "u3@example.com": "singer",
    }


@pytest.mark.parametrize("flags", [[], ["--delivered", "--resend"]], ids=" ".join)
def test_resolve_needs_exactly_one_option(
    target: TargetUnderTest, flags: list[str]
) -> None:
    target.run(a_schema(), a_record(email=None))

    done = signals(target, "dead-letters", "resolve", "1", *flags)

    assert done.returncode == 2
    assert "Use --delivered if Stairoids has the signal, else --resend." in done.stderr


def dead_letters_left(target: TargetUnderTest) -> int:
    return signals(target, "dead-letters", "export").stdout.count('"RECORD"')


def listed(target: TargetUnderTest) -> list[str]:
    listing = signals(target, "dead-letters", "list", "--format", "json")
    return listing.stdout.splitlines()


@on_both_connectors
def test_dead_letter_closes_when_a_newer_version_of_its_record_is_accepted(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string")
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, a_record(1, plan="a"))
    target.run(schema, a_record(2, email=None), a_record(3, email=None))
    assert dead_letters_left(target) == 3

    run = target.run(schema, a_record(1, plan="b"), a_record(2))

    assert run.outcomes == {"accepted": 2}
    assert dead_letters_left(target) == 1


@pytest.mark.parametrize("email", ["ann@acme.example", None])
def test_dead_letter_of_a_person_without_a_key_closes(
    sandbox: Sandbox, target: TargetUnderTest, email: str | None
) -> None:
    account = {"domain": "{{ domain }}"}
    target.config["signals"] = [
        {"stream": "trials", "send": "once", "account": account}
    ]
    sandbox.faults.add(Fault(kind="status", status=422, count=1))

    for address, left in ((email, 1), ("ann@acme.example", 0)):
        record = a_record(1, id=None, email=address, domain="acme.example", plan=left)
        target.run(a_schema(domain="string", plan="integer"), record)
        assert dead_letters_left(target) == left


def test_dead_letter_closes_by_a_newer_version_in_the_same_run(
    target: TargetUnderTest,
) -> None:
    run = target.run(a_schema(), a_record(1, email=None), a_record(1))

    assert run.outcomes == {"invalid": 1, "accepted": 1}
    assert dead_letters_left(target) == 0


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(
    ("newest", "send", "left"),
    [
        ({"plan": "wrong"}, "on_change", 1),
        ({"email": None}, "on_change", 1),
        ({"plan": "wrong"}, "once", 0),
    ],
)
def test_dead_letter_stays_when_an_older_state_is_accepted(
    sandbox: Sandbox,
    target: TargetUnderTest,
    newest: dict[str, Any],
    send: str,
    left: int,
    runs: int,
) -> None:
    """The order is that of the bookmark column; with `once`, any state will do."""
    target.config["signals"] = [{"stream": "trials", "send": send}]
    sandbox.faults.set([Fault(kind="status", status=422, containing="wrong")])
    schema = a_schema(plan="string", at="string") | {"bookmark_properties": ["at"]}
    states: list[dict[str, Any]] = [
        {"plan": "first", "at": "2026-01-01"} if send == "on_change" else {},
        {"plan": "late", "at": "2026-01-03", **newest},
        {"plan": "old", "at": "2026-01-02"},
    ]
    rows = [a_record(1, **state) for state in states if state]
    nights = [rows] if runs == 1 else [[row] for row in rows]
    for night in nights:
        target.run(schema, *night)

    assert dead_letters_left(target) == left


@pytest.mark.parametrize("later", ["2026-01-01", "2026-01-03"])
@pytest.mark.parametrize("bookmark", ["updated_at", None])
@pytest.mark.parametrize("column", ["plan", "updated_at"])
@pytest.mark.parametrize("company", [{}, {"domain": "acme.example"}])
def test_dead_letter_closes_when_its_row_returns_to_the_state_that_was_sent(
    target: TargetUnderTest,
    later: str,
    bookmark: str | None,
    column: str,
    company: dict[str, str],
) -> None:
    target.config["signals"] = [{"stream": "trials", "ignore_changes": ["updated_at"]}]
    schema = a_schema(
        plan="string", updated_at="string", domain="string", bookmark=bookmark
    )
    row = {"plan": "a", "updated_at": "2026-01-01", **company}
    target.run(schema, a_record(1, **row))
    bad = {**row, "updated_at": "2026-01-02"} if column == "updated_at" else row
    target.run(schema, a_record(1, **bad, email="broken"))
    assert dead_letters_left(target) == 1

    run = target.run(schema, a_record(1, **{**row, "updated_at": later}))

    is_old = bookmark and bad["updated_at"] > later  # an old page is read again
    assert run.outcomes in ({"duplicate": 1}, {"unchanged": 1})
    assert dead_letters_left(target) == (1 if is_old else 0)


def test_dead_letter_of_another_row_of_a_key_stays_beside_a_row_that_was_sent(
    target: TargetUnderTest,
) -> None:
    rows = a_record(1, plan="a"), a_record(1, plan="b", email="broken")

    for _ in range(3):
        target.run(a_schema(plan="string"), *rows)
        assert dead_letters_left(target) == 1


@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize("later", [{}, {"unsubscribed": True}, {"plan": "new"}])
def test_dead_letter_without_an_address_stays_if_people_share_its_key(
    target: TargetUnderTest, send: str, later: dict[str, Any]
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    schema = a_schema(unsubscribed="boolean", plan="string")
    ann, bob = (a_record(1, email=f"{name}@{name}.com") for name in ("ann", "bob"))
    target.run(schema, ann, bob)
    target.run(schema, ann, a_record(1, email="broken"))
    assert dead_letters_left(target) == 1

    target.run(schema, a_record(1, email="ann@ann.com", **later))

    assert dead_letters_left(target) == 1


@pytest.mark.parametrize("send", ["on_change", "always"])
@pytest.mark.parametrize("nights", [["a", "b"], ["ab"]])
def test_lost_signal_is_not_sent_after_a_newer_state(
    sandbox: Sandbox, target: TargetUnderTest, send: str, nights: list[str]
) -> None:
    target.config |= {"signals": [{"stream": "trials", "send": send}]}
    schema = a_schema(plan="string")
    sandbox.faults.add(Fault(kind="reset", on="send", count=1))
    for plans in nights:
        rows = (a_record(1, plan=plan) for plan in plans)
        target.run(schema, *rows, on_unknown="hold")

    signals(target, "dead-letters", "resolve", "1", "--resend")
    exported = signals(target, "dead-letters", "export").stdout
    replayed = target.run_text(exported)
    again = target.run(schema, a_record(1, plan="b"))

    assert replayed.outcomes == {"superseded": 1}
    assert again.outcomes == {"duplicate": 1}
    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b"]
    assert dead_letters_left(target) == 0
    target.run(schema, a_record(1, plan="a"))
    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b", "a"]


def test_lost_signal_before_a_newer_state_is_not_sent_beside_another_lost_one(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string")
    lost = Fault(kind="reset", on="send", containing='"plan":"a"')
    sandbox.faults.set([lost, Fault(kind="reset", on="send", containing='"plan":"c"')])
    rows = [a_record(1, plan=plan) for plan in "abc"]
    target.run(schema, *rows[:2], on_unknown="hold")
    target.run(schema, rows[2], on_unknown="hold")
    sandbox.faults.set([])

    signals(target, "dead-letters", "resolve", "1", "2", "--resend")
    signals(target, "dead-letters", "replay")

    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b", "c"]


@pytest.mark.parametrize("send", ["on_change", "once"])
@pytest.mark.parametrize("bookmark", ["at", None])
def test_lost_signal_of_a_row_that_was_touched_since_is_sent_once(
    sandbox: Sandbox, target: TargetUnderTest, send: str, bookmark: str | None
) -> None:
    item = {"stream": "trials", "send": send, "properties": ["plan"]}
    target.config |= {"signals": [item]}
    schema = a_schema(plan="string", at="string", bookmark=bookmark)
    sandbox.faults.add(Fault(kind="reset", on="send", count=1))
    target.run(schema, a_record(1, plan="a", at="2026-01-01"), on_unknown="hold")
    touched = a_record(1, plan="a", at="2026-01-02")
    target.run(schema, touched)

    signals(target, "dead-letters", "resolve", "1", "--resend")
    exported = signals(target, "dead-letters", "export").stdout
    replayed = target.run_text(exported)

    assert replayed.outcomes == {"accepted": 1}
    assert target.run(schema, touched).outcomes.get("accepted") is None
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize("send", ["on_change", "always"])
def test_lost_signal_is_not_sent_after_a_newer_state_of_the_same_day(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    target.config |= {"signals": [{"stream": "trials", "send": send}]}
    schema = a_schema(plan="string", at="string", bookmark="at")
    sandbox.faults.add(Fault(kind="reset", on="send", count=1))
    first, second = (a_record(1, plan=p, at="2026-01-01") for p in "ab")
    target.run(schema, first, second, on_unknown="hold")

    signals(target, "dead-letters", "resolve", "1", "--resend")
    exported = signals(target, "dead-letters", "export").stdout

    assert target.run_text(exported).outcomes == {"superseded": 1}
    assert target.run(schema, second).outcomes == {"duplicate": 1}
    assert [signal.properties["plan"] for signal in sandbox.signals] == ["b"]


@pytest.mark.parametrize("send", ["on_change", "always"])
def test_lost_signal_after_an_older_state_is_sent(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    target.config |= {"signals": [{"stream": "trials", "send": send}]}
    schema = a_schema(plan="string")
    rows = [a_record(1, plan="a"), a_record(1, plan="b")]
    lost = Fault(kind="reset", on="send", count=1, containing='"plan":"b"')
    sandbox.faults.add(lost)
    target.run(schema, *rows, on_unknown="hold")

    signals(target, "dead-letters", "resolve", "1", "--resend")
    exported = signals(target, "dead-letters", "export").stdout
    replayed = target.run_text(exported)
    again = target.run(schema, a_record(1, plan="b"))

    assert replayed.outcomes == {"accepted": 1}
    assert again.outcomes == {"duplicate": 1}
    assert [signal.properties["plan"] for signal in sandbox.signals] == ["a", "b"]


@pytest.mark.parametrize(
    ("send", "bookmark", "sent"),
    [("on_change", None, 0), ("always", None, 0), ("always", "at", 1)],
)
def test_replay_sends_no_older_state_than_an_unknown_one(
    sandbox: Sandbox,
    target: TargetUnderTest,
    send: str,
    bookmark: str | None,
    sent: int,
) -> None:
    target.config |= {"signals": [{"stream": "trials", "send": send}]}
    schema = a_schema(plan="string", at="string", bookmark=bookmark)
    target.run(schema, a_record(1, plan="a", at="2026-01-01", email="broken"))
    sandbox.faults.add(Fault(kind="status", status=500, count=1))
    target.run(schema, a_record(1, plan="b", at="2026-01-02"), on_unknown="hold")

    exported = signals(target, "dead-letters", "export").stdout
    target.run_text(exported.replace("broken", "u1@example.com"))

    assert len(sandbox.signals) == sent
    assert dead_letters_left(target) == 0


def test_dead_letter_stays_if_an_older_version_is_accepted(
    target: TargetUnderTest,
) -> None:
    run = target.run(a_schema(), a_record(1), a_record(1, email=None))

    assert run.outcomes == {"invalid": 1, "accepted": 1}
    assert dead_letters_left(target) == 1


def test_replay_takes_the_dead_letters_of_its_own_mappings_only(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    trials = [{"stream": "trials", "type": "trial"}]
    leads = [{"stream": "leads", "contact": {"email": "{{ email }}"}}]
    sandbox.faults.add(Fault(kind="status", status=422, count=2))
    target.run(a_schema(), a_record(1), signals=trials)
    target.run(a_schema("leads"), a_record(2, "leads"), signals=leads)
    target.run(a_schema(), a_record(3, email=None), namespace="other")

    own = signals(target, "dead-letters", "replay", signals=trials)
    none = signals(target, "dead-letters", "replay", signals=trials)

    assert own.returncode == 0, own.stderr
    assert "1 signal = 1 accepted" in own.stderr
    assert none.returncode == 1
    assert none.stderr == (
        "1 dead letter belongs to the mapping `leads` of stream `leads`, which the "
        "config lacks. After a rename, run `stairoids-signals ledger rename leads "
        "NEW --config config.json`, or for the mapping `stairoids-signals ledger "
        "rename leads --mapping leads NEW --config config.json`.\n"
        "No dead letters to send.\n"
    )
    assert [s.body["type"] for s in sandbox.signals] == ["trial"]
    assert dead_letters_left(target) == 1
    assert signals(target, "dead-letters", "replay", signals=leads).returncode == 0


def test_replay_after_a_rename_names_the_command_that_makes_it_send(
    target: TargetUnderTest,
) -> None:
    target.run(
        a_schema(nobody="string"),
        a_record(1, nobody=None),
        signals=[{"stream": "trials", "contact": {"email": "{{ nobody }}"}}],
    )
    target.config["signals"] = [
        {"stream": "public-trials", "contact": {"email": "{{ email }}"}}
    ]

    stopped = signals(target, "dead-letters", "replay")
    signals(target, "ledger", "rename", "trials", "public-trials")
    sent = signals(target, "dead-letters", "replay")

    assert stopped.returncode == 1
    assert (
        "`stairoids-signals ledger rename trials NEW --config config.json`"
        in stopped.stderr
    )
    assert (sent.returncode, "1 accepted" in sent.stderr) == (0, True), sent.stderr


@on_both_connectors
def test_replay_exits_with_1_and_the_count_if_dead_letters_stay(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), a_record(9), *(a_record(n, email=None) for n in range(6)))

    done = signals(target, "dead-letters", "replay")

    assert done.returncode == 1
    assert "6 signals = 6 invalid" in done.stderr
    assert done.stderr.splitlines()[-1] == "6 of 6 dead letters stay."


_OPT_OUT = {"stream": "trials", "occurred_at": "{{ at }}", "properties": ["plan"]}


@pytest.mark.parametrize(
    ("mapping", "row"),
    [
        ({}, {"unsubscribed": True}),
        ({}, {"_sdc_deleted_at": "2026-01-02"}),
        ({"when": "{{ plan != 'b' }}"}, {"plan": "b"}),
        ({"suppressed": True}, {}),
    ],
    ids=["opt-out", "deleted", "when", "suppressed"],
)
@pytest.mark.parametrize("bookmark", ["updated_at", None])
@pytest.mark.parametrize("at", ["bad", None], ids=["invalid", "rejected"])
def test_dead_letter_closes_when_a_later_run_filters_its_record(
    sandbox: Sandbox,
    target: TargetUnderTest,
    mapping: dict[str, Any],
    row: dict[str, Any],
    bookmark: str | None,
    at: str | None,
) -> None:
    own = {**_OPT_OUT, **mapping}
    listed = {"suppress": ["u1@example.com"]} if own.pop("suppressed", False) else {}
    schema = a_schema(
        plan="string", at="string", unsubscribed="boolean", updated_at="string",
        _sdc_deleted_at="string", bookmark=bookmark,
    )  # fmt: skip
    target.config["signals"] = [own]
    if at is None:
        sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, a_record(1, plan="a", at=at, updated_at="2026-01-01"))
    target.run(schema, a_record(2, plan="a", at="bad", updated_at="2026-01-01"))
    assert dead_letters_left(target) == 2

    newer = {"plan": "a", "at": None, "updated_at": "2026-01-02", **row}
    run = target.run(schema, a_record(1, **newer), **listed)
    target.config["signals"] = [{**own, "occurred_at": None}]
    replayed = signals(target, "dead-letters", "replay")

    assert run.outcomes == {"filtered": 1}
    assert "1 signal = 1 accepted" in replayed.stderr
    assert {s.body["contact"]["email"] for s in sandbox.signals} == {"u2@example.com"}


def test_dead_letter_closes_when_its_person_opts_out_in_the_same_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [{"stream": "trials"}]
    schema = a_schema(
        unsubscribed="boolean", updated_at="string", bookmark="updated_at"
    )
    before = a_record(1, unsubscribed=False, updated_at="2026-01-01")
    since = a_record(1, unsubscribed=True, updated_at="2026-01-02")
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, before)
    assert dead_letters_left(target) == 1

    target.run(schema, before, since)

    assert dead_letters_left(target) == 0


@pytest.mark.parametrize("keep_records", [True, False])
@pytest.mark.parametrize("others", [1, 0], ids=["both are read", "one is read"])
@pytest.mark.parametrize("out", ["ann", "bob"])
def test_dead_letter_of_a_shared_key_closes_when_its_own_person_opts_out(
    sandbox: Sandbox,
    target: TargetUnderTest,
    out: str,
    others: int,
    keep_records: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    target.config |= {"signals": [{"stream": "trials"}], "keep_records": keep_records}
    schema = a_schema(unsubscribed="boolean")
    rows = {n: a_record(1, email=f"{n}@{n}.com", unsubscribed=False) for n in PEOPLE}
    late = Fault(kind="status", status=422, containing="ann@")
    sandbox.faults.set([late])
    target.run(schema, *rows.values())
    assert len(listed(target)) == 1

    gone = a_record(1, email=f"{out}@{out}.com", unsubscribed=True)
    rest = [row for name, row in rows.items() if name != out]
    target.run(schema, gone, *rest[:others])

    assert len(listed(target)) == (0 if out == "ann" else 1)


@pytest.mark.parametrize("keep_records", [True, False])
@pytest.mark.parametrize("email", ["ann@acme.example", None])
def test_dead_letter_stays_if_another_person_with_its_key_opts_out(
    sandbox: Sandbox,
    target: TargetUnderTest,
    email: str | None,
    keep_records: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    target.config |= {"signals": [{"stream": "trials"}], "keep_records": keep_records}
    schema = a_schema(domain="string", unsubscribed="boolean")
    company = {"domain": "acme.example"}
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, a_record(1, email=email, unsubscribed=False, **company))

    bob = a_record(1, email="bob@acme.example", unsubscribed=True, **company)
    target.run(schema, bob)

    assert len(listed(target)) == 1


@pytest.mark.parametrize(("out", "left"), [("owner", 1), ("ann", 0)])
def test_person_of_a_dead_letter_is_read_by_the_corrected_mapping(
    target: TargetUnderTest, out: str, left: int
) -> None:
    wrong = {"email": "{{ owner }}"}, {"plan": "{{ plan | round(plan) }}"}
    item = {"stream": "trials", "contact": wrong[0], "properties": wrong[1]}
    schema = a_schema(owner="string", plan="string", unsubscribed="boolean")
    row = {"owner": "owner@birch.com", "plan": "pro"}
    target.config["signals"] = [item]
    target.run(schema, a_record(1, email="ann@birch.com", **row))
    assert len(listed(target)) == 1

    target.config["signals"] = [{"stream": "trials", "when": "not unsubscribed"}]
    gone = a_record(1, email=f"{out}@birch.com", unsubscribed=True, **row)
    target.run(schema, gone)

    assert len(listed(target)) == left


PEOPLE = ["ann", "bob"]


@pytest.mark.parametrize("at", ["bad", None], ids=["invalid", "rejected"])
def test_dead_letter_of_another_row_of_a_filtered_key_stays(
    sandbox: Sandbox, target: TargetUnderTest, at: str | None
) -> None:
    target.config["signals"] = [{**_OPT_OUT, "when": "{{ plan != 'b' }}"}]
    schema = a_schema(plan="string", at="string", updated_at="string")
    rows = a_record(1, plan="a", at=at), a_record(1, plan="b", at=None)
    if at is None:
        sandbox.faults.add(Fault(kind="status", status=422, count=1))

    for _ in range(2):
        target.run(schema, *rows)
        assert dead_letters_left(target) == 1


def test_dead_letter_stays_if_a_filtered_state_is_older(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{**_OPT_OUT, "when": "{{ plan != 'b' }}"}]
    schema = a_schema(
        plan="string", at="string", updated_at="string", bookmark="updated_at"
    )
    target.run(schema, a_record(1, plan="a", at="bad", updated_at="2026-01-02"))

    target.run(schema, a_record(1, plan="b", at=None, updated_at="2026-01-01"))

    assert dead_letters_left(target) == 1


@pytest.mark.parametrize("at", ["bad", None], ids=["invalid", "rejected"])
def test_dead_letter_closes_when_the_log_deletes_its_row_in_the_same_run(
    sandbox: Sandbox, target: TargetUnderTest, at: str | None
) -> None:
    target.config["signals"] = [_OPT_OUT]
    schema = a_schema(at="string", _sdc_lsn="integer", _sdc_deleted_at="string")
    if at is None:
        sandbox.faults.add(Fault(kind="status", status=422, count=1))

    target.run(
        schema,
        a_record(1, at=at, _sdc_lsn=1),
        a_record(1, at=None, _sdc_lsn=2, _sdc_deleted_at="2026-01-02"),
    )

    assert dead_letters_left(target) == 0


def test_unknown_dead_letter_of_a_filtered_record_stays_and_is_not_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500, count=1))
    target.run(a_schema(), a_record(1), on_unknown="hold")
    target.run(a_schema(unsubscribed="boolean"), a_record(1, unsubscribed=True))

    replayed = signals(target, "dead-letters", "replay")

    assert "unknown" in signals(target, "dead-letters", "list").stdout
    assert "No dead letters to send." in replayed.stderr
    assert sandbox.signals == []


def test_dead_letter_of_an_opt_out_closes_when_its_row_returns(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "suppress": "{{ email }}"}]
    for row, left in (({"email": "bad"}, 1), ({"_sdc_deleted_at": "2026"}, 0)):
        target.run(a_schema(_sdc_deleted_at="string"), a_record(1, **row))
        assert dead_letters_left(target) == left


@pytest.mark.parametrize("change", ["suppress", "when"])
def test_replay_closes_dead_letters_that_must_not_be_sent(
    target: TargetUnderTest, change: str
) -> None:
    target.config["signals"] = [
        {"stream": "trials", "contact": {"email": "{{ name }}"}}
    ]
    target.run(
        a_schema(name="string"), a_record(1, name="bad"), a_record(2, name="bad")
    )
    fixed: dict[str, Any] = {"stream": "trials", "when": "{{ id > 2 }}"}
    if change == "suppress":
        fixed["when"] = None
        target.config["suppress"] = ["example.com"]
    target.config["signals"] = [fixed]

    replayed = signals(target, "dead-letters", "replay")

    assert replayed.returncode == 0, replayed.stderr
    assert "2 signals = 2 filtered" in replayed.stderr
    assert dead_letters_left(target) == 0


def test_stream_that_the_ledger_does_not_know_gets_a_suggestion(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), a_record(email=None))

    typo = signals(target, "dead-letters", "list", "--stream", "trails")
    known = signals(target, "dead-letters", "list", "--stream", "trials")

    assert "No dead letters." in typo.stdout
    assert "knows no stream `trails`; did you mean `trials`?" in typo.stderr
    assert known.stderr == ""
