"""Invalid records, rejections, lost responses and outages, end to end."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from stairoids_sandbox import Fault, Sandbox
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
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


@on_both_connectors
def test_invalid_record_is_a_dead_letter_and_others_are_sent(
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


@on_both_connectors
def test_rejected_signal_is_a_dead_letter_and_not_sent_again(
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
    assert warning.startswith(
        "Stream `clicks` is left out, because its records have neither an"
    )
    assert "`signals`" in warning
    assert not sandbox.requests


def test_deleted_row_is_not_sent(sandbox: Sandbox, target: TargetUnderTest) -> None:
    run = target.run(
        a_schema(), a_record(_sdc_deleted_at="2026-01-01T00:00:00Z"), a_record(2)
    )

    assert run.outcomes == {"filtered": 1, "accepted": 1}
    assert emails(sandbox) == ["u2@example.com"]


@pytest.mark.parametrize("text", ["\ud83d", "ab \udc00 c"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_record_with_half_a_surrogate_pair_is_invalid(
    sandbox: Sandbox, target: TargetUnderTest, text: str, *, is_shared: bool
) -> None:
    others = [a_record(1 if is_shared else n) for n in (1, 2)]

    run = target.run(a_schema(plan="string"), a_record(1, plan=text), *others)

    assert run.exit_code == 0
    assert run.outcomes["invalid"] == 1
    assert "half a surrogate pair" in run.report["reasons"][0]["reason"]
    assert len(sandbox.signals) == run.outcomes["accepted"]


@pytest.mark.parametrize("email", ["\ud83d", "\ud83d@acme.com", "ada@acme\ud83d.com"])
def test_address_with_half_a_surrogate_pair_is_invalid(
    sandbox: Sandbox, target: TargetUnderTest, email: str
) -> None:
    run = target.run(a_schema(), a_record(1, email=email), a_record(2))

    assert run.outcomes == {"invalid": 1, "accepted": 1}
    assert emails(sandbox) == ["u2@example.com"]


@pytest.mark.usefixtures("short_backoff")
@on_both_connectors
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
def test_each_signal_is_accepted_once_if_responses_are_lost(
    sandbox: Sandbox, target: TargetUnderTest, fault: Fault
) -> None:
    sandbox.faults.add(fault)

    run = target.run(a_schema(), *(a_record(n) for n in range(1, 11)), a_state())

    assert sorted(emails(sandbox)) == sorted(f"u{n}@example.com" for n in range(1, 11))
    assert run.outcomes == {"accepted": 10}
    assert run.states == [{"at": 1}]


def test_unknown_signal_is_a_dead_letter_if_the_key_may_not_read(
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


def test_unknown_signal_is_not_looked_up_with_on_unknown_hold(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=2))

    held = target.run(a_schema(), a_record(1), on_unknown="hold")

    assert held.outcomes == {"unknown": 1}
    assert emails(sandbox) == ["u1@example.com"]
    assert {r.method for r in sandbox.requests} == {"POST"}


@on_both_connectors
def test_wrong_key_stops_the_run_and_loses_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 51)), a_state()]

    refused = target.run(*messages, api_key="sk_wrong")
    requests = len(sandbox.requests)
    fixed = target.run(*messages)

    assert refused.exit_code == 1
    assert "`api_key`" in refused.error
    assert sandbox.url in refused.error
    assert "sk_wrong" not in refused.error
    assert refused.outcomes == {"pending": 50}
    assert refused.states == []
    assert requests <= 8
    assert fixed.outcomes == {"accepted": 50}
    assert len(sandbox.signals) == 50


@on_both_connectors
def test_unreachable_api_is_incomplete_and_the_next_run_resumes(
    target: TargetUnderTest,
) -> None:
    unreachable = target.run(
        a_schema(), a_record(), a_state(), outage_seconds=0,
        api_url="http://127.0.0.1:9/v1",
    )  # fmt: skip
    resumed = target.run(a_schema(), a_record(), a_state())

    assert unreachable.exit_code == 75
    assert "http://127.0.0.1:9/v1" in unreachable.error
    assert unreachable.outcomes == {"pending": 1}
    assert unreachable.states == []
    assert resumed.outcomes == {"accepted": 1}


def test_incomplete_run_has_exit_code_0_with_on_incomplete_succeed(
    target: TargetUnderTest,
) -> None:
    run = target.run(
        a_schema(), a_record(1), a_state(1), a_record(2), a_record(3), a_state(2),
        max_signals_per_run=1, on_incomplete="succeed",
    )  # fmt: skip

    assert run.exit_code == 0
    assert run.states in ([], [{"at": 1}])
    assert run.outcomes["accepted"] == 1


@on_both_connectors
def test_max_signals_per_run_leaves_the_rest_pending(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 11)), a_state()]

    first = target.run(*messages, max_signals_per_run=4)
    second = target.run(*messages)

    assert (first.exit_code, first.outcomes) == (75, {"accepted": 4, "pending": 6})
    assert first.states == []
    assert second.outcomes == {"duplicate": 4, "accepted": 6}
    assert len(sandbox.signals) == 10


def test_throttled_requests_are_sent_again_after_retry_after(
    tmp_path: Path,
) -> None:
    with Sandbox(requests_per_minute=5, window_seconds=1) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)

        run = target.run(a_schema(), *(a_record(n) for n in range(1, 9)))

    assert run.outcomes == {"accepted": 8}
    assert len(sandbox.signals) == 8


def test_run_ends_if_the_quota_of_the_day_is_spent(tmp_path: Path) -> None:
    with Sandbox(requests_per_day=3) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)

        run = target.run(a_schema(), *(a_record(n) for n in range(1, 6)), a_state())

    assert run.exit_code == 75
    assert run.outcomes == {"accepted": 3, "pending": 2}
    assert run.states == []


@pytest.mark.usefixtures("short_backoff")
@on_both_connectors
def test_signals_about_one_person_keep_their_order_across_retries(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    fault = Fault(kind="status", status=503, retry_after=0, probability=0.2, seed=7)
    sandbox.faults.add(fault)
    records = [a_record(n, email="one@example.com") for n in range(1, 31)]

    run = target.run(a_schema(), *records)

    numbers = [signal.body["properties"]["id"] for signal in sandbox.signals]
    assert numbers == list(range(1, 31))
    assert run.outcomes == {"accepted": 30}


@pytest.mark.slow
@pytest.mark.usefixtures("short_backoff")
def test_signals_about_one_person_keep_their_order_after_unclear_requests(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """Each run ends before a request that a later signal must prove."""
    target.config["request_timeout_seconds"] = 1
    unclear = Fault(kind="status", status=500, probability=0.2, seed=7)
    sandbox.faults.set([replace(unclear, containing="one@example.com")])
    records = [a_record(n, email="one@example.com") for n in range(1, 11)]

    codes = [
        target.run(a_schema(), *records, a_record(100 + n)).exit_code for n in range(10)
    ]

    bodies = [signal.body for signal in sandbox.signals]
    ours = [b for b in bodies if b["contact"]["email"] == "one@example.com"]
    assert [body["properties"]["id"] for body in ours] == list(range(1, 11))
    assert codes[0] == 75
    assert codes[-1] == 0


def test_states_of_a_log_keep_their_order_though_their_addresses_differ(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """The second run could send the third state only, as if of another person."""
    target.config |= {"request_timeout_seconds": 1, "outage_seconds": 0}
    fields = {"contact": {"email": "{{ email }}"}, "account": {"domain": "acme.test"}}
    target.config["signals"] = [{"stream": "trials", **fields}]
    schema = a_schema(_sdc_lsn="integer")
    first, second, third = (
        a_record(1, email=email, _sdc_lsn=position)
        for position, email in [(4, None), (6, "old@a.test"), (8, "new@a.test")]
    )
    sandbox.faults.set([Fault(kind="status", status=500, count=1)])

    codes = [
        target.run(schema, *records).exit_code
        for records in ([first], [first, second, third])
    ]
    last = target.run(schema, first, second, third, a_record(2, _sdc_lsn=9))

    assert codes == [75, 75]
    assert last.exit_code == 0
    emails = [s.body.get("contact", {}).get("email") for s in sandbox.signals]
    assert [email for email in emails if email != "u2@example.com"] == [
        None,
        "old@a.test",
        "new@a.test",
    ]


@on_both_connectors
def test_unwritable_ledger_is_one_error_with_the_setting(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    run = target.run(
        a_schema(), a_record(), ledger_url=f"sqlite:///{tmp_path}/file/ledger.db"
    )

    assert run.exit_code == 1
    assert "`ledger_url`" in run.error


def test_log_and_report_have_no_key_and_no_personal_data(
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


@pytest.mark.parametrize(
    ("status", "hint"), [(402, "a paid invoice"), (407, "The proxy needs a password")]
)
def test_refusal_names_its_likely_cause(
    sandbox: Sandbox, target: TargetUnderTest, status: int, hint: str
) -> None:
    sandbox.faults.add(Fault(kind="status", status=status))

    run = target.run(a_schema(), a_record(1))

    assert run.exit_code == 1
    assert hint in run.error
