"""The target, end to end against the sandbox: what a user sees."""

from __future__ import annotations

import gzip
import json
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from singer_sdk.exceptions import (
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)

from stairoids_sandbox import Fault, Sandbox
from tests.support.connectors import on_both_faces
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path


def emails(sandbox: Sandbox) -> list[str]:
    return [signal.body["contact"]["email"] for signal in sandbox.signals]


# Sending


@on_both_faces
def test_record_becomes_the_signal_its_mapping_describes(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    mapping = {
        "stream": "tri*",
        "type": "product_trial_started",
        "source": "billing",
        "account": {"domain": "{{ site }}", "name": "{{ company }}"},
        "contact": {"email": "{{ email }}", "first_name": "{{ who.first }}"},
        "occurred_at": "{{ started }}",
        "properties": ["plan", {"seats": "{{ seats }}"}],
    }
    schema = a_schema(
        site="string", company="string", plan="string", seats="number",
        started="string", who="object",
    )  # fmt: skip
    record = a_record(
        site="https://www.Acme.example/pricing",
        company="Acme",
        plan="pro",
        seats=5,
        started="2026-03-01T10:00:00+02:00",
        who={"first": "Jane"},
    )

    run = target.run(schema, record, signals=[mapping])

    assert run.outcomes == {"accepted": 1}
    assert [signal.body for signal in sandbox.signals] == [
        {
            "type": "product_trial_started",
            "source": "billing",
            "account": {"domain": "acme.example", "name": "Acme"},
            "contact": {"email": "u1@example.com", "first_name": "Jane"},
            "occurred_at": "2026-03-01T08:00:00Z",
            "properties": {"plan": "pro", "seats": 5},
        }
    ]


def test_without_mapping_the_signal_is_inferred(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELTANO_EXTRACTOR_NAME", "tap-postgres")

    target.run(a_schema(plan="string"), a_record(plan="pro"))

    assert [signal.body for signal in sandbox.signals] == [
        {
            "type": "trials",
            "source": "postgres",
            "contact": {"email": "u1@example.com"},
            "properties": {"id": 1, "plan": "pro"},
        }
    ]


def test_one_record_gives_the_signals_of_all_its_mappings(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "trials", "type": "one"}, {"stream": "trials", "type": "two"}]

    first = target.run(a_schema(), a_record(), signals=signals)
    second = target.run(a_schema(), a_record(), signals=signals)

    assert sorted(s.body["type"] for s in sandbox.signals) == ["one", "two"]
    assert first.outcomes == {"accepted": 2}
    assert second.outcomes == {"duplicate": 2}


@on_both_faces
def test_decimals_keep_all_their_digits(target: TargetUnderTest) -> None:
    line = (
        '{"type":"RECORD","stream":"trials","record":{"id":1,'
        '"email":"a@example.com","ltv":1234567890.123456789012}}'
    )

    run = target.run(a_schema(ltv="number"), line)

    assert run.outcomes == {"accepted": 1}
    again = target.run(a_schema(ltv="number"), line.replace("012}", "013}"))
    assert again.outcomes == {"accepted": 1}


# Once


@on_both_faces
def test_second_run_sends_nothing(sandbox: Sandbox, target: TargetUnderTest) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 21)), a_state()]

    first = target.run(*messages)
    second = target.run(*messages)

    assert first.outcomes == {"accepted": 20}
    assert second.outcomes == {"duplicate": 20}
    assert len(sandbox.signals) == 20
    assert first.states == second.states == [{"at": 1}]


