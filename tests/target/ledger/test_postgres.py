"""A ledger in PostgreSQL keeps the same promises, for several processes."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import time
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine, text

from stairoids_sandbox import Fault
from target_stairoids.checks.stop import GRACE_SECONDS
from target_stairoids.exceptions import LedgerError, LostLedgerError
from target_stairoids.ledger import maintenance
from target_stairoids.ledger.ledger import Ledger
from tests.support.commands import command, signals
from tests.support.paths import ROOT
from tests.support.postgres import a_pooler, autocommit
from tests.support.silent_proxy import SilentProxy
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox

pytestmark = pytest.mark.slow

SCOPE = "http://127.0.0.1"


@pytest.fixture
def target(sandbox: Sandbox, tmp_path: Path, postgres_url: str) -> TargetUnderTest:
    return TargetUnderTest(tmp_path, sandbox.url, ledger_url=postgres_url)


def alter(url: str, change: str, *, ends_sessions: bool = False) -> None:
    """Change the database of a URL, and end its sessions."""
    name = urlsplit(url).path.strip("/")
    with autocommit(url.replace(f"/{name}", "/postgres", 1)) as connection:
        connection.execute(text(f"ALTER DATABASE {name} {change}"))
        if ends_sessions:
            theirs = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            connection.execute(text(f"{theirs} WHERE datname = '{name}'"))


def test_second_run_sends_nothing(sandbox: Sandbox, target: TargetUnderTest) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(1, 21)), a_state()]

    first = target.run(*messages)
    second = target.run(*messages)

    assert first.outcomes == {"accepted": 20}
    assert second.outcomes == {"duplicate": 20}
    assert len(sandbox.signals) == 20


def test_runs_on_hosts_with_other_clocks_count_the_requests_of_each_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [Ledger.create(postgres_url, SCOPE) for _ in range(2)]
    others = []
    for clock, host in zip((0.0, 3e9), hosts, strict=True):
        host.begin_run()
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        with host.transaction() as transaction:
            others = transaction.requests_of_others(b"key")
            transaction.note_requests(b"key", 7, 60)
    for host in hosts:
        host.close()

    [(age, number, limit)] = others
    assert 0 <= age < 60
    assert (number, limit) == (7, 60)


def test_rows_with_only_a_new_bookmark_are_unchanged_and_then_duplicates(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(updated_at="string", bookmark="updated_at")
    seen, touched = (
        [schema, *(a_record(n, updated_at=f"2026-01-0{day}") for n in range(1, 21))]
        for day in (1, 2)
    )

    runs = [target.run(*messages) for messages in (seen, touched, touched, seen)]

    assert [run.outcomes for run in runs] == [
        {"accepted": 20},
        {"unchanged": 20},
        {"duplicate": 20},
        {"duplicate": 20},
    ]
    assert len(sandbox.signals) == 20


def test_lost_responses_and_invalid_records_end_as_on_sqlite(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=2))

    run = target.run(a_schema(), a_record(1), a_record(2), a_record(3, email=None))

    assert run.outcomes == {"accepted": 2, "invalid": 1}
    assert len(sandbox.signals) == 2


def test_two_targets_on_one_ledger_send_each_signal_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=100))
    messages = [a_schema(), *(a_record(n) for n in range(1, 41)), a_state()]
    with target.start(text_of(messages)) as one:
        assert one.stdin
        wait_until(lambda: len(sandbox.signals) > 0)
        other = target.run(*messages)
        one.stdin.close()
        exit_codes = [one.wait(timeout=60), other.exit_code]

    assert exit_codes == [0, 0]
    numbers = sorted(s.body["properties"]["id"] for s in sandbox.signals)
    assert numbers == list(range(1, 41))


def test_lease_of_a_dead_run_is_free_and_that_of_a_living_run_is_not(
    postgres_url: str,
) -> None:
    with (
        Ledger.create(postgres_url, SCOPE) as one,
        Ledger.create(postgres_url, SCOPE) as two,
    ):
        living, other = one.begin_run(), two.begin_run()

        assert two.lives(living)
        one.close()
        assert not two.lives(living)
        assert two.lives(other)


@pytest.mark.parametrize("is_copy", [False, True])
def test_runs_of_ledgers_in_two_schemas_do_not_wait_for_each_other(
    postgres_url: str,
    *,
    is_copy: bool,
) -> None:
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("CREATE SCHEMA one; CREATE SCHEMA two")
        connection.commit()
    engine.dispose()
    urls = [f"{postgres_url}&options=-csearch_path%3D{name}" for name in ("one", "two")]
    one, two = (Ledger.create(url, SCOPE) for url in urls)
    with one, two:
        if is_copy:
            maintenance.copy(one, two)
    one, two = (Ledger.open(url, SCOPE) for url in urls)
    with one, two:
        first, second = one.begin_run(), two.begin_run()

        assert (first, second) == (1, 1)
        assert not one.lives(2)
        one.check_lease()
        two.check_lease()


def end_leases(ledger: Ledger) -> None:
    """End the connections of all runs that hold a lease."""
    with ledger.transaction() as transaction:
        transaction.connection.execute(
            text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks"
                " WHERE locktype = 'advisory' AND pid != pg_backend_pid()"
            )
        )


def test_lost_lease_while_stairoids_is_slow_doubles_nothing(
    sandbox: Sandbox, target: TargetUnderTest, postgres_url: str
) -> None:
    """The next run takes the claims over before Stairoids accepts their requests."""
    messages = [a_schema(), *(a_record(n) for n in range(8)), a_state()]
    target.config["request_timeout_seconds"] = 4
    target.run(a_schema("others"), a_record(99, "others"))
    sandbox.faults.add(Fault(kind="slow_accept", delay_ms=2_000))
    with (
        Ledger.create(postgres_url, SCOPE) as ledger,
        target.start(text_of(messages)) as first,
    ):
        assert first.stdin
        first.stdin.close()
        claims = text("SELECT count(*) FROM stairoids_claims")
        wait_until(lambda: ledger.value(claims) > 0)
        end_leases(ledger)
        run = target.run(*messages)
        first_code = first.wait(timeout=60)

    assert (first_code, run.exit_code) == (75, 0)
    assert run.report["recovered"]["accepted"] > 0
    numbers = sorted(s.body["properties"]["id"] for s in sandbox.signals)
    assert numbers == [*range(8), 99]


def test_lost_lease_stops_the_run_before_another_request(
    postgres_url: str,
) -> None:
    with (
        Ledger.create(postgres_url, SCOPE) as ledger,
        Ledger.create(postgres_url, SCOPE) as other,
    ):
        ledger.begin_run()
        ledger.check_lease()
        end_leases(other)

        with pytest.raises(LostLedgerError, match="Run again") as lost:
            ledger.check_lease()

    assert lost.value.exit_code == 75


def test_connection_that_breaks_off_in_a_statement_ends_a_run_with_75(
    postgres_url: str,
) -> None:
    with Ledger.create(postgres_url, SCOPE) as ledger:
        ledger.begin_run()
        own = "SELECT pg_terminate_backend(pg_backend_pid())"

        with (
            pytest.raises(LostLedgerError, match="cannot be written") as lost,
            ledger.transaction() as transaction,
        ):
            transaction.connection.execute(text(own))

    assert lost.value.exit_code == 75


def test_transaction_pooler_is_refused_before_anything_is_sent(
    sandbox: Sandbox, target: TargetUnderTest, postgres_url: str
) -> None:
    with a_pooler(postgres_url, "transaction") as url:
        run = target.run(a_schema(), a_record(1), a_state(), ledger_url=url)

    assert (run.exit_code, run.states) == (1, [])
    assert "is behind a pooler that shares sessions" in run.error
    assert not sandbox.requests


def test_session_pooler_is_accepted(target: TargetUnderTest, postgres_url: str) -> None:
    with a_pooler(postgres_url, "session") as url:
        run = target.run(a_schema(), a_record(1), ledger_url=url)

    assert (run.exit_code, run.outcomes) == (0, {"accepted": 1})


def test_commit_is_on_disk_and_waits_end_on_any_database(postgres_url: str) -> None:
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        for setting in (
            "synchronous_commit = off",
            "default_transaction_isolation = 'repeatable read'",
            "idle_session_timeout = '2s'",
        ):
            connection.execute(text(f"ALTER DATABASE {name} SET {setting}"))
    engine.dispose()

    with Ledger.create(postgres_url, SCOPE) as ledger, ledger.reading() as connection:
        shown = [
            connection.scalar(text(f"SHOW {setting}"))
            for setting in (
                "synchronous_commit",
                "lock_timeout",
                "transaction_isolation",
                "idle_session_timeout",
            )
        ]

    assert shown == ["on", "1min", "read committed", "0"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_that_cannot_store_any_text_is_refused(
    sandbox: Sandbox, target: TargetUnderTest, postgres_url: str, encoding: str
) -> None:
    name = f"in_{encoding}".lower()
    with autocommit(postgres_url) as connection:
        like = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        connection.execute(text(f"CREATE DATABASE {name} {like}"))
    url = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()

    run = target.run(a_schema(), a_record(1), ledger_url=url)

    assert run.exit_code == 1
    assert f"with the encoding {encoding}, which cannot store every key" in run.error
    assert not sandbox.requests


def test_key_in_any_script_is_stored_though_the_database_asks_for_another_encoding(
    target: TargetUnderTest, postgres_url: str
) -> None:
    alter(postgres_url, "SET client_encoding = 'LATIN1'")
    messages = (
        a_schema(key=["city"], city="string"),
        a_record(1, city="\u0141\u00f3d\u017a \u65e5"),
    )

    first, second = target.run(*messages), target.run(*messages)

    assert (first.outcomes, second.outcomes) == ({"accepted": 1}, {"duplicate": 1})


def test_check_finds_a_ledger_that_may_only_be_read(
    target: TargetUnderTest, postgres_url: str
) -> None:
    target.run(a_schema(), a_record(1))
    before = signals(target, "check")
    alter(postgres_url, "SET default_transaction_read_only = on")

    done = signals(target, "check")

    assert "can be written" in before.stdout
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "read-only transaction" in done.stderr


def test_server_that_refuses_connections_in_a_run_ends_it_with_75(
    postgres_url: str,
) -> None:
    with Ledger.create(postgres_url, SCOPE) as ledger:
        ledger.begin_run()
        alter(postgres_url, "ALLOW_CONNECTIONS false", ends_sessions=True)

        lost = []
        for _ in range(2):  # the second time, it connects again
            with (
                pytest.raises(LostLedgerError) as raised,
                ledger.transaction() as transaction,
            ):
                transaction.connection.execute(text("SELECT 1"))
            lost.append(raised.value.exit_code)

    assert lost == [75, 75]


@pytest.mark.parametrize(
    ("refusal", "exit_code"),
    [
        (None, 75),
        ("57P03: the database system is starting up", 75),
        ("53300: sorry, too many clients already", 75),
        ("53300: remaining connection slots are reserved for superusers", 75),
        ('53300: too many connections for role "app"', 75),
        ("28P01: password authentication failed", 1),
    ],
)
def test_opening_ends_with_75_if_it_may_succeed_later(
    target: TargetUnderTest, refusal: str | None, exit_code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=refuse, args=[server, refusal], daemon=True).start()
        url = f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/db?sslmode=disable"
        run = target.run(a_schema(), a_record(1), ledger_url=url)

    assert run.exit_code == exit_code
    assert "cannot be opened: " in run.error
    assert ("Run again." in run.error) == (exit_code == 75)


def refuse(server: socket.socket, text: str | None) -> None:
    """Close each connection as PostgreSQL does, or without a word."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                if text:
                    code, words = text.split(": ")
                    fields = f"SFATAL\0VFATAL\0C{code}\0M{words}\0\0".encode()
                    client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)


