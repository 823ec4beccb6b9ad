"""Progress and summary of a run at a terminal and in a log."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.reporting.next_steps import next_steps
from target_stairoids.reporting.progress import LogProgress, status_line
from target_stairoids.reporting.report import Report
from tests.support.commands import target_command
from tests.support.forks import forked
from tests.support.singer_io import a_record, a_schema, a_state, text_of

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest

NOTHING = dict.fromkeys(map(str, Outcome), 0)


def at_a_terminal(target: TargetUnderTest, text: str) -> tuple[int, str, bytes]:
    """Run the target at a terminal, and return exit code, stderr and stdout."""
    (target.folder / "messages.jsonl").write_text(text)
    outer, inner = pty.openpty()
    with (
        (target.folder / "messages.jsonl").open() as messages,
        subprocess.Popen(
            forked(target.command(target.config)),
            stdin=messages,
            stdout=subprocess.PIPE,
            stderr=inner,
            cwd=target.folder,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"},
        ) as process,
    ):
        os.close(inner)
        seen = b""
        try:
            while piece := os.read(outer, 65536):
                seen += piece
        except OSError:
            pass  # how Linux says that the other side is closed
        os.close(outer)
        assert process.stdout
        printed = process.stdout.read()
    return process.returncode, seen.decode(), printed


def plain(seen: str) -> str:
    """Return the output of a terminal without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)


def test_terminal_has_a_table_the_reasons_and_the_next_step(
    target: TargetUnderTest,
) -> None:
    messages = [a_schema(), a_record(1), a_record(2, email=None), a_state()]

    code, seen, printed = at_a_terminal(target, text_of(messages))

    lines = [" ".join(line.split()) for line in plain(seen).splitlines()]
    assert code == 0
    assert "stream accepted invalid" in lines
    assert "trials 1 1" in lines
    assert any(line.startswith("2 signals = 1 accepted + 1 invalid") for line in lines)
    assert (
        "1 invalid in trials: neither account.domain nor contact.email is known"
        in lines
    )
    list_them = "stairoids-signals dead-letters list --with-key --config "
    config = target.folder / "config.json"
    assert f"See which, and why: {list_them}{config}" in lines
    assert "Run report" not in seen
    assert printed.splitlines() == [b'{"at":1}']


def test_log_lines_do_not_break_the_live_line_of_a_terminal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=700, count=1))
    item = {"stream": "trials", "properties": [{"p": "{{ user.none }}"}]}
    target.config["signals"] = [item]
    messages = [a_schema(user="object"), a_record(1), a_record(2)]

    code, seen, _ = at_a_terminal(target, text_of(messages))

    assert code == 0
    assert "2 records read · 2 in the queue" in plain(seen)
    cleared = "\x1b[2K"
    (warning,) = [line for line in seen.splitlines() if "no record had" in line]
    assert " · " not in plain(warning.rpartition(cleared)[2])
    assert " · " not in plain(seen.rpartition(cleared)[2])


def test_log_has_the_summary_and_a_warning_with_the_reasons(
    target: TargetUnderTest,
) -> None:
    messages = [a_schema(), a_record(1), a_record(2, email=None), a_state()]

    done = target_command(target, text_of(messages))

    assert "Run report" not in done.stderr  # it is in the ledger
    assert "2 signals = 1 accepted + 1 invalid (2 records read" in done.stderr
    (reason,) = [x for x in done.stderr.splitlines() if "1 invalid in trials:" in x]
    assert "WARNING" in reason
    assert "\x1b" not in done.stderr


def test_empty_input_is_a_warning(target: TargetUnderTest) -> None:
    done = target_command(target, "")

    assert done.returncode == 0
    assert "The input was empty. Did the tap fail?" in done.stderr
    assert "Nothing to send (0 records read, " in done.stderr


def test_a_run_that_fails_before_its_input_does_not_say_that_nothing_was_due(
    target: TargetUnderTest,
) -> None:
    messages = [a_schema(), a_record(1), a_state()]
    target_command(target, text_of(messages))

    done = target_command(target, text_of(messages), api_key="sk_wrong")

    assert done.returncode == 1
    assert "Nothing was sent (0 records read, " in done.stderr
    assert "Nothing to send" not in done.stderr