@on_both_faces
def test_changed_row_is_sent_and_a_touched_one_is_not(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(bookmark="updated_at", plan="string", updated_at="string")
    target.run(
        schema,
        a_record(1, plan="free", updated_at="2026-01-01T00:00:00Z"),
        a_record(2, plan="free", updated_at="2026-01-01T00:00:00Z"),
    )

    run = target.run(
        schema,
        a_record(1, plan="free", updated_at="2026-01-02T00:00:00Z"),
        a_record(2, plan="pro", updated_at="2026-01-02T00:00:00Z"),
    )

    assert run.outcomes == {"unchanged": 1, "accepted": 1}
    assert sandbox.signals[-1].body["properties"]["plan"] == "pro"


@pytest.mark.parametrize(
    ("mapping", "outcome"),
    [({}, "unchanged"), ({"ignore_changes": []}, "accepted")],
)
def test_touched_row_of_a_stream_without_a_bookmark_is_not_sent(
    target: TargetUnderTest, mapping: dict[str, object], outcome: str
) -> None:
    schema = a_schema(LastModifiedDate="string")
    signals = [{"stream": "trials", **mapping}]
    target.run(schema, a_record(LastModifiedDate="2026-01-01"), signals=signals)

    run = target.run(schema, a_record(LastModifiedDate="2026-01-02"), signals=signals)

    assert run.outcomes == {outcome: 1}


def test_touched_row_that_changes_again_at_the_same_position_is_never_sent_back(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """Dates as bookmarks: many states share one, and a log is replayed with all."""
    schema = a_schema(bookmark="updated_on", plan="string", updated_on="string")
    log = [
        a_record(1, plan="free", updated_on="2026-01-01"),
        a_record(1, plan="free", updated_on="2026-01-02"),
        a_record(1, plan="pro", updated_on="2026-01-02"),
    ]
    for record in log:
        target.run(schema, record)

    replayed = target.run(schema, *log)

    assert replayed.outcomes == {"duplicate": 3}
    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["free", "pro"]


@pytest.mark.parametrize(
    ("mapping", "outcome"),
    [
        ({}, "unchanged"),
        ({"properties": ["plan", "updated_at"]}, "unchanged"),
        ({"occurred_at": "{{ updated_at }}"}, "unchanged"),
        ({"properties": {"since": "{{ updated_at }}"}}, "accepted"),
        ({"properties": {"since": "{{ record['updated_at'] }}"}}, "accepted"),
        ({"properties": {"all": "{{ record | tojson }}"}}, "accepted"),
        ({"when": "updated_at < '2026-02-01'"}, "filtered"),
    ],
)
def test_bookmark_is_news_only_where_a_mapping_says_it(
    target: TargetUnderTest, mapping: dict[str, object], outcome: str
) -> None:
    """What is made of the same is not made again, but what reads the bookmark is."""
    schema = a_schema(bookmark="updated_at", plan="string", updated_at="string")
    signals = [{"stream": "trials", **mapping}]
    target.run(
        schema, a_record(plan="pro", updated_at="2026-01-01T00:00:00Z"), signals=signals
    )

    touched = target.run(
        schema, a_record(plan="pro", updated_at="2026-03-01T00:00:00Z"), signals=signals
    )

    assert touched.outcomes == {outcome: 1}


def test_what_a_changed_mapping_makes_of_a_touched_row_is_news(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(bookmark="updated_at", plan="string", updated_at="string")
    for month, properties in enumerate((["plan"], ["plan", {"tier": "{{ plan }}"}]), 1):
        target.run(
            schema,
            a_record(plan="pro", updated_at=f"2026-0{month}-01T00:00:00Z"),
            signals=[{"stream": "trials", "properties": properties}],
        )

    assert [s.body["properties"] for s in sandbox.signals] == [
        {"plan": "pro"},
        {"plan": "pro", "tier": "pro"},
    ]


@on_both_faces
def test_there_and_back_again_is_three_signals_over_three_syncs(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    for plan in ("free", "pro", "free"):
        target.run(a_schema(plan="string"), a_record(plan=plan))

    plans = [signal.body["properties"]["plan"] for signal in sandbox.signals]
    assert plans == ["free", "pro", "free"]


@on_both_faces
def test_once_is_once_whatever_changes(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "trials", "send": "once"}]

    for plan in ("free", "pro", "team"):
        target.run(a_schema(plan="string"), a_record(plan=plan), signals=signals)

    assert len(sandbox.signals) == 1


@on_both_faces
def test_reworded_mapping_resends_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = [{"stream": "trials", "type": "t", "properties": ["plan"]}]
    reworded = [{"stream": "trials", "type": "t", "properties": {"x": "{{ plan }}"}}]
    target.run(a_schema(plan="string"), a_record(plan="a"), signals=first)

    run = target.run(a_schema(plan="string"), a_record(plan="a"), signals=reworded)

    assert run.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 1


# What cannot be sent


@on_both_faces
def test_invalid_record_is_a_dead_letter_and_costs_no_other(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    run = target.run(
        a_schema(), a_record(1), a_record(2, email=None), a_record(3), a_state()
    )

    assert run.outcomes == {"accepted": 2, "invalid": 1}
    assert run.report["reasons"] == [
        {
            "stream": "trials",
            "outcome": "invalid",
            "reason": "neither account.domain nor contact.email is known",
            "count": 1,
        }
    ]
    assert run.states == [{"at": 1}]
    assert sorted(emails(sandbox)) == ["u1@example.com", "u3@example.com"]


@on_both_faces
def test_rejected_signal_is_a_dead_letter_and_not_tried_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), a_record(1, email="x@excluded.example"), a_record(2)]
    signals = [{"stream": "trials", "account": {"domain": "{{ email }}"}}]

    first = target.run(*messages, signals=signals)
    second = target.run(*messages, signals=signals)

    assert first.outcomes == {"accepted": 1, "rejected": 1}
    assert first.report["reasons"][0]["reason"] == "422 domain_excluded"
    assert second.outcomes == {"duplicate": 2}
    assert sum(r.method == "POST" for r in sandbox.requests) == 2


def test_stream_that_cannot_be_sent_is_left_out_with_one_warning(
    sandbox: Sandbox, target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    schema = a_schema("clicks")
    del schema["schema"]["properties"]["email"]
    record = {"type": "RECORD", "stream": "clicks", "record": {"id": 1}}

    with caplog.at_level(logging.WARNING):
        run = target.run(schema, record, record, a_state())

    assert run.outcomes == {"filtered": 2}
    (warning,) = [r.message for r in caplog.records if "clicks" in r.message]
    assert warning.startswith("Stream `clicks` is left out: neither an e-mail nor a")
    assert "`signals`" in warning
    assert not sandbox.requests


def test_deleted_row_is_not_sent(sandbox: Sandbox, target: TargetUnderTest) -> None:
    run = target.run(
        a_schema(), a_record(_sdc_deleted_at="2026-01-01T00:00:00Z"), a_record(2)
    )

    assert run.outcomes == {"filtered": 1, "accepted": 1}
    assert emails(sandbox) == ["u2@example.com"]


# OutageClock on the way


@on_both_faces
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="drop_after_accept", count=3),
        Fault(kind="truncate_after_accept", count=3),
        Fault(kind="status_after_accept", status=504, count=3),
        Fault(kind="status", status=500, count=3),
        Fault(kind="status", status=503, count=3),
        Fault(kind="status", status=503, retry_after=0, count=3),
        Fault(kind="reset", count=3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.retry_after}",
)
def test_each_signal_arrives_once_whatever_happens_to_the_answers(
    sandbox: Sandbox, target: TargetUnderTest, fault: Fault
) -> None:
    sandbox.faults.add(fault)

    run = target.run(a_schema(), *(a_record(n) for n in range(1, 11)), a_state())

    assert sorted(emails(sandbox)) == sorted(f"u{n}@example.com" for n in range(1, 11))
    assert run.outcomes == {"accepted": 10}
    assert run.states == [{"at": 1}]


def test_without_read_scope_an_unknown_signal_waits_for_a_person(
    tmp_path: Path,
) -> None:
    faults = [Fault(kind="drop_after_accept", count=1)]
    with Sandbox(keys={"sk_w": "write"}, faults=faults) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url, api_key="sk_w")

        first = target.run(a_schema(), a_record(1), a_record(2), a_state())
        second = target.run(a_schema(), a_record(1), a_record(2), a_state())

    assert first.outcomes == {"accepted": 1, "unknown": 1}
    assert second.outcomes == {"duplicate": 2}
    assert len(sandbox.signals) == 2