def test_second_sigterm_ends_a_run_whose_ledger_is_silent(
    sandbox: Sandbox, target: TargetUnderTest, postgres_url: str
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(30))]
    target.config |= {"request_timeout_seconds": 2, "max_in_flight": 2}
    sandbox.faults.add(Fault(kind="slow", delay_ms=100))
    with SilentProxy(postgres_url) as proxy:
        url = urlsplit(proxy.url)._replace(path=urlsplit(postgres_url).path).geturl()
        with target.start(text_of(messages), ledger_url=url) as process:
            wait_until(lambda: len(sandbox.signals) > 5)
            proxy.fall_silent()
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            while process.poll() is None and time.monotonic() < began + 60:
                time.sleep(1)
                process.send_signal(signal.SIGTERM)
            exit_code, seconds = process.poll(), time.monotonic() - began
            process.kill()
    alter(postgres_url, "RESET ALL", ends_sessions=True)  # the silent ones
    again = target.run(*messages)

    assert exit_code == 128 + signal.SIGTERM
    assert again.exit_code == 0, again.error
    assert seconds > GRACE_SECONDS
    assert len(sandbox.signals) == 30


def test_dry_run_on_an_empty_database_sends_and_creates_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    tried = target.run(a_schema(), a_record(1), dry_run=True)
    sent = target.run(a_schema(), a_record(1))
    again = target.run(a_schema(), a_record(1), dry_run=True)

    assert tried.outcomes == {"would_send": 1}
    assert sent.outcomes == {"accepted": 1}
    assert again.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 1


