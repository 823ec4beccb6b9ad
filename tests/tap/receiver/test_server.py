"""`stairoids-webhooks serve` as a process: what is acknowledged stays."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    exchange,
    headers_for,
    raw_request,
    status_from,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).with_name("stairoids-webhooks")


def environment(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STAIROIDS_")}
    return clean | more


@contextmanager
def serving(
    store_url: str, *, stderr: int = subprocess.PIPE, **env: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until the block ends; yield it and its URL."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", "--store-url", store_url],
        env=environment(**(env or {"STAIROIDS_WEBHOOK_SECRET": SECRET})),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        yield process, ready["url"]
    finally:
        process.kill()
        process.communicate()


class Senders:
    """Eight of them, each sending event after event until the door closes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.enough = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=[n]) for n in range(8)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, sender: int) -> None:
        with requests.Session() as session:
            for number in range(100_000):
                event_id = f"evt_{os.urandom(3).hex()}_{sender}_{number}"
                body = a_body(event_id)
                try:
                    answer = session.post(
                        self._url, body, headers=headers_for(body), timeout=15
                    )
                except requests.RequestException:
                    return
                if answer.status_code == 200:
                    self.acknowledged.append(event_id)
                else:
                    self.refused.append(answer.status_code)
                if len(self.acknowledged) > 200:
                    self.enough.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def stored_ids(store_url: str) -> list[str | None]:
    ids: list[str | None] = []
    with EventStore.open_to_read(store_url) as store:
        sequence, upper = 0, store.last_sequence()
        while page := store.read_after(sequence, upper=upper):
            ids += [event.event_id for event in page]
            sequence = page[-1].sequence
    return ids


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_acknowledged_is_stored_under_kill_9(store_url: str, kills: int) -> None:
    acknowledged: list[str] = []

    for _ in range(kills):
        with serving(store_url) as (process, url):
            senders = Senders(url)
            assert senders.enough.wait(30)
            threading.Event().wait(random.random() / 10)  # noqa: S311 -- any moment will do
            process.send_signal(signal.SIGKILL)
            senders.join()
        acknowledged += senders.acknowledged

    stored = stored_ids(store_url)
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))


def test_sigterm_drains_and_exits_0(store_url: str) -> None:
    with serving(store_url) as (process, url):
        senders = Senders(url)
        assert senders.enough.wait(30)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        senders.join()

    assert process.returncode == 0
    assert set(senders.refused) <= {503}
    assert sorted(senders.acknowledged) == sorted(map(str, stored_ids(store_url)))
    assert "Traceback" not in log
    assert EMAIL not in log
    assert SECRET not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_says_what_is_finished_and_how_it_ended(
    store_url: str, number: signal.Signals
) -> None:
    with serving(store_url) as (process, url):
        parts = urlsplit(url)
        address = (str(parts.hostname), int(parts.port or 0))
        begun, rest = raw_request(a_body())[:-5], raw_request(a_body())[-5:]
        with socket.create_connection(address, timeout=15) as connection:
            connection.sendall(begun)
            # Its answer shows that the loop has read what came before it.
            assert exchange(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == 200
            process.send_signal(number)
            assert process.stderr is not None
            log = process.stderr.readline() + process.stderr.readline()
            connection.sendall(rest)
            assert status_from(connection) == 200
        _, end = process.communicate(timeout=30)

    assert f"12 s to finish: signal={number.name} requests=1\n" in log
    assert end.endswith("INFO stopped: exit_code=0 unanswered=0\n")
    assert process.returncode == 0


def test_log_is_json_if_asked_for(store_url: str) -> None:
    with serving(
        store_url,
        STAIROIDS_WEBHOOK_SECRET=SECRET,
        STAIROIDS_WEBHOOKS_LOG_FORMAT="json",
    ) as (process, url):
        for secret in (SECRET, SECRET, "wrong"):
            requests.post(
                url, a_body(), headers=headers_for(a_body(), secret=secret), timeout=15
            )
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)

    lines = [json.loads(line) for line in log.splitlines()]
    always = ("time", "level", "logger", "message")
    assert {tuple(line)[:4] for line in lines} == {always}
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is UTC
    told = [
        (line["message"], {k: line[k] for k in line if k not in always})
        for line in lines
    ]
    counts = Counter[str]()
    for message, fields in told:
        if message == "deliveries":
            counts.update(fields)
    assert counts == {"stored": 1, "duplicate": 1, "signature_mismatch": 1}
    assert [pair for pair in told if pair[0] != "deliveries"] == [
        ("listening", {"url": url, "store": store_url.removeprefix("sqlite:///")}),
        (
            "stopping, what was begun has 12 s to finish",
            {"signal": "SIGTERM", "requests": 0},
        ),
        ("stopped", {"exit_code": 0, "unanswered": 0}),
    ]