def test_hold_keeps_an_unanswered_request_without_a_lookup(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=2))

    held = target.run(a_schema(), a_record(1), on_unknown="hold")

    assert held.outcomes == {"unknown": 1}
    assert emails(sandbox) == ["u1@example.com"]
    assert {r.method for r in sandbox.requests} == {"POST"}


@on_both_faces
def test_wrong_key_stops_at_once_and_loses_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 51)), a_state()]

    refused = target.run(*messages, api_key="sk_wrong")
    requests = len(sandbox.requests)
    mended = target.run(*messages)

    assert refused.exit_code == 1
    assert "`api_key`" in refused.error
    assert sandbox.url in refused.error
    assert "sk_wrong" not in refused.error
    assert refused.outcomes == {"pending": 50}
    assert refused.states == []
    assert requests <= 8
    assert mended.outcomes == {"accepted": 50}
    assert len(sandbox.signals) == 50


@on_both_faces
def test_unreachable_api_is_incomplete_and_the_next_run_resumes(
    target: TargetUnderTest,
) -> None:
    nowhere = target.run(
        a_schema(), a_record(), a_state(), outage_seconds=0,
        api_url="http://127.0.0.1:9/v1",
    )  # fmt: skip
    resumed = target.run(a_schema(), a_record(), a_state())

    assert nowhere.exit_code == 75
    assert "http://127.0.0.1:9/v1" in nowhere.error
    assert nowhere.outcomes == {"pending": 1}
    assert nowhere.states == []
    assert resumed.outcomes == {"accepted": 1}


