"""`stairoids-signals send` sends a few records, or one signal, as a run does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import signals
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox

TRIAL: dict[str, Any] = {
    "type": "trial",
    "source": "crm",
    "contact": {"email": "ann@example.com", "first_name": "Ann"},
    "account": {"domain": "example.com"},
    "occurred_at": "2026-01-31T12:00:00Z",
    "properties": {"plan name": "pro", "seats": 3, "mrr": 9.5, "is_paid": True},
}


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    path = tmp_path / "messages.jsonl"
    shops = a_schema("shops", key=["region", "id"], region="string")
    rows = a_record(7, "shops", region="eu"), a_record(7, "shops", region="us")
    path.write_text(
        text_of([a_schema(), *map(a_record, range(1, 5)), a_state(), shops, *rows])
    )
    return path


def emails_in(sandbox: Sandbox) -> list[str]:
    return [signal.body["contact"]["email"] for signal in sandbox.signals]


@pytest.mark.parametrize(
    ("words", "emails"),
    [
        (["--key", "3"], ["u3@example.com"]),
        (["--limit", "2"], ["u1@example.com", "u2@example.com"]),
        (["--limit", "1", "--stream", "shops"], ["u7@example.com"]),
        (["--key", '["us",7]'], ["u7@example.com"]),
        (["--key", "region=us, id=7"], ["u7@example.com"]),
    ],
)
def test_chosen_records_are_sent_and_their_ids_printed(
    sandbox: Sandbox,
    target: TargetUnderTest,
    messages: Path,
    words: list[str],
    emails: list[str],
) -> None:
    done = signals(target, "send", messages, *words, "--format", "json")

    assert done.returncode == 0, done.stderr
    assert emails_in(sandbox) == emails
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["signal_id"] for row in printed] == [s.id for s in sandbox.signals]
    assert f"{len(emails)} accepted" in done.stderr


@pytest.mark.parametrize("key", ["1.10", "[1.10]"])
def test_key_with_a_fraction_keeps_its_digits(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path, key: str
) -> None:
    record = json.dumps(a_record()).replace('"id": 1,', '"id": 1.10,')
    path = tmp_path / "fractions.jsonl"
    path.write_text(text_of([a_schema(), record]))

    done = signals(target, "send", path, "--key", key)

    assert (done.returncode, len(sandbox.signals)) == (0, 1), done.stderr


def test_sent_record_is_a_duplicate_for_the_next_run(
    sandbox: Sandbox, target: TargetUnderTest, messages: Path
) -> None:
    first = signals(target, "send", messages, "--key", "3")
    again = signals(target, "send", messages, "--key", "3")
    run = target.run_text(messages.read_text())

    assert sandbox.signals[0].id in first.stdout
    assert (again.returncode, again.stdout) == (0, "")
    assert "1 duplicate" in again.stderr
    assert run.outcomes == {"accepted": 5, "duplicate": 1}


@pytest.mark.parametrize(("count", "exit_code"), [("1", 1), ("2", 0)])
def test_exit_code_is_1_only_if_a_dead_letter_is_left(
    target: TargetUnderTest, messages: Path, count: str, exit_code: int
) -> None:
    messages.write_text(text_of([a_schema(), a_record(1, email="?"), a_record(1)]))

    done = signals(target, "send", messages, "--limit", count)

    assert (done.returncode, "1 invalid" in done.stderr) == (exit_code, True)
    left = signals(target, "dead-letters", "list").stdout
    assert left.startswith("No dead letters.") is not bool(exit_code)


def test_send_warns_of_no_mapping_of_the_streams_that_it_left_out(
    target: TargetUnderTest, messages: Path
) -> None:
    items = [{"stream": stream} for stream in ("trials", "shops")]

    done = signals(target, "send", messages, "--limit", "1", signals=items)

    assert "1 accepted" in done.stderr
    assert "No stream matched" not in done.stderr


def test_baseline_of_a_stream_does_not_end_with_one_sent_record(
    sandbox: Sandbox, target: TargetUnderTest, messages: Path
) -> None:
    signals(target, "send", messages, "--limit", "1")

    run = target.run_text(messages.read_text(), first_run="baseline")

    assert run.outcomes == {"baselined": 5, "duplicate": 1}
    assert len(sandbox.signals) == 1


def test_sent_record_leaves_the_others_to_the_baseline_of_the_next_run(
    sandbox: Sandbox, target: TargetUnderTest, messages: Path
) -> None:
    target.config["first_run"] = "baseline"

    signals(target, "send", messages, "--limit", "1")
    run = target.run_text(messages.read_text())
    later = target.run_text(messages.read_text() + text_of([a_record(5)]))

    assert run.outcomes == {"duplicate": 1, "baselined": 5}
    assert later.outcomes == {"duplicate": 6, "accepted": 1}
    assert emails_in(sandbox) == ["u5@example.com"]


def test_send_is_no_empty_baseline_of_a_new_ledger(
    target: TargetUnderTest, messages: Path
) -> None:
    done = signals(target, "send", messages, "--limit", "1", first_run="baseline")

    assert done.returncode == 0, done.stderr
    assert "1 signal = 1 baselined" in done.stderr


def test_nothing_of_a_stream_that_is_set_aside_is_sent(
    sandbox: Sandbox, target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    schema = a_schema(plan="string")
    many = range(1, 80)
    target.run(schema, *(a_record(n, plan="a") for n in many))
    changed = text_of([schema, *(a_record(n, plan="b") for n in many)])
    run = target.run_text(changed)
    assert run.exit_code == 1
    assert "ledger allow trials" in run.error
    sent = len(sandbox.signals)
    path = target.folder / "changed.jsonl"
    path.write_text(changed)

    done = signals(target, "send", path, "--key", "79")

    assert done.returncode == 1
    assert "Stream `trials`: a check has set it aside." in done.stderr
    assert len(sandbox.signals) == sent
    caplog.clear()
    target.run_text(changed, dry_run=True)
    assert "ledger allow trials" in caplog.text
    allowed = signals(target, "ledger", "allow", "trials")
    assert "more than 50 of its 79 known records have changed" in allowed.stdout


def test_signal_as_json_is_sent_once(sandbox: Sandbox, target: TargetUnderTest) -> None:
    first = signals(target, "send", "--json", json.dumps(TRIAL))
    again = signals(target, "send", "--json", json.dumps(TRIAL))
    spelling = {"email": " ann@EXAMPLE.com ", "first_name": "Ann"}
    same = signals(target, "send", "--json", json.dumps({**TRIAL, "contact": spelling}))
    other = {**TRIAL, "properties": {"plan name": "free"}}
    signals(target, "send", "--json", json.dumps(other))

    assert first.returncode == 0, first.stderr
    assert sandbox.signals[0].id in first.stdout
    assert sandbox.signals[0].body == TRIAL
    assert "1 duplicate" in again.stderr
    assert "1 duplicate" in same.stderr
    assert [s.body["properties"]["plan name"] for s in sandbox.signals] == [
        "pro",
        "free",
    ]


def test_signal_as_json_passes_the_checks_of_streams(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    cut = target.run(a_schema(), a_record(1), "{", first_run="baseline")
    assert cut.exit_code == 1

    sent = [
        signals(target, "send", "--json", json.dumps(TRIAL), namespace=namespace)
        for namespace in (None, "eu")
    ]

    assert [one.returncode for one in sent] == [0, 0]
    assert len(sandbox.signals) == 2


def test_signal_as_json_with_properties_in_another_order_is_a_duplicate(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    for properties in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        one = {**TRIAL, "properties": properties}
        done = signals(target, "send", "--json", json.dumps(one))

    assert "1 duplicate" in done.stderr
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    "signal",
    [
        {"type": "a", "source": "b", "contact": {"email": "ann@example.com"}},
        {"type": "a", "source": "b", "account": {"domain": "example.com"}},
        {
            "type": "a",
            "source": "b",
            "account": {"domain": "example.com"},
            "properties": {"{{ x }}": "{{ y }}", "email": "x", "when": 1, "": "z"},
        },
    ],
)
def test_signal_as_json_is_sent_as_it_is(
    sandbox: Sandbox, target: TargetUnderTest, signal: dict[str, Any]
) -> None:
    done = signals(target, "send", "--json", json.dumps(signal))

    assert done.returncode == 0, done.stderr
    assert [sent.body for sent in sandbox.signals] == [signal]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--json", "{"], "--json, line 1, column 2: not JSON."),
        (["--json", '{"type": "\\ud800"}'], "--json is not a signal as a JSON object."),
        (["--json", "[1]"], "--json is not a signal"),
        (["--json", '{"type": "a"}'], "--json lacks the text `source`."),
        (["--json", '{"type": "a", "source": " "}'], "--json lacks the text `source`."),
        (["--json", '{"type": "{{ a }}"}'], "--json has a template as `type`."),
        (["--json", json.dumps({**TRIAL, "contakt": {}})], "unknown field `contakt`"),
        (
            ["--json", json.dumps({**TRIAL, "contact": {"mail": "a"}})],
            "unknown field `contact.mail`",
        ),
        (
            ["--json", json.dumps({**TRIAL, "contact": {"email": "canary"}})],
            "--json breaks a rule: contact.email: not an email address",
        ),
        *(
            (
                ["--json", json.dumps({**TRIAL, **odd})],
                f"--json breaks a rule: {field}: would be left out.",
            )
            for field, odd in (
                ("contact.email", {"contact": {"email": ["canary@example.com"]}}),
                ("contact.first_name", {"contact": {"first_name": "canary"}}),
                ("account.name", {"account": {"domain": "example.com", "name": 42}}),
            )
        ),
        (
            ["MESSAGES", "--key", "99"],
            "MESSAGES has no such record. `stairoids-signals explain MESSAGES` lists",
        ),
        (["MESSAGES", "--key", "[7"], "--key is not a JSON array."),
    ],
)
def test_wrong_choice_is_one_sentence_and_leaves_nothing(
    sandbox: Sandbox,
    target: TargetUnderTest,
    messages: Path,
    words: list[str],
    says: str,
) -> None:
    named = [messages if word == "MESSAGES" else word for word in words]

    done = signals(target, "send", *named)

    assert done.returncode == 1
    assert says in done.stderr
    assert "canary" not in done.stderr
    assert sandbox.requests == []
    assert not (target.folder / "ledger.db").exists()


@pytest.mark.parametrize("keys", [7, [[7]]])
def test_odd_key_of_a_schema_is_one_sentence(
    target: TargetUnderTest, messages: Path, keys: object
) -> None:
    messages.write_text(text_of([{**a_schema(), "key_properties": keys}, a_record(7)]))

    done = signals(target, "send", messages, "--key", "7")

    assert done.returncode == 1
    assert "stream `trials` is wrong: `key_properties` is not a list" in done.stderr


@pytest.mark.parametrize(
    "words", [[], ["--key", "1"], ["--json", "{}", "--limit", "1"]]
)
def test_ambiguous_command_line_is_refused(
    target: TargetUnderTest, words: list[str]
) -> None:
    done = signals(target, "send", *words)

    assert done.returncode == 2
    assert "Give MESSAGES with either --key or --limit, or give --json." in done.stderr
