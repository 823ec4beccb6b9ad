"""Requests without a clear response are counted and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault
from target_stairoids.reporting.progress import summary, unanswered_in
from tests.support.commands import target_command
from tests.support.singer_io import a_record, a_schema, text_of, wait_until

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest

ACCEPTED = Fault(kind="drop_after_accept", count=2)
FAILED = Fault(kind="status", status=500, count=1)


@pytest.mark.parametrize(
    ("on_unknown", "faults", "unanswered"),
    [
        ("verify", [], {"requests": 0, "found": 0, "sent_again": 0, "held": 0}),
        ("verify", [ACCEPTED], {"requests": 2, "found": 2, "sent_again": 0, "held": 0}),
        ("verify", [FAILED], {"requests": 1, "found": 0, "sent_again": 1, "held": 0}),
        ("hold", [FAILED], {"requests": 1, "found": 0, "sent_again": 0, "held": 1}),
    ],
)
def test_report_counts_requests_without_a_clear_response(
    sandbox: Sandbox,
    target: TargetUnderTest,
    on_unknown: str,
    faults: list[Fault],
    unanswered: dict[str, int],
) -> None:
    sandbox.faults.set(faults)

    run = target.run(a_schema(), a_record(1), a_record(2), on_unknown=on_unknown)

    assert run.report["unanswered"] == unanswered
    assert run.report["adds_up"]


def test_lookup_does_not_find_the_equal_signal_of_another_record(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    mapping = {"stream": "trials", "properties": {"plan": "pro"}}
    one, two = (a_record(n, email="jo@example.com") for n in (1, 2))
    target.run(a_schema(), one, signals=[mapping])
    sandbox.faults.set([FAILED])

    others = [a_record(n) for n in (3, 4, 5)]  # else its key may be a new spelling
    run = target.run(a_schema(), two, *others, signals=[mapping])

    assert run.outcomes == {"accepted": 4}
    assert run.report["unanswered"]["sent_again"] == 1
    assert len(sandbox.signals) == 5


@pytest.mark.slow
def test_lookup_does_not_find_the_equal_signal_of_another_process(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """The other process sends it between the request and its lookup."""
    target.config["signals"] = [{"stream": "trials", "properties": {"plan": "pro"}}]
    target.config["verify_delay_seconds"] = 3
    one, two = (a_record(n, email="jo@example.com") for n in (1, 2))
    sandbox.faults.set([FAILED])

    with target.start(text_of([a_schema(), one])) as first:
        wait_until(lambda: len(sandbox.requests) > 0)
        second = target.run(a_schema(), two)
        assert first.stdin
        first.stdin.write(text_of([a_record(3)]).encode())
        first.stdin.close()
        first_code = first.wait(timeout=60)

    assert (first_code, second.exit_code) == (0, 0)
    emails = sorted(s.body["contact"]["email"] for s in sandbox.signals)
    assert emails == ["jo@example.com", "jo@example.com", "u3@example.com"]


@pytest.mark.parametrize("is_returned", [True, False], ids=["itself", "another row"])
def test_lookup_knows_the_earlier_signals_of_a_state_that_returned(
    sandbox: Sandbox, target: TargetUnderTest, *, is_returned: bool
) -> None:
    """The ledger has one row for a state, which names its last signal only."""
    schema = a_schema(domain="string", plan="string")
    target.config["signals"] = [
        {
            "stream": "trials",
            "contact": {"email": "{{ email }}"},
            "account": {"domain": "{{ domain }}"},
            "properties": ["plan"],
        }
    ]
    company = a_record(1, email=None, domain="acme.example")
    plans = ["a", "b"] if is_returned else ["a", "b", "a"]
    for plan in plans:
        target.run(schema, {**company, "record": {**company["record"], "plan": plan}})
    unclear = {**company, "record": {**company["record"], "plan": "a"}}
    if not is_returned:
        unclear = a_record(2, email="jo@example.com", plan="a")
    sandbox.faults.set([FAILED])

    run = target.run(schema, unclear, *(a_record(n, plan="a") for n in (3, 4, 5)))

    assert run.outcomes == {"accepted": 4}
    assert run.report["unanswered"]["sent_again"] == 1
    assert len(sandbox.signals) == len(plans) + 4


def test_log_has_one_line_about_requests_without_a_clear_response(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([ACCEPTED])

    done = target_command(target, text_of([a_schema(), a_record(1), a_record(2)]))

    assert "2 requests got no clear response: 2 found at Stairoids." in done.stderr


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((1, 0, 0, 0), "1 request got no clear response: 1 left for the next run."),
        (
            (1_004, 1_000, 1, 2),
            (
                "1,004 requests got no clear response: 1,000 found at Stairoids, 1 "
                "sent again, 2 held for a person to resolve, 1 left for the next run."
            ),
        ),
    ],
)
def test_requests_without_a_clear_response_are_one_sentence(
    counts: tuple[int, int, int, int], sentence: str
) -> None:
    names = ("requests", "found", "sent_again", "held")

    found = unanswered_in(dict(zip(names, counts, strict=True)))

    assert list(found) == [sentence]


def test_sum_line_counts_signals_recovered_from_killed_runs() -> None:
    report = {
        "exit_code": 0,
        "signals": 3,
        "outcomes": {"accepted": 3, "duplicate": 0},
        "recovered": {"accepted": 2, "pending": 1},
        "read": 3,
        "seconds": 0.25,
    }

    assert summary(report, is_whole=True) == (
        "3 signals = 3 accepted (3 records read, 0.2 s); "
        "recovered from earlier runs: 2 accepted, 1 pending"
    )