def test_incomplete_run_may_succeed_if_asked_to_and_passes_no_state(
    target: TargetUnderTest,
) -> None:
    run = target.run(
        a_schema(), a_record(1), a_state(1), a_record(2), a_record(3), a_state(2),
        max_signals_per_run=1, on_incomplete="succeed",
    )  # fmt: skip

    assert run.exit_code == 0
    assert run.states in ([], [{"at": 1}])
    assert run.outcomes["accepted"] == 1


@on_both_faces
def test_cap_leaves_the_rest_for_the_next_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 11)), a_state()]

    first = target.run(*messages, max_signals_per_run=4)
    second = target.run(*messages)

    assert (first.exit_code, first.outcomes) == (75, {"accepted": 4, "pending": 6})
    assert first.states == []
    assert second.outcomes == {"duplicate": 4, "accepted": 6}
    assert len(sandbox.signals) == 10


def test_throttled_requests_are_sent_again_when_stairoids_says(
    tmp_path: Path,
) -> None:
    with Sandbox(requests_per_minute=5, window_seconds=1) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)

        run = target.run(a_schema(), *(a_record(n) for n in range(1, 9)))

    assert run.outcomes == {"accepted": 8}
    assert len(sandbox.signals) == 8


def test_third_throttling_in_a_row_is_the_end_of_the_day(tmp_path: Path) -> None:
    with Sandbox(requests_per_day=3) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)

        run = target.run(a_schema(), *(a_record(n) for n in range(1, 6)), a_state())

    assert run.exit_code == 75
    assert run.outcomes == {"accepted": 3, "pending": 2}
    assert run.states == []


@on_both_faces
def test_signals_about_one_person_keep_their_order(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500, probability=0.2, seed=7))
    records = [a_record(n, email="one@example.com") for n in range(1, 31)]

    run = target.run(a_schema(), *records)

    numbers = [signal.body["properties"]["id"] for signal in sandbox.signals]
    assert numbers == list(range(1, 31))
    assert run.outcomes == {"accepted": 30}


# The first run


@on_both_faces
def test_new_ledger_and_old_signals_do_not_go_together(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1))
    elsewhere = f"sqlite:///{target.folder / 'new.db'}"

    run = target.run(a_schema(), a_record(1), ledger_url=elsewhere, first_run="guard")

    assert run.exit_code == 1
    assert "`first_run`" in run.error
    assert len(sandbox.signals) == 1


def test_guard_lets_a_first_run_pass_and_does_not_ask_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = target.run(a_schema(), a_record(1), first_run="guard")
    second = target.run(a_schema(), a_record(2), first_run="guard")

    assert first.outcomes == second.outcomes == {"accepted": 1}
    assert [r.method for r in sandbox.requests] == ["GET", "POST", "POST"]


@on_both_faces
def test_baseline_remembers_and_sends_only_what_comes_after(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = target.run(a_schema(), a_record(1), a_state(), first_run="baseline")
    second = target.run(a_schema(), a_record(1), a_record(2), first_run="baseline")

    assert first.outcomes == {"baselined": 1}
    assert first.states == [{"at": 1}]
    assert second.outcomes == {"duplicate": 1, "accepted": 1}
    assert emails(sandbox) == ["u2@example.com"]


def test_dry_run_shows_and_touches_nothing(
    sandbox: Sandbox, target: TargetUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    run = target.run(a_schema(), a_record(1), a_record(1), a_state(), dry_run=True)

    assert run.outcomes == {"would_send": 1, "duplicate": 1}
    assert run.states == []
    assert not sandbox.requests
    assert not (target.folder / "ledger.db").exists()
    assert '"u1@example.com"' in capsys.readouterr().err


# Messages


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("not json", "Line 4 of the input is not JSON"),
        ('["RECORD"]', "Line 4 of the input is not a Singer message"),
        ('{"type":"FANCY"}', "unknown type `FANCY`"),
        ('{"type":"RECORD","stream":"trials"}', "lacks its record"),
        ('{"type":"SCHEMA","stream":"x"}', "A SCHEMA message lacks `schema`"),
        ('{"type":"STATE"}', "A STATE message lacks `value`"),
    ],
)
def test_bad_message_ends_the_run_after_everything_before_it(
    sandbox: Sandbox,
    target: TargetUnderTest,
    caplog: pytest.LogCaptureFixture,
    bad: str,
    error: str,
) -> None:
    run = target.run(a_schema(), a_record(1), a_state(1), bad, a_record(2), a_state(2))

    assert run.exit_code == 1
    assert error in run.error
    assert "Line 4" in run.error or "message 4 of the input" in caplog.text
    assert run.outcomes == {"accepted": 1}
    assert run.states == [{"at": 1}]
    assert emails(sandbox) == ["u1@example.com"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (a_record(2, stream="strange"), RecordsWithoutSchemaException),
        (
            {"type": "RECORD", "stream": "trials", "record": {"email": "x@y.example"}},
            MissingKeyPropertiesError,
        ),
    ],
    ids=["before its schema", "without its key"],
)
def test_record_no_target_can_use_ends_the_run_the_sdk_way(
    sandbox: Sandbox, target: TargetUnderTest, bad: Message, error: type[Exception]
) -> None:
    with pytest.raises(error):
        target.run(a_schema(), a_record(1), bad)

    assert emails(sandbox) == ["u1@example.com"]


