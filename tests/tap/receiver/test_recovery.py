"""The receiver follows its store in both directions, without a delivery meanwhile.

Time limits are shorter here, except those after SIGTERM. `test_kill` has the true ones.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
import sqlalchemy as sa
from uvicorn import Server

from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.postgres import autocommit
from tests.support.silent_proxy import SilentProxy
from tests.support.webhook_builders import a_body, a_delivery, a_receiver, headers_for
from tests.tap.receiver.test_admin import administered, get
from tests.tap.receiver.test_app import post, stored, until
from tests.tap.receiver.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

# A process that takes the lock of a writer, and holds it.
HOLD = """
import sys, time
from tap_stairoids_webhooks.store.store import EventStore
with EventStore.open(sys.argv[1]) as store:
    with store.transaction("x", lock=True) as connection:
        if sys.argv[2] == "amid a batch":
            driver = connection.connection.driver_connection
            driver.pipeline().__enter__()
            driver.execute("SELECT 1")
            driver.pgconn.send_flush_request()
            driver.pgconn.flush()
        print("locked", flush=True)
        time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "tap_stairoids_webhooks"
    limits = {
        "lock_timeout": "1s",
        "statement_timeout": "2s",
        "idle_in_transaction_session_timeout": "1s",
    }
    for name, value in {
        "store.database._WRITER_LIMITS": limits,
        "store.database._FROZEN_SECONDS": 0.8,
        "store.database._BUSY_SECONDS": 0.1,
        "receiver.app.RESPONSE_SECONDS": 1.5,
        "receiver.housekeeping.RESPONSE_SECONDS": 1.5,
        "receiver.commit_queue.STUCK_SECONDS": 2,
        "receiver.commit_queue._TRY_SECONDS": 0.1,
    }.items():
        monkeypatch.setattr(f"{package}.{name}", value)


