"""Failures around the target: SIGTERM at every phase, full disks, locked ledgers."""

from __future__ import annotations

import io
import json
import resource
import signal
import sqlite3
import subprocess
import threading
from contextlib import closing, redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from typing_extensions import override

from stairoids_sandbox import Fault, Sandbox
from target_stairoids.exceptions import LostLedgerError
from target_stairoids.ledger.schema import LOCK_KEY
from target_stairoids.sending import run
from target_stairoids.target import TargetStairoids
from tests.support.forks import Forked, program
from tests.support.postgres import autocommit
from tests.support.raw_server import Server, raw, running
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    interrupted,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

MESSAGES = [a_schema(), *(a_record(n) for n in range(1, 41)), a_state()]
#: How long a run waits before it looks up the requests of a dead one.
SHORT_WAIT = {"request_timeout_seconds": 2}
END_SESSIONS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid != pg_backend_pid()"
)


def sent_numbers(sandbox: Sandbox) -> list[int]:
    return sorted(s.body["properties"]["id"] for s in sandbox.signals)


@pytest.mark.parametrize(
    ("faults", "settings"),
    [
        ([Fault(kind="slow", delay_ms=100)], {}),
        ([], {"requests_per_minute": 5}),
        ([Fault(kind="drop_after_accept")], {"verify_delay_seconds": 60}),
        ([Fault(kind="status", status=500)], {}),
        ([Fault(kind="reset")], {"outage_seconds": 60}),
    ],
    ids=[
        "while sending",
        "while it waits for the quota",
        "before a lookup",
        "between two attempts",
        "in an outage",
    ],
)
def test_sigterm_at_any_phase_loses_and_repeats_nothing(
    sandbox: Sandbox,
    target: TargetUnderTest,
    faults: list[Fault],
    settings: dict[str, object],
) -> None:
    sandbox.faults.set(faults)
    with interrupted(lambda: len(sandbox.requests) > 0, signal.SIGTERM):
        stopped = target.run(*MESSAGES, **settings)
    sandbox.faults.set([])

    resumed = target.run(*MESSAGES, **SHORT_WAIT)

    assert stopped.exit_code == 128 + signal.SIGTERM
    assert stopped.states == []
    assert resumed.exit_code == 0
    assert sent_numbers(sandbox) == list(range(1, 41))


@pytest.mark.parametrize("messages", [[], MESSAGES[:3]], ids=["no input", "silent tap"])
def test_sigterm_ends_a_process_that_waits_for_its_input(
    sandbox: Sandbox, target: TargetUnderTest, messages: list[Message]
) -> None:
    expected = max(0, len(messages) - 1)
    with target.start(text_of(messages)) as process:
        assert process.stdin
        assert process.stdout
        wait_until(lambda: target.has_begun(1))
        wait_until(lambda: len(sandbox.signals) == expected)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert process.stdout.read() == b""
        process.stdin.close()

    resumed = target.run(*MESSAGES, **SHORT_WAIT)

    assert resumed.exit_code == 0
    assert sent_numbers(sandbox) == list(range(1, 41))


