"""Duplicate, unchanged and changed records, end to end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
)

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox


@on_both_connectors
def test_decimals_keep_all_their_digits(target: TargetUnderTest) -> None:
    line = (
        '{"type":"RECORD","stream":"trials","record":{"id":1,'
        '"email":"a@example.com","ltv":1234567890.123456789012}}'
    )

    run = target.run(a_schema(ltv="number"), line)

    assert run.outcomes == {"accepted": 1}
    again = target.run(a_schema(ltv="number"), line.replace("012}", "013}"))
    assert again.outcomes == {"accepted": 1}


@on_both_connectors
def test_second_run_sends_nothing(sandbox: Sandbox, target: TargetUnderTest) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 21)), a_state()]

    first = target.run(*messages)
    second = target.run(*messages)

    assert first.outcomes == {"accepted": 20}
    assert second.outcomes == {"duplicate": 20}
    assert len(sandbox.signals) == 20
    assert first.states == second.states == [{"at": 1}]


@on_both_connectors
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
def test_touched_row_without_a_bookmark_is_not_sent(
    target: TargetUnderTest, mapping: dict[str, object], outcome: str
) -> None:
    schema = a_schema(LastModifiedDate="string")
    signals = [{"stream": "trials", **mapping}]
    target.run(schema, a_record(LastModifiedDate="2026-01-01"), signals=signals)

    run = target.run(schema, a_record(LastModifiedDate="2026-01-02"), signals=signals)

    assert run.outcomes == {outcome: 1}


@pytest.mark.parametrize("key", [[], ["id"]])
@pytest.mark.parametrize(
    "field", ["record.get('email')", "'email' in record and email"]
)
def test_touched_row_is_not_sent_by_a_mapping_that_asks_for_a_column(
    target: TargetUnderTest, key: list[str], field: str
) -> None:
    schema = a_schema(key=key, seen="string")
    address = {"email": f"{{{{ {field} }}}}"}
    signals = [{"stream": "trials", "contact": address, "properties": {"a": "b"}}]
    target.run(schema, a_record(seen="a"), signals=signals)

    run = target.run(schema, a_record(seen="b"), signals=signals)

    assert sum(run.outcomes.values()) == 1
    assert "accepted" not in run.outcomes


@pytest.mark.parametrize("read", ["record.get('updated_at')", "record.updated_at"])
def test_changed_bookmark_is_sent_if_a_template_names_it_as_its_own_variable(
    sandbox: Sandbox, target: TargetUnderTest, read: str
) -> None:
    schema = a_schema(bookmark="updated_at", updated_at="string")
    day = f"{{% set updated_at = {read} %}}{{{{ updated_at[:10] }}}}"
    address = {"email": "{{ email }}"}
    signals = [{"stream": "trials", "contact": address, "properties": {"day": day}}]

    for moment in ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"):
        target.run(schema, a_record(updated_at=moment), signals=signals)

    days = [signal.body["properties"]["day"] for signal in sandbox.signals]
    assert days == ["2026-01-01", "2026-01-02"]


def test_replay_of_states_with_one_bookmark_value_sends_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """Several states of a row share a bookmark value that is a date."""
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
def test_new_bookmark_is_sent_only_if_a_mapping_reads_it(
    target: TargetUnderTest, mapping: dict[str, object], outcome: str
) -> None:
    schema = a_schema(bookmark="updated_at", plan="string", updated_at="string")
    signals = [{"stream": "trials", **mapping}]
    target.run(
        schema, a_record(plan="pro", updated_at="2026-01-01T00:00:00Z"), signals=signals
    )

    touched = target.run(
        schema, a_record(plan="pro", updated_at="2026-03-01T00:00:00Z"), signals=signals
    )

    assert touched.outcomes == {outcome: 1}


def test_touched_row_under_a_changed_mapping_is_not_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(bookmark="updated_at", plan="string", updated_at="string")
    for month, properties in enumerate((["plan"], ["plan", {"tier": "{{ plan }}"}]), 1):
        target.run(
            schema,
            a_record(plan="pro", updated_at=f"2026-0{month}-01T00:00:00Z"),
            signals=[{"stream": "trials", "properties": properties}],
        )

    assert [s.body["properties"] for s in sandbox.signals] == [{"plan": "pro"}]


@on_both_connectors
def test_row_that_changes_back_is_sent_three_times_in_three_syncs(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    for plan in ("free", "pro", "free"):
        target.run(a_schema(plan="string"), a_record(plan=plan))

    plans = [signal.body["properties"]["plan"] for signal in sandbox.signals]
    assert plans == ["free", "pro", "free"]


@on_both_connectors
def test_changed_row_is_not_sent_again_with_send_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "trials", "send": "once"}]

    for plan in ("free", "pro", "team"):
        target.run(a_schema(plan="string"), a_record(plan=plan), signals=signals)

    assert len(sandbox.signals) == 1


@on_both_connectors
def test_changed_mapping_does_not_resend(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = [{"stream": "trials", "type": "t", "properties": ["plan"]}]
    changed = [{"stream": "trials", "type": "t", "properties": {"x": "{{ plan }}"}}]
    target.run(a_schema(plan="string"), a_record(plan="a"), signals=first)

    run = target.run(a_schema(plan="string"), a_record(plan="a"), signals=changed)

    assert run.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 1


def test_new_bookmark_in_a_later_schema_is_used(target: TargetUnderTest) -> None:
    at = "2024-01-0{}T00:00:00Z".format
    schemas = [
        a_schema(updated_at="string"),
        a_schema(updated_at="string", bookmark="updated_at"),
    ]
    target.run(*schemas, a_record(1, updated_at=at(2), plan="b"))

    run = target.run(*schemas, a_record(1, updated_at=at(1), plan="a"))

    assert run.outcomes == {"superseded": 1}


@on_both_connectors
def test_row_with_another_spelling_of_its_values_is_a_duplicate(
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

    runs = [target.run_text(text) for text in (one, other, other, one)]

    assert [run.outcomes for run in runs] == [{"accepted": 1}] + [{"duplicate": 1}] * 3
    assert len(sandbox.signals) == 1


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