@contextmanager
def frozen_writer(url: str, place: str = "between statements") -> Iterator[None]:
    command = [sys.executable, "-c", HOLD, url, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            process.send_signal(signal.SIGSTOP)
            yield
        finally:
            process.kill()


def is_ready(receiver: Receiver) -> bool:
    return get(receiver, "/readyz").status_code == 200


@contextmanager
def locked(store_url: str) -> Iterator[None]:
    path = store_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("is_posted", [False, True])
def test_readiness_follows_the_store_without_deliveries(
    store_url: str, *, is_posted: bool
) -> None:
    with administered(store_url) as receiver:
        assert is_ready(receiver)
        with locked(store_url):
            if is_posted:
                assert post(receiver, a_body()).status_code == 503
            until(lambda: not is_ready(receiver))
        until(lambda: is_ready(receiver))
        assert post(receiver, a_body()).text == "stored"


def test_waiting_delivery_makes_the_receiver_not_ready(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 60)
    for module in ("app", "housekeeping"):
        package = "tap_stairoids_webhooks.receiver"
        monkeypatch.setattr(f"{package}.{module}.RESPONSE_SECONDS", 0.2)
    with administered(store_url) as receiver, locked(store_url):
        assert post(receiver, a_body()).text == "store_too_slow"
        # The delivery waits in the queue for a little less than its request does.
        until(lambda: get(receiver, "/readyz").json()["store_too_slow"])
        assert not is_ready(receiver)


def test_receiver_recovers_from_a_database_that_was_gone(postgres_url: str) -> None:
    with SilentProxy(postgres_url) as proxy, administered(proxy.url) as receiver:
        assert is_ready(receiver)
        proxy.refuse(refuses=True)
        until(lambda: not is_ready(receiver))
        proxy.refuse(refuses=False)
        until(lambda: is_ready(receiver))
        assert post(receiver, a_body()).text == "stored"


def test_receiver_recovers_from_a_silent_connection(postgres_url: str) -> None:
    with SilentProxy(postgres_url) as proxy, administered(proxy.url) as receiver:
        assert post(receiver, a_body("evt_1")).text == "stored"
        proxy.fall_silent()
        assert post(receiver, a_body("evt_2")).status_code == 503
        # Stairoids repeats it, maybe before the silence is noticed.
        until(lambda: post(receiver, a_body("evt_2")).status_code == 200)
        until(lambda: is_ready(receiver))
        assert stored(receiver) == 2


@pytest.mark.parametrize("ends_sessions", [True, False])
def test_receiver_follows_a_database_that_becomes_read_only(
    postgres: str, *, ends_sessions: bool
) -> None:
    with new_database(postgres, "standby") as url, administered(url) as receiver:
        assert post(receiver, a_body("evt_1")).text == "stored"
        restart_sessions(url, "on")
        until(lambda: not is_ready(receiver))
        assert post(receiver, a_body("evt_2")).status_code == 503
        restart_sessions(url, "off", ends=ends_sessions)
        until(lambda: is_ready(receiver))
        assert post(receiver, a_body("evt_2")).text == "stored"


def restart_sessions(url: str, read_only: str, *, ends: bool = True) -> None:
    """Let a database be read only, and end its sessions, as a failover does."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        connection.exec_driver_sql(
            f"ALTER DATABASE standby SET default_transaction_read_only = {read_only}"
        )
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'standby' AND pid <> pg_backend_pid() AND %s",
            (ends,),
        )
    engine.dispose()


@pytest.mark.parametrize("place", ["between statements", "amid a batch"])
def test_receiver_recovers_from_a_frozen_writer(postgres_url: str, place: str) -> None:
    with administered(postgres_url) as receiver, frozen_writer(postgres_url, place):
        response = post(receiver, a_body("evt_1"))
        until(lambda: is_ready(receiver))
        again = post(receiver, a_body("evt_1"))

    assert response.status_code in {200, 503}
    assert again.status_code == 200


def test_writer_waits_a_second_time_for_another_writer(postgres_url: str) -> None:
    waiting = "SELECT query_start FROM pg_stat_activity WHERE wait_event = 'advisory'"
    found: set[object] = set()

    def write(store: EventStore) -> None:
        with store.transaction("x", lock=True):
            pass

    with (
        EventStore.create(postgres_url) as store,
        EventStore.open(postgres_url) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        with store.transaction("x", lock=True) as connection:
            written = pool.submit(write, other)

            def has_waited() -> bool:
                connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
                found.update(connection.exec_driver_sql(waiting).scalars())
                return written.done() or len(found) > 1

            until(has_waited)
        written.result()


@contextmanager
def new_database(postgres: str, name: str, options: str = "") -> Iterator[str]:
    with autocommit(postgres) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
        try:
            yield postgres.replace("/postgres?", f"/{name}?")
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_sigterm_ends_in_15_s_while_the_store_does_not_respond(
    store_url: str, postgres: str, postgres_url: str
) -> None:
    """Three receivers end at the same time, because each takes ten seconds."""

    def freeze(url: str) -> None:
        with serving(url) as (process, address), frozen_writer(url):
            _end(process, address)

    def silence() -> None:
        with (
            SilentProxy(postgres_url) as proxy,
            serving(proxy.url) as (process, address),
        ):
            proxy.fall_silent()
            _end(process, address)

    with (
        new_database(postgres, "frozen") as frozen,
        ThreadPoolExecutor() as pool,
    ):
        done = [pool.submit(freeze, url) for url in (store_url, frozen)]
        for future in (*done, pool.submit(silence)):
            future.result()


def _end(process: subprocess.Popen[str], address: str) -> None:
    with requests.Session() as session, pytest.raises(requests.RequestException):
        session.post(address, a_body(), headers=headers_for(a_body()), timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode in {0, 1}


def test_refused_row_takes_no_others_with_it(
    home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The database has no place for one row, as LATIN1 has none for an arrow."""
    with administered(home_url) as receiver:
        with receiver.store.transaction("cannot be changed") as connection:
            _refuse_rows_of(connection, "bad.type")
        bodies = [a_body(f"evt_{n}") for n in range(9)]
        bodies.insert(4, a_body("evt_bad", "bad.type"))
        statuses = None
        while statuses is None:  # on a slow machine, the first ones fail too early
            until(lambda: is_ready(receiver))
            caplog.clear()
            statuses = _responses_of_one_batch(receiver, home_url, bodies)
            if "store failing" in caplog.text:  # the lock outlasted the wait for it
                statuses = None

        assert statuses == [200] * 4 + [503] + [200] * 5
        assert stored(receiver) == 9
        assert is_ready(receiver)


def _responses_of_one_batch(
    receiver: Receiver, url: str, bodies: list[bytes]
) -> list[int] | None:
    """Send deliveries while the store is locked; None if one did not wait for all."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        with EventStore.open(url) as other, other.transaction("is locked", lock=True):
            responses = [pool.submit(post, receiver, body) for body in bodies]
            until(
                lambda: (
                    get(receiver, "/readyz").json()["queue"] == len(bodies)
                    or any(response.done() for response in responses)
                )
            )
            is_batch = not any(response.done() for response in responses)
        statuses = [response.result().status_code for response in responses]
    return statuses if is_batch else None


def _refuse_rows_of(connection: sa.Connection, event: str) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON webhook_events"
            f" WHEN NEW.event = '{event}'"
            " BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    else:
        connection.exec_driver_sql(
            f"ALTER TABLE webhook_events ADD CHECK (event <> '{event}')"
        )


def test_database_without_utf8_is_refused_at_start(postgres: str) -> None:
    options = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    with (
        new_database(postgres, "latin", options) as url,
        pytest.raises(ConfigError, match=r"encoding LATIN1.*ENCODING 'UTF8'"),
    ):
        EventStore.create(url)


def test_unforeseen_error_does_not_end_the_commit_thread(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with administered(store_url) as receiver:
        with monkeypatch.context() as context:
            context.setattr(EventStore, "append", lambda *_: 1 / 0)
            context.setattr(EventStore, "try_commit", lambda *_, **__: 1 / 0)
            assert post(receiver, a_body()).status_code == 503
            until(lambda: not is_ready(receiver))
        until(lambda: is_ready(receiver))
        assert post(receiver, a_body()).text == "stored"


def test_unforeseen_error_of_a_check_does_not_end_the_receiver(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = a_receiver(store_url)
    monkeypatch.setattr(receiver.store.database, "free_bytes", lambda: 1 // 0)
    with receiver:
        until(lambda: caplog.text.count("check failed: reason=ZeroDivisionError") > 1)
        assert post(receiver, a_body()).status_code == 200


@pytest.mark.parametrize("part", [CommitQueue, Server])
def test_receiver_that_cannot_start_raises_the_error_and_frees_its_port(
    store_url: str, monkeypatch: pytest.MonkeyPatch, part: type
) -> None:
    name = "start" if part is CommitQueue else "startup"
    with monkeypatch.context() as context:
        context.setattr(part, name, lambda *_, **__: 1 // 0)
        receiver = a_receiver(store_url)
        port = urlsplit(receiver.url).port or 0
        with pytest.raises(ZeroDivisionError), receiver:
            pass

    with a_receiver(store_url, port=port) as receiver:
        assert post(receiver, a_body()).text == "stored"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_receiver_whose_commit_thread_ends_stops(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(EventStore, "append", end)
    with administered(store_url) as receiver:
        assert post(receiver, a_body()).status_code == 503
        until(lambda: _is_gone(receiver))


def _is_gone(receiver: Receiver) -> bool:
    try:
        return not is_ready(receiver)
    except requests.RequestException:
        return True


def test_odd_time_in_the_store_does_not_stop_the_start(store_url: str) -> None:
    with EventStore.create(store_url) as store:
        store.append([a_delivery()])
        with store.transaction("cannot be changed") as connection:
            connection.exec_driver_sql("UPDATE webhook_events SET received_at = '1-01'")

    with a_receiver(store_url) as receiver:
        assert post(receiver, a_body("evt_2")).text == "stored"


def test_store_folder_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with administered(f"sqlite:///{tmp_path}/folder/webhooks.db") as receiver:
        shutil.rmtree(tmp_path / "folder")
        until(lambda: not is_ready(receiver))
        found = get(receiver, "/readyz").json()
        assert post(receiver, a_body()).text == "store_unavailable"

    assert (found["disk_full"], found["store_failing"]) == (False, True)