def test_sigterm_ends_a_process_that_discards_the_rest_of_its_input(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    stopped: dict[str, Any] = {"max_signals_per_run": 1, "on_incomplete": "succeed"}
    sandbox.faults.add(Fault(kind="slow", delay_ms=500))
    tap = text_of([*MESSAGES[:2], a_state(1), *MESSAGES[2:], a_state(2)])
    with target.start(tap, **stopped) as process:
        assert process.stdin
        assert process.stdout
        emitted = process.stdout.readline()  # the tap has not ended
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(timeout=60)
        process.stdin.close()

    assert emitted == b'{"at":1}\n'
    assert exit_code == 128 + signal.SIGTERM
    assert target.report()["outcomes"]["accepted"] == 1


def test_sigterm_ends_a_baseline_without_another_request(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    tap = text_of([*MESSAGES[:3], a_state(1)])
    with target.start(tap, first_run="baseline") as process:
        assert process.stdin
        assert process.stdout
        emitted = process.stdout.readline()
        before = len(sandbox.requests)
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(timeout=60)
        process.stdin.close()

    assert emitted == b'{"at":1}\n'
    assert exit_code == 128 + signal.SIGTERM
    assert len(sandbox.requests) == before


@pytest.mark.parametrize(
    ("response", "settings"),
    [
        (raw(201, '{"id": "sig_1"}'), {"api_key": "sk_new"}),
        (b"", {}),
        (None, {"first_run": "baseline"}),
    ],
    ids=["a new key", "a claim", "the end of a baseline"],
)
def test_sigterm_ends_a_run_that_waits_for_a_request_of_its_own(
    target: TargetUnderTest, response: bytes | None, settings: dict[str, Any]
) -> None:
    silence = threading.Event()
    with running(server := Server()):
        target.config |= {"api_url": server.url, "outage_seconds": 0}
        if response is not None:
            server.response = response
            target.run(*MESSAGES[:2])
        server.response = lambda _connection: silence.wait()
        before = len(server.requests)
        with target.start(**settings, request_timeout_seconds=300) as process:
            assert process.stdin
            process.stdin.write(text_of([a_schema(), a_record(99)]).encode())
            process.stdin.close()
            wait_until(lambda: len(server.requests) > before)
            process.send_signal(signal.SIGTERM)
            exit_code = process.wait(timeout=60)
        silence.set()

    assert exit_code == 128 + signal.SIGTERM
    assert len(server.requests) == before + 1


def test_report_tells_open_requests_from_signals_that_were_not_reached(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "GRACE_SECONDS", 0.1)
    silence = threading.Event()
    with running(server := Server()):
        server.response = lambda _connection: silence.wait()
        messages = a_schema(), *(a_record(n) for n in (1, 2))
        with interrupted(lambda: len(server.requests) > 0, signal.SIGTERM):
            target.run(*messages, api_url=server.url, max_in_flight=1)
        silence.set()

    reasons = {r["reason"]: r["count"] for r in target.report()["reasons"]}
    assert reasons == {"its request is open": 1, "not reached": 1}


def test_full_disk_ends_the_run_and_the_next_one_resumes(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 301)), a_state()]
    target.run()  # makes the ledger

    full = subprocess.run(
        target.command(target.config),
        input=text_of(messages).encode(),
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (400_000, 400_000)
        ),
    )
    resumed = target.run(*messages, **SHORT_WAIT)

    assert full.returncode == 1, full.stderr
    assert b"`ledger_url`" in full.stderr
    assert full.stdout == b""
    assert resumed.exit_code == 0
    assert sent_numbers(sandbox) == list(range(1, 301))


def test_locked_ledger_is_one_clear_error(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stairoids_common.database.BUSY_SECONDS", 1)
    target.run(a_schema(), a_record(1))
    ledger = sqlite3.connect(target.folder / "ledger.db", isolation_level=None)
    with closing(ledger) as other:
        other.execute("BEGIN IMMEDIATE")

        locked = target.run(a_schema(), a_record(2), a_state())

        other.execute("ROLLBACK")
    resumed = target.run(a_schema(), a_record(2), a_state())

    assert locked.exit_code == 1
    assert "database is locked" in locked.error
    assert resumed.outcomes == {"accepted": 1}
    assert sent_numbers(sandbox) == [1, 2]


@pytest.mark.slow
def test_broken_input_with_a_locked_ledger_still_has_a_report(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1))
    broken = {"type": "RECORD", "stream": "trials"}
    report = target.folder / "report.json"
    text = text_of([a_schema(), a_record(2)])
    ledger = sqlite3.connect(target.folder / "ledger.db", isolation_level=None)
    less_patient = "import stairoids_common.database as d; d.BUSY_SECONDS = 1"
    command = program(target.folder / "target-stairoids", less_patient)
    _, *words = target.command({**target.config, "report_path": str(report)})
    with (
        Forked[bytes]([command, *words], stdin=subprocess.PIPE) as process,
        closing(ledger) as it,
    ):
        assert process.stdin
        process.stdin.write(text.encode())
        process.stdin.flush()
        wait_until(lambda: len(sandbox.signals) == 2)
        wait_until(
            lambda: (
                it.execute("SELECT count(*) FROM stairoids_claims").fetchone() == (0,)
            )
        )
        it.execute("BEGIN IMMEDIATE")
        process.stdin.write(text_of([a_record(3), broken]).encode())
        process.stdin.close()

        assert process.wait(timeout=120) == 1
        it.execute("ROLLBACK")

    assert json.loads(report.read_text())["exit_code"] == 1


def test_lost_ledger_server_ends_the_run_and_the_next_one_resumes(
    sandbox: Sandbox, tmp_path: Path, postgres_url: str
) -> None:
    target = TargetUnderTest(tmp_path, sandbox.url, ledger_url=postgres_url)
    sandbox.faults.add(Fault(kind="slow", delay_ms=50))
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with target.start() as process, engine.connect() as connection:
        assert process.stdin
        process.stdin.write(text_of(MESSAGES).encode())
        process.stdin.flush()
        wait_until(lambda: len(sandbox.signals) > 10)
        connection.execute(END_SESSIONS)
        process.stdin.close()
        assert process.wait(timeout=30) == 75
    engine.dispose()
    sandbox.faults.set([])

    resumed = target.run(*MESSAGES, **SHORT_WAIT)

    assert resumed.exit_code == 0
    assert sent_numbers(sandbox) == list(range(1, 41))