def test_batch_files_are_records_too(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "batch.json.gz"
    lines = [json.dumps(a_record(n)["record"]) for n in (1, 2, 3)]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    batch = {
        "type": "BATCH",
        "stream": "trials",
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "manifest": [file.as_uri()],
    }

    run = target.run(a_schema(), batch, a_state())

    assert run.outcomes == {"accepted": 3}
    assert run.states == [{"at": 1}]
    assert len(sandbox.signals) == 3


def test_activate_version_changes_nothing(target: TargetUnderTest) -> None:
    version = {"type": "ACTIVATE_VERSION", "stream": "trials", "version": 1}

    run = target.run(a_schema(), version, a_record(), version)

    assert run.outcomes == {"accepted": 1}


def test_schema_change_in_the_middle_keeps_the_order(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    mail = {"email": "one@example.com"}

    run = target.run(
        a_schema(), a_record(1, **mail), a_schema(plan="string"),
        a_record(2, plan="pro", **mail), a_schema(), a_record(3, **mail),
    )  # fmt: skip

    assert [s.body["properties"]["id"] for s in sandbox.signals] == [1, 2, 3]
    assert run.outcomes == {"accepted": 3}


def test_stream_maps_work_in_front(sandbox: Sandbox, target: TargetUnderTest) -> None:
    maps = {
        "trials": {
            "__alias__": "starts",
            "__filter__": "plan != 'free'",
            "email": "email.lower()",
        }
    }

    run = target.run(
        a_schema(plan="string"),
        a_record(1, plan="free"),
        a_record(2, plan="pro", email="ANN@EXAMPLE.COM"),
        stream_maps=maps,
    )

    assert run.outcomes == {"filtered": 1, "accepted": 1}
    assert [(s.body["type"], s.body["contact"]["email"]) for s in sandbox.signals] == [
        ("starts", "ann@example.com")
    ]


def test_failing_stream_map_names_stream_and_remedy_but_no_value(
    target: TargetUnderTest,
) -> None:
    run = target.run(
        a_schema(),
        a_record(1, email=None),
        stream_maps={"trials": {"email": "email.lower()"}},
    )

    assert run.exit_code == 1
    assert "Stream `trials`" in run.error
    assert "`stream_maps`" in run.error


@on_both_faces
def test_mistake_in_a_mapping_is_found_at_the_schema(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "trials", "contact": {"email": "{{ emial }}"}}]

    run = target.run(a_schema(), a_record(), signals=signals)

    assert run.exit_code == 1
    assert "`emial` is not a property of `trials`; did you mean `email`?" in run.error
    assert not sandbox.requests


def test_nothing_of_a_misspelt_stream_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    items = [{"stream": "trails", "contact": {"email": "{{ email }}"}}]

    run = target.run(a_schema(), a_record(), signals=items)

    assert run.exit_code == 1
    assert "Correct `trails`" in run.error
    assert sandbox.signals == []


# State


@on_both_faces
def test_state_waits_for_everything_before_it(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=30))

    run = target.run(
        a_schema(), a_record(1), a_state(1), a_record(2), a_state(2), a_record(3)
    )

    assert run.states[-1] == {"at": 2}
    assert run.outcomes == {"accepted": 3}