def test_a_run_that_waits_does_not_say_that_nothing_was_due(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `on_incomplete: succeed`, such a run has exit code 0."""
    caplog.set_level("INFO")
    report = Report().as_dict(exit_code=0, requests=0, quota=None)

    LogProgress().end(report, is_whole=False)

    assert "Nothing was sent (0 records read, " in caplog.text


def test_seconds_of_a_run_do_not_follow_a_clock_that_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = Report()
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)

    class Earlier(datetime):
        @classmethod
        def now(cls, _tz: object = None) -> datetime:  # type: ignore[override]
            return an_hour_ago

    monkeypatch.setattr("target_stairoids.reporting.report.datetime", Earlier)
    ended = report.as_dict(exit_code=0, requests=0, quota=None)

    assert 0 <= ended["seconds"] < 60
    assert ended["ended_at"] == an_hour_ago.isoformat()


def status(**more: Any) -> str:
    report = Report()
    report.read = 1234
    report.count("trials", Outcome.ACCEPTED, times=1000)
    usual = {"queued": 234, "used": 57, "limit": 60, "pause": 0.0, "failure": ""}
    return status_line(report, **{**usual, **more})


@pytest.mark.parametrize(
    ("more", "end"),
    [
        (
            {},
            "234 in the queue · 57 of 60 requests this minute · about 3 min 54 s left",
        ),
        ({"limit": None}, "1,234 records read · 1,000 accepted · 234 in the queue"),
        ({"pause": 12.4}, "waiting 12 s for the quota"),
        ({"queued": 6000}, "about 1 h 40 min left"),
        ({"queued": 5}, "about 5 s left"),
        (
            {"pause": 3, "failure": "no connection (timeout)"},
            "requests this minute · no connection (timeout), trying again",
        ),
    ],
)
def test_status_is_one_line(more: dict[str, Any], end: str) -> None:
    assert status(**more).endswith(end)


def test_log_has_one_line_about_an_api_that_cannot_be_reached(
    target: TargetUnderTest,
) -> None:
    nowhere = "http://127.0.0.1:9/v1"

    done = target_command(
        target,
        text_of([a_schema(), a_record(1), a_record(2)]),
        api_url=nowhere,
        outage_seconds=1,
    )

    line = f"No connection to {nowhere} (connection refused); is the sandbox running?"
    assert done.returncode == 75
    assert done.stderr.count(line) == 1
    assert "(outage_seconds 1)" in done.stderr
    assert "not reached: no connection (connection refused)" in done.stderr


def test_log_has_the_end_of_an_outage(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=503, retry_after=1, count=1))

    done = target_command(target, text_of([a_schema(), a_record()]))

    assert f"{sandbox.url}: 503 " in done.stderr
    assert "Stairoids responds again (before: 503 " in done.stderr


def a_report(**more: Any) -> dict[str, Any]:
    """Return the part of a report that the next steps depend on."""
    outcomes = {name: more.pop(name, 0) for name in NOTHING}
    parts = {"run": 1, "exit_code": 75, "reasons": [], "recovered": {}}
    parts["dead_letters"] = 1
    return {"outcomes": outcomes, **parts, **more}


@pytest.mark.parametrize(
    ("outcome", "step"),
    [
        ("invalid", "dead-letters"),
        ("rejected", "dead-letters"),
        ("unknown", "resolve"),
        ("pending", "The next run resumes"),
    ],
)
def test_outcome_has_a_next_step(outcome: str, step: str) -> None:
    (sentence,) = next_steps(a_report(**{outcome: 1}))

    assert step in sentence


def test_unknown_signals_of_an_earlier_run_have_a_next_step() -> None:
    (sentence,) = next_steps(a_report(recovered={"unknown": 1}))

    assert "resolve" in sentence


def test_dry_run_says_that_it_was_one() -> None:
    dry = {**a_report(would_send=1), "run": None}

    assert list(next_steps(dry)) == ["This was a dry run. Without `dry_run` it sends."]
    assert list(next_steps(a_report(would_send=1))) == []  # of a rebuild
    (baseline,) = next_steps(a_report(run=0, baselined=1))
    assert "the ledger remembers none of these records" in baseline


def test_pending_signals_of_a_failed_run_have_no_next_step() -> None:
    assert list(next_steps(a_report(exit_code=1, pending=1))) == []


def test_dry_run_names_no_dead_letters() -> None:
    dry = a_report(run=0, invalid=1, would_send=1)

    assert list(next_steps(dry)) == ["This was a dry run. Without `dry_run` it sends."]


def test_dry_run_does_not_say_that_a_stream_that_was_set_aside_resumes() -> None:
    assert list(next_steps(a_report(run=0, pending=60))) == []


def test_complete_run_has_no_next_step() -> None:
    assert list(next_steps(a_report(accepted=9))) == []