def test_ledger_server_lost_after_the_last_state_keeps_the_summary(
    sandbox: Sandbox,
    tmp_path: Path,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Cutting(io.StringIO):
        """Standard output that ends the sessions of the run at each STATE."""

        @override
        def write(self, text: str) -> int:
            with autocommit(postgres_url) as connection:
                connection.execute(END_SESSIONS)
            return super().write(text)

    target = TargetUnderTest(tmp_path, sandbox.url, ledger_url=postgres_url)
    messages = [a_schema(), a_record(1), a_record(2, email=None), a_state()]
    caplog.set_level("INFO")
    tap, printed = io.StringIO(text_of(messages)), Cutting()
    with (
        redirect_stdout(printed),
        pytest.raises(LostLedgerError, match=r"Run again\.$") as lost,
    ):
        TargetStairoids(config=target.config).listen(tap)

    report, resumed = target.report(), target.run(*messages)

    assert lost.value.exit_code == report["exit_code"] == 75
    assert target.states_in(printed.getvalue()) == [{"at": 1}]
    assert "2 signals = 1 accepted + 1 invalid (2 records read" in caplog.text
    assert "See which, and why: " in caplog.text
    assert resumed.exit_code == 0
    assert resumed.outcomes == {"duplicate": 1, "invalid": 1}


def test_sigterm_counts_although_the_ledger_fails_afterwards(
    sandbox: Sandbox, tmp_path: Path, postgres_url: str
) -> None:
    target = TargetUnderTest(tmp_path, sandbox.url, ledger_url=postgres_url)
    sandbox.faults.add(Fault(kind="slow", delay_ms=50))
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    waits = text(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with target.start() as process, engine.connect() as connection:
        assert process.stdin
        process.stdin.write(text_of(MESSAGES).encode())
        process.stdin.flush()
        wait_until(lambda: len(sandbox.signals) > 10)
        connection.execute(text(f"SELECT pg_advisory_lock({LOCK_KEY}, 0)"))
        connection.commit()
        wait_until(lambda: connection.scalar(waits) is not None)
        process.send_signal(signal.SIGTERM)
        pid = connection.scalar(waits)
        connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
        process.stdin.close()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        assert process.stderr
        assert b"ledger" in process.stderr.read()
    engine.dispose()
    sandbox.faults.set([])

    resumed = target.run(*MESSAGES, **SHORT_WAIT)

    assert resumed.exit_code == 0
    assert sent_numbers(sandbox) == list(range(1, 41))


def test_two_targets_on_one_file_send_each_signal_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=100))
    with target.start(text_of(MESSAGES)) as one:
        assert one.stdin
        wait_until(lambda: len(sandbox.signals) > 0)
        other = target.run(*MESSAGES)
        one.stdin.close()
        exit_codes = [one.wait(timeout=60), other.exit_code]

    assert exit_codes == [0, 0]
    assert sent_numbers(sandbox) == list(range(1, 41))


def test_ledger_whose_file_is_removed_ends_the_run_before_its_state(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    with target.start(text_of([a_schema(), a_record(1)])) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        wait_until(lambda: target.has_begun(1))
        for path in target.folder.glob("ledger.db*"):
            path.unlink()
        process.stdin.write(text_of([a_record(2), a_state()]).encode())
        process.stdin.close()
        printed, error = process.stdout.read(), process.stderr.read().decode()

    assert process.returncode == 1
    assert printed == b""
    assert "The file of the ledger" in error
    assert len(sandbox.signals) <= 2


def test_ledger_whose_file_is_removed_while_signals_wait_ends_the_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=50))
    records = [a_record(n) for n in range(400)]
    with target.start(text_of([a_schema(), *records])) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.close()
        wait_until(lambda: len(sandbox.signals) > 20)
        for path in target.folder.glob("ledger.db*"):
            path.unlink()
        error = process.stderr.read().decode()

    assert process.returncode == 1
    assert "The file of the ledger" in error
    assert len(sandbox.signals) < 400


@pytest.mark.usefixtures("short_backoff")
def test_requests_per_day_counts_requests_that_were_made(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="status", status=429, retry_after=1, count=3)])
    records = [a_schema(), *map(a_record, range(100))]

    run = target.run(*records, requests_per_day=40)

    assert run.exit_code == 75
    assert len(sandbox.requests) == 40