def test_missing_ledger_is_not_created(postgres_url: str) -> None:
    for _ in range(2):
        with pytest.raises(LedgerError, match="There is no ledger at postgresql"):
            Ledger.open(postgres_url, SCOPE)


@pytest.mark.parametrize(
    ("path", "session"),
    [("public", "schema public"), ("elsewhere", "no schema")],
)
def test_missing_ledger_is_named_with_role_and_schema(
    target: TargetUnderTest, postgres_url: str, path: str, session: str
) -> None:
    alter(postgres_url, f"SET search_path = {path}")

    done = signals(target, "ledger", "stats")

    assert done.returncode == 1
    assert f" (role postgres, {session}). See `ledger_url`, and" in done.stderr
    assert "working directory" not in done.stderr


def test_documented_copy_command_moves_a_ledger_from_sqlite(
    sandbox: Sandbox,
    tmp_path: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (ROOT / "docs/guides/runners-without-a-disk.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^stairoids-signals ledger copy .*$", page, re.MULTILINE)
    target = TargetUnderTest(tmp_path, sandbox.url)
    target.run(a_schema(), a_record(1))
    target.command(target.config)

    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.replace("postgresql://user@host/ledger", postgres_url))

    done = command(*words[1:])
    run = target.run(a_schema(), a_record(1), a_record(2), ledger_url=postgres_url)

    assert done.returncode == 0, done.stderr
    assert "settled: 1" in done.stdout
    assert run.outcomes == {"duplicate": 1, "accepted": 1}