def test_log_level_leaves_out_what_is_less(store_url: str) -> None:
    with serving(
        store_url,
        STAIROIDS_WEBHOOK_SECRET=SECRET,
        STAIROIDS_WEBHOOKS_LOG_LEVEL="WARNING",
    ) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)

    assert log == ""


def test_secrets_are_rotated_without_loss(store_url: str) -> None:
    secrets = json.dumps(["new", SECRET])
    with serving(store_url, STAIROIDS_WEBHOOK_SECRETS=secrets) as (_, url):
        for secret in ("new", SECRET, "wrong"):
            body = a_body(f"evt_{secret}")
            headers = headers_for(body, secret=secret)
            answer = requests.post(url, body, headers=headers, timeout=15)
            assert answer.status_code == (401 if secret == "wrong" else 200)  # noqa: S105 -- a test's

    with EventStore.open_to_read(store_url) as store:
        assert len(store.stats().keys) == 2


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "STAIROIDS_WEBHOOK_SECRET"),
        ({"STAIROIDS_WEBHOOK_SECRET": ""}, "STAIROIDS_WEBHOOK_SECRET"),
        ({"STAIROIDS_WEBHOOK_SECRETS": "hunter2"}, "JSON array"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '"hunter2"'}, "list of one or more"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '["hunter2", ""]'}, "list of one or more"),
        ({"STAIROIDS_WEBHOOK_SECRETS": "[]"}, "list of one or more"),
    ],
)
def test_no_usable_secret_is_an_error(
    store_url: str, env: dict[str, str], message: str
) -> None:
    done = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--store-url", store_url],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_secret_that_is_not_read_is_warned_of(store_url: str) -> None:
    with serving(
        store_url,
        STAIROIDS_WEBHOOK_SECRET="canary",  # noqa: S106 -- a test's
        STAIROIDS_WEBHOOK_SECRETS=json.dumps([SECRET]),
    ) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)

    (line,) = (line for line in log.splitlines() if "WARNING" in line)
    assert line.endswith(
        "STAIROIDS_WEBHOOK_SECRETS and STAIROIDS_WEBHOOK_SECRET are both set: the"
        " secrets of STAIROIDS_WEBHOOK_SECRETS count, STAIROIDS_WEBHOOK_SECRET is not"
        " read"
    )
    for canary in ("canary", SECRET):
        assert canary not in log


def test_port_in_use_is_an_error(store_url: str) -> None:
    with serving(store_url) as (_, url):
        port = url.split(":")[2].split("/")[0]
        done = subprocess.run(
            [COMMAND, "serve", "--port", port, "--store-url", store_url],
            env=environment(STAIROIDS_WEBHOOK_SECRET=SECRET),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_admin_listener_wants_a_token(store_url: str) -> None:
    done = subprocess.run(
        [COMMAND, "serve", "--admin-port", "0", "--store-url", store_url],
        env=environment(STAIROIDS_WEBHOOK_SECRET=SECRET),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    with serving(
        store_url,
        STAIROIDS_WEBHOOK_SECRET=SECRET,
        STAIROIDS_WEBHOOKS_ADMIN_PORT="0",
        STAIROIDS_WEBHOOKS_ADMIN_TOKEN="a-token-of-the-tests",  # noqa: S106 -- a test's
    ) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)

    assert done.returncode == 1
    assert "STAIROIDS_WEBHOOKS_ADMIN_TOKEN" in done.stderr
    assert process.returncode == 0
    assert "a-token-of-the-tests" not in log
