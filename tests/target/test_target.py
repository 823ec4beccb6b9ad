"""The target, end to end: records become signals, STATE and a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_sandbox import Fault, Sandbox
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
)

if TYPE_CHECKING:
    import pytest


@on_both_connectors
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


def test_record_becomes_a_signal_for_each_mapping(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "trials", "type": "one"}, {"stream": "trials", "type": "two"}]

    first = target.run(a_schema(), a_record(), signals=signals)
    second = target.run(a_schema(), a_record(), signals=signals)

    assert sorted(s.body["type"] for s in sandbox.signals) == ["one", "two"]
    assert first.outcomes == {"accepted": 2}
    assert second.outcomes == {"duplicate": 2}


def test_dry_run_prints_requests_and_sends_nothing(
    sandbox: Sandbox, target: TargetUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    run = target.run(a_schema(), a_record(1), a_record(1), a_state(), dry_run=True)

    assert run.outcomes == {"would_send": 1, "duplicate": 1}
    assert run.states == []
    assert not sandbox.requests
    assert not (target.folder / "ledger.db").exists()
    assert '"u1@example.com"' in capsys.readouterr().err


@on_both_connectors
def test_state_waits_for_everything_before_it(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=30))

    run = target.run(
        a_schema(), a_record(1), a_state(1), a_record(2), a_state(2), a_record(3)
    )

    assert run.states[-1] == {"at": 2}
    assert run.outcomes == {"accepted": 3}


def test_empty_state_is_not_emitted(target: TargetUnderTest) -> None:
    run = target.run({"type": "STATE", "value": {}}, a_schema(), a_record())

    assert run.states == []


@on_both_connectors
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
