"""Responses that are wrong: HTML, lists that lag, wrong clocks, slow acceptance."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault, Sandbox
from tests.support.commands import signals
from tests.support.raw_server import ListServer, Server, running
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

HTML = Fault(kind="html", on="all")


def sent(sandbox: Sandbox) -> Counter[str]:
    """Return how often each person's signal was accepted."""
    return Counter(s.contact.email for s in sandbox.signals if s.contact)


@pytest.mark.parametrize("first_run", ["send", "guard"])
@pytest.mark.slow
def test_html_stops_the_run_and_the_next_one_sends_each_signal_once(
    sandbox: Sandbox, target: TargetUnderTest, first_run: str
) -> None:
    records = [a_schema(), *map(a_record, range(20))]
    sandbox.faults.set([HTML])
    stopped = target.run(*records, first_run=first_run)
    made = len(sandbox.requests)
    sandbox.faults.set([])
    run = target.run(*records, first_run=first_run, request_timeout_seconds=1)

    assert stopped.exit_code == 1
    assert "does not look like the Stairoids API" in stopped.error
    assert "The URL of Stairoids is https://api.stairoids.com/v1." in stopped.error
    assert "HTML" in stopped.error
    assert stopped.outcomes == {"pending": 20}
    assert made == 1
    assert run.exit_code == 0
    assert sent(sandbox) == {f"u{n}@example.com": 1 for n in range(20)}


@pytest.mark.slow
def test_html_after_an_accepted_signal_is_looked_up(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="html", containing="u1@")])
    sandbox.faults.add(Fault(kind="html", count=1, on="read"))

    run = target.run(a_schema(), *map(a_record, range(3)), outage_seconds=30)

    assert run.outcomes["accepted"] == 2
    assert run.report["unanswered"]["requests"] >= 1
    assert max(sent(sandbox).values()) == 1


def test_check_refuses_an_address_that_answers_with_html(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([HTML])

    done = signals(target, "check")

    assert done.returncode == 1
    assert "does not look like the Stairoids API" in done.stderr


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        ("302 Found", "", "answered with 302 "),
        ("307 Temporary Redirect", "", "answered with 307 "),
        ("200 OK", '{"data": [1, null]}', "answered with another JSON object"),
        ("200 OK", '{"data": null}', "answered with another JSON object"),
        ("200 OK", "", "answered with "),
    ],
)
def test_check_and_preview_name_an_address_that_is_not_the_api(
    target: TargetUnderTest, head: str, body: str, says: str
) -> None:
    server = Server()
    response = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    server.response = response.encode()
    target.config |= {"api_url": server.url, "first_run": "guard"}
    text = text_of([a_schema(), a_record()])
    with running(server):
        done = signals(target, "check")
        seen = signals(target, "preview", "--online", text=text)

    assert done.returncode == 1
    for output in (done, seen):
        assert "does not look like the Stairoids API" in output.stdout + output.stderr
        assert says in output.stdout + output.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"clock_offset_seconds": -600},
        {"clock_offset_seconds": 7200},
        {"filters_exactly": True},
        {"list_lag_seconds": 2},
    ],
    ids=["clock is behind", "clock is ahead", "exact filters", "list lags"],
)
def test_lost_responses_double_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    people = [f"U{n}@Example.com" for n in range(10)]
    records = [a_record(n, email=email) for n, email in enumerate(people)]
    lost = [Fault(kind="drop_after_accept", probability=0.5, count=6, seed=4)]
    with Sandbox(faults=lost, **options) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url, outage_seconds=30)
        for _ in range(2):
            target.run(a_schema(), *records, request_timeout_seconds=1)

    assert sent(sandbox) == {email.lower(): 1 for email in people}


@pytest.mark.slow
def test_kill_while_signals_are_accepted_late_doubles_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    records = [a_schema(), *map(a_record, range(5))]
    config = {"request_timeout_seconds": 3, "max_in_flight": 5}
    target.run(a_schema("others"), a_record(9, "others"))
    sandbox.faults.set([Fault(kind="slow_accept", delay_ms=1_500)])
    before = len(sandbox.requests)
    with target.start(text_of(records), **config) as process:
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: bool(target_claims(target)))
        process.kill()
    run = target.run(*records, a_record(6), **config)

    assert len(sandbox.requests) > before
    assert run.exit_code == 0
    assert sent(sandbox) == {f"u{n}@example.com": 1 for n in (0, 1, 2, 3, 4, 6, 9)}