def test_empty_state_is_nobodys_news(target: TargetUnderTest) -> None:
    run = target.run({"type": "STATE", "value": {}}, a_schema(), a_record())

    assert run.states == []


@on_both_faces
def test_report_adds_up_and_counts_by_stream(target: TargetUnderTest) -> None:
    run = target.run(
        a_schema(), a_schema("leads"), a_record(1), a_record(2, stream="leads")
    )

    assert run.report["adds_up"]
    assert run.report["signals"] == run.report["read"] == 2
    assert run.report["streams"] == {
        "trials": {"accepted": 1},
        "leads": {"accepted": 1},
    }
    assert run.report["exit_code"] == 0


@on_both_faces
def test_unwritable_ledger_is_one_clear_error(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    run = target.run(
        a_schema(), a_record(), ledger_url=f"sqlite:///{tmp_path}/file/ledger.db"
    )

    assert run.exit_code == 1
    assert "`ledger_url`" in run.error


def test_no_key_and_no_person_is_ever_logged(
    sandbox: Sandbox, target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    sandbox.faults.add(Fault(kind="status", status=422, count=1))

    with caplog.at_level(logging.DEBUG):
        target.run(
            a_schema(plan="string"),
            a_record(1, plan="canary_plan", email="canary_mail@example.com"),
            a_record(2, email="canary_bad"),
            a_record(3),
            text_of([a_state()]).strip(),
        )

    ours = (r for r in caplog.records if not r.name.startswith("uvicorn"))
    text = "\n".join(r.getMessage() for r in ours) + json.dumps(target.report())
    assert "canary" not in text
    assert "sk_test_sandbox" not in text


def test_schema_in_which_only_the_bookmark_changes_counts(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    at = "2024-01-0{}T00:00:00Z".format
    target.run(
        a_schema(updated_at="string"),
        a_schema(updated_at="string", bookmark="updated_at"),
        a_record(1, updated_at=at(2), plan="b"),
        a_record(1, updated_at=at(1), plan="a"),
    )

    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["b"]


@pytest.mark.parametrize("number", ["1e9999999999999999999", "-1E-9999999999999999999"])
def test_number_beyond_all_bounds_is_bad_input_and_costs_no_other_record(
    target: TargetUnderTest, number: str
) -> None:
    line = f'{{"type":"RECORD","stream":"trials","record":{{"id":2,"n":{number}}}}}'

    run = target.run(a_schema(), a_record(1), line, a_record(3))

    assert run.exit_code == 1
    assert "Stream `trials`: A record" in run.error
    assert "number out of bounds" in run.error
    assert run.outcomes == {"accepted": 1}


# Spelling


def spellings_in(target: TargetUnderTest) -> set[bytes | None]:
    path = target.folder / "ledger.db"
    with closing(sqlite3.connect(path)) as database:
        return {
            row[0] for row in database.execute("SELECT spelling FROM stairoids_latest")
        }


@on_both_faces
def test_row_that_is_spelt_otherwise_is_the_same_and_known_word_for_word_next_time(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = json.dumps(a_schema(email="string", mrr="number"))
    one, other = (
        schema + '\n{"type": "RECORD", "stream": "trials", "record": ' + record + "}\n"
        for record in (
            '{"id": 1, "email": "a@b.example", "mrr": 1.50}',
            '{"mrr": 1.5, "email": "a@b.example", "id": 1.0}',
        )
    )

    outcomes = [target.run_text(one).outcomes]
    spelt = spellings_in(target)
    outcomes.append(target.run_text(other).outcomes)
    spelt_otherwise = spellings_in(target)
    outcomes.append(target.run_text(other).outcomes)

    assert outcomes == [{"accepted": 1}, {"duplicate": 1}, {"duplicate": 1}]
    assert len(sandbox.signals) == 1
    assert None not in spelt
    assert not spelt & spelt_otherwise
    assert spellings_in(target) == spelt_otherwise


@on_both_faces
def test_record_that_cannot_be_decoded_costs_none_before_it(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    record = text_of([a_record(2, mrr=1)]).replace("1}", "1e9999999999999999999}")
    before, after = text_of([a_schema(mrr="number"), a_record(1)]), a_record(3)

    run = target.run_text(before + record + text_of([after]))

    assert run.exit_code == 1
    assert "number out of bounds" in run.error
    assert emails(sandbox) == ["u1@example.com"]
    assert run.outcomes == {"accepted": 1}
