"""Forwarders as processes: SIGTERM, and `serve --forward`."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time

import pytest
import requests
import sqlalchemy as sa

from tap_stairoids_webhooks.store.consumers import lags
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.handler import OK, Answer, Payload, WebhookHandler
from tests.support.webhook_builders import SECRET, a_body, headers_for
from tests.tap.forwarding.test_forward import fill
from tests.tap.forwarding.test_kill import forwarding
from tests.tap.receiver.test_app import until
from tests.tap.receiver.test_server import COMMAND, clean_environment, serving

pytestmark = pytest.mark.slow


def test_sigterm_finishes_requests_in_flight_and_loses_nothing(
    home: EventStore, home_url: str
) -> None:
    ids = fill(home, accounts=10, number=8)
    is_slow = threading.Event()

    def answer(_payload: Payload, _number: int) -> Answer:
        if len(handler.requests) > 20:
            is_slow.wait(0.5)
        return OK

    with WebhookHandler(answer) as handler:
        with forwarding(home_url, handler.url) as process:
            until(lambda: len(handler.requests) > 20)
            process.send_signal(signal.SIGTERM)
            stdout, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert json.loads(stdout) == {"delivered": len(handler.ids), "failed": 0}
        assert lags(home)["forward"].events == 80 - len(handler.ids)
        is_slow.set()
        with forwarding(home_url, handler.url, "--once") as process:
            process.communicate(timeout=30)

    assert sorted(handler.ids) == sorted(ids)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("command", "exit_code", "error"),
    [
        ("serve --port 0", 0, ""),
        ("forward http://127.0.0.1:9", 0, ""),
        ("forward http://127.0.0.1:9 --once", 1, "Error: stopped before the end."),
    ],
)
def test_stop_while_modules_are_imported_has_the_documented_exit_code(
    store: EventStore,
    store_url: str,
    command: str,
    exit_code: int,
    error: str,
    sent: signal.Signals,
) -> None:
    fill(store, accounts=1, number=50)
    process = subprocess.Popen(
        [COMMAND, *command.split(), "--store-url", store_url],
        env=clean_environment(
            STAIROIDS_WEBHOOK_SECRET=SECRET, PYTHONPROFILEIMPORTTIME="1"
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "sqlalchemy" not in process.stderr.readline():
        pass
    process.send_signal(sent)
    _, log = process.communicate(timeout=60)

    assert process.returncode == exit_code
    assert error in log
    assert "Aborted" not in log


def test_stop_before_the_end_of_once_is_an_error(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=1, number=50)
    with (
        WebhookHandler(lambda *_: (503, {"Retry-After": "600"})) as handler,
        forwarding(store_url, handler.url, "--once") as process,
    ):
        until(lambda: len(handler.requests) == 1)
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "Error: stopped before the end. Run the command again" in log
    assert lags(store)["forward"].events == 50


def test_receiver_forwards_its_events(home: EventStore, home_url: str) -> None:
    with (
        WebhookHandler() as crm,
        WebhookHandler() as bi,
        serving(
            home_url,
            STAIROIDS_WEBHOOK_SECRET=SECRET,
            STAIROIDS_WEBHOOKS_FORWARD=f"crm={crm.url} bi={bi.url}",
        ) as (process, url),
    ):
        for number in range(9):
            body = a_body(f"evt_{number}")
            requests.post(url, body, headers=headers_for(body), timeout=60)
        until(lambda: len(crm.ids) == len(bi.ids) == 9)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "canary" not in log
    assert {name: lag.events for name, lag in lags(home).items()} == {"crm": 0, "bi": 0}


def test_receiver_stops_in_time_though_store_and_handler_hang(
    postgres_url: str,
) -> None:
    with EventStore.create(postgres_url) as store:
        fill(store, accounts=20, number=1)
    released = threading.Event()

    def hang(_payload: Payload, _number: int) -> Answer:
        released.wait(60)
        return OK

    engine = sa.create_engine(
        postgres_url.replace("postgresql:", "postgresql+psycopg:")
    )
    with (
        WebhookHandler(hang) as handler,
        engine.connect() as other,
        serving(
            postgres_url,
            STAIROIDS_WEBHOOK_SECRET=SECRET,
            STAIROIDS_WEBHOOKS_FORWARD=f"crm={handler.url} bi={handler.url}",
        ) as (process, _),
    ):
        until(lambda: handler.requests.total() == 16)
        other.exec_driver_sql("LOCK TABLE webhook_forwards")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        seconds = time.monotonic() - began
        released.set()
    engine.dispose()

    assert seconds < 16, log