def target_claims(target: TargetUnderTest) -> list[Any]:
    """Return the claims in the ledger."""
    with sqlite3.connect(target.folder / "ledger.db") as ledger:
        return ledger.execute("SELECT entity FROM stairoids_claims").fetchall()


@pytest.mark.parametrize(
    "seconds", [5, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.soak])]
)
def test_signal_without_a_later_one_is_pending_and_not_sent_again(
    sandbox: Sandbox, target: TargetUnderTest, seconds: int
) -> None:
    target.config["request_timeout_seconds"] = 1
    sandbox.faults.set([Fault(kind="status", status=500)])

    run = target.run(a_schema(), a_record(1), outage_seconds=seconds)

    assert run.exit_code == 75
    assert run.outcomes == {"pending": 1}
    assert run.states == []
    assert "`on_unknown: hold`" in run.error
    assert target.run(a_schema(), a_record(1), on_unknown="hold").exit_code == 0
    assert [r.method for r in sandbox.requests].count("POST") == 1


@pytest.mark.usefixtures("short_backoff")
@pytest.mark.parametrize(
    "listed",
    [
        {"type": 7},
        {"source": ["singer"]},
        pytest.param({"created_at": "2020-01-01T00:00:00Z"}, marks=pytest.mark.slow),
        pytest.param({"properties": "none"}, marks=pytest.mark.slow),
        {"is_endless": True, "contact": {"email": "somebody@example.com"}},
    ],
    ids=str,
)
def test_list_that_cannot_be_right_sends_nothing_again(
    tmp_path: Path, listed: dict[str, Any]
) -> None:
    server = ListServer(**listed)
    with running(server):
        target = TargetUnderTest(tmp_path, server.url)
        run = target.run(a_schema(), *map(a_record, range(3)))

    emails = [signal["contact"]["email"] for signal in server.signals]
    assert sorted(emails) == [f"u{n}@example.com" for n in range(3)]
    assert run.outcomes["accepted"] == 2
    reasons = {e["reason"] for e in run.report["reasons"] if e["outcome"] == "unknown"}
    assert "200 without an error code" not in reasons


@pytest.mark.slow
def test_lookup_ends_at_signals_that_are_older_than_the_request(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """The ledger's first run made older signals of the same company."""
    records = [a_record(n, email="one@acme.com") for n in range(450)]
    target.run(a_schema(), *records)
    wait_until(lambda: sandbox_age(sandbox) > 5)
    sandbox.faults.set([Fault(kind="status", status=500, count=1)])
    before = len(sandbox.requests)

    run = target.run(a_schema(), *map(a_record, range(1_000, 1_002)))

    assert run.outcomes == {"accepted": 2}
    reads = [r for r in sandbox.requests[before:] if r.method == "GET"]
    assert len(reads) <= 2


def sandbox_age(sandbox: Sandbox) -> float:
    """Return the seconds since the newest signal."""
    return (datetime.now(UTC) - sandbox.signals[-1].created_at).total_seconds()


@pytest.mark.slow
@pytest.mark.usefixtures("short_backoff")
def test_payload_that_always_fails_is_a_dead_letter_after_eight_attempts(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """Its company's other signals go on."""
    sandbox.faults.set([Fault(kind="status", status=500, containing="poison@")])
    poison = a_record(0, email="poison@acme.com")

    runs = []
    for night in range(10):
        new = [a_record(n, email=f"u{n}@acme.com") for n in range(1, 3 + night)]
        runs.append(target.run(a_schema(), poison, *new, request_timeout_seconds=1))
        if runs[-1].exit_code == 0:
            break

    posts = [r for r in sandbox.requests if r.method == "POST" and r.status == 500]
    assert runs[-1].exit_code == 0
    assert len(posts) <= 8
    assert len(sandbox.signals) == len(new)
    assert all(run.exit_code == 75 for run in runs[:-1])
