"""The command `stairoids-webhooks serve`, as a process where that matters."""

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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from click.testing import CliRunner, Result

from tap_stairoids_webhooks import environment
from tap_stairoids_webhooks.cli.main import main
from tap_stairoids_webhooks.environment import (
    SECRET_VARIABLE,
    SECRETS_VARIABLE,
    ReceiverSettings,
)
from tap_stairoids_webhooks.store.statistics import statistics_of
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.forks import Forked, forked
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_receiver,
    exchange,
    headers_for,
    raw_request,
    status_from,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES = (SECRET_VARIABLE, SECRETS_VARIABLE, f"{SECRET_VARIABLE}_FILE")
COMMAND = Path(sys.executable).with_name("stairoids-webhooks")


def clean_environment(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STAIROIDS_")}
    return clean | more


@contextmanager
def serving(
    store_url: str, *before: str, stderr: int = subprocess.PIPE, **env: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until the block ends; yield it and its URL.

    It is a fork, unless there are words before the command.
    """
    words = [str(COMMAND), "serve", "--port", "0", "--store-url", store_url]
    start: type[subprocess.Popen[str]] = subprocess.Popen if before else Forked
    process = start(
        [*before, *words] if before else forked(words),
        env=clean_environment(**(env or {"STAIROIDS_WEBHOOK_SECRET": SECRET})),
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
    """Eight senders, each sending events until the receiver stops."""

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
                    response = session.post(
                        self._url, body, headers=headers_for(body), timeout=15
                    )
                except requests.RequestException:
                    return
                if response.status_code == 200:
                    self.acknowledged.append(event_id)
                else:
                    self.refused.append(response.status_code)
                if len(self.acknowledged) > 200:
                    self.enough.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def stored_ids(store_url: str) -> list[str | None]:
    ids: list[str | None] = []
    with EventStore.open_read_only(store_url) as store:
        sequence, upper = 0, store.last_sequence()
        while page := store.read_after(sequence, upper=upper):
            ids += [event.event_id for event in page]
            sequence = page[-1].sequence
    return ids


def test_acknowledged_is_stored_under_kill_9(store_url: str) -> None:
    """`test_kill` has many kills."""
    with serving(store_url) as (process, url):
        senders = Senders(url)
        assert senders.enough.wait(30)
        threading.Event().wait(random.random() / 10)  # noqa: S311 -- any moment will do
        process.send_signal(signal.SIGKILL)
        senders.join()

    stored = stored_ids(store_url)
    assert set(senders.acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))


@pytest.mark.slow
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


def test_stop_finishes_begun_requests_and_logs_them(store_url: str) -> None:
    with serving(store_url) as (process, url):
        parts = urlsplit(url)
        address = (str(parts.hostname), int(parts.port or 0))
        begun, rest = raw_request(a_body())[:-5], raw_request(a_body())[-5:]
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(begun)
            # This response shows that the loop has read the bytes before it.
            assert exchange(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == 200
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            log = process.stderr.readline() + process.stderr.readline()
            connection.sendall(rest)
            assert status_from(connection) == 200
        _, end = process.communicate(timeout=30)

    assert "12 s to finish: signal=SIGINT requests=1\n" in log
    assert end.endswith("INFO stopped: exit_code=0 unanswered=0\n")
    assert process.returncode == 0


def test_log_lines_are_json(store_url: str) -> None:
    with serving(
        store_url,
        STAIROIDS_WEBHOOK_SECRET=SECRET,
        STAIROIDS_WEBHOOKS_LOG_FORMAT="json",
        STAIROIDS_WEBHOOKS_ADMIN_PORT="0",
        STAIROIDS_WEBHOOKS_ADMIN_TOKEN="a-token-of-the-tests",  # noqa: S106 -- a test's
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
    fields = [
        (line["message"], {k: line[k] for k in line if k not in always})
        for line in lines
    ]
    counts = Counter[str]()
    for message, values in fields:
        if message == "deliveries":
            counts.update(values)
    assert counts == {"stored": 1, "duplicate": 1, "signature_mismatch": 1}
    assert [pair for pair in fields if pair[0] != "deliveries"] == [
        ("listening", {"url": url, "store": store_url.removeprefix("sqlite:///")}),
        (
            "stopping, begun requests have 12 s to finish",
            {"signal": "SIGTERM", "requests": 0},
        ),
        ("stopped", {"exit_code": 0, "unanswered": 0}),
    ]
    assert "a-token-of-the-tests" not in log


def test_log_level_warning_logs_ignored_secret_only(store_url: str) -> None:
    with serving(
        store_url,
        STAIROIDS_WEBHOOK_SECRET="canary",  # noqa: S106 -- a test's
        STAIROIDS_WEBHOOK_SECRETS=json.dumps([SECRET]),
        STAIROIDS_WEBHOOKS_LOG_LEVEL="WARNING",
    ) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)

    (line,) = log.splitlines()
    assert line.endswith(
        "WARNING STAIROIDS_WEBHOOK_SECRETS and STAIROIDS_WEBHOOK_SECRET are both set:"
        " the secrets of STAIROIDS_WEBHOOK_SECRETS count, STAIROIDS_WEBHOOK_SECRET is"
        " not read"
    )
    for canary in ("canary", SECRET):
        assert canary not in log


@pytest.mark.slow
@pytest.mark.parametrize(("stdout", "is_lost"), [(">&-", False), (">/dev/full", True)])
def test_receiver_runs_without_stdout(
    store_url: str, stdout: str, *, is_lost: bool
) -> None:
    command = f"exec {COMMAND} serve --port 0 --store-url {store_url} {stdout}"
    process = subprocess.Popen(
        ["sh", "-c", command],
        env=clean_environment(STAIROIDS_WEBHOOK_SECRET=SECRET),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    listening = process.stderr.readline()
    lost = process.stderr.readline() if is_lost else ""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)

    assert "listening: url=" in listening
    assert ("the ready line could not be written to stdout" in lost) == is_lost
    assert "Traceback" not in log
    assert process.returncode == 0


def test_secrets_are_rotated_without_loss(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAIROIDS_WEBHOOK_SECRETS", json.dumps(["new", SECRET]))
    with a_receiver(store_url, secrets=environment.secrets()) as receiver:
        for secret in ("new", SECRET, "wrong"):
            body = a_body(f"evt_{secret}")
            headers = headers_for(body, secret=secret)
            response = requests.post(receiver.url, body, headers=headers, timeout=60)
            assert response.status_code == (401 if secret == "wrong" else 200)  # noqa: S105 -- a test's

        assert len(statistics_of(receiver.store).keys) == 2


def serve(store_url: str, *options: str, **env: str) -> Result:
    """Run `serve` in this process, for settings with which it does not start."""
    arguments = ["serve", "--port", "0", "--store-url", store_url, *options]
    unset = dict.fromkeys(VARIABLES)
    return CliRunner().invoke(main, arguments, env=unset | env)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "STAIROIDS_WEBHOOK_SECRET"),
        ({"STAIROIDS_WEBHOOK_SECRET": ""}, "STAIROIDS_WEBHOOK_SECRET"),
        ({"STAIROIDS_WEBHOOK_SECRETS": "hunter2"}, "JSON array"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '"hunter2"'}, "one or more non-empty"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '["hunter2", ""]'}, "one or more non-empty"),
        ({"STAIROIDS_WEBHOOK_SECRETS": "[]"}, "one or more non-empty"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '["hunter2\\n"]'}, "ends with white space"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '[" hunter2"]'}, "begins or ends with white"),
        ({"STAIROIDS_WEBHOOK_SECRET": "hunter2\nhunter3"}, "has a line break"),
        ({"STAIROIDS_WEBHOOK_SECRET": "hunter2\udcff"}, "that cannot be printed"),
        ({"STAIROIDS_WEBHOOK_SECRETS": '["hunter2\udcff"]'}, "JSON array"),
        ({"STAIROIDS_WEBHOOK_SECRET_FILE": "/no/such/file"}, "cannot be read: /no/"),
        ({"STAIROIDS_WEBHOOK_SECRET_FILE": "/dev/null"}, "/dev/null is empty"),
        (
            {
                "STAIROIDS_WEBHOOK_SECRET_FILE": "/dev/null",
                "STAIROIDS_WEBHOOK_SECRET": "hunter2",
            },
            "are both set: unset one",
        ),
    ],
)
def test_unusable_secret_is_an_error(
    store_url: str, env: dict[str, str], message: str
) -> None:
    done = serve(store_url, **env)

    assert done.exit_code == 1
    assert message in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--host", "a..b", "cannot listen on a..b port 0: no name of a host"),
        ("--path", "hooks", "--path must be a path such as /hooks, not 'hooks'"),
        ("--path", "/hooks?a=b", "--path must be a path such as /hooks, not"),
        ("--path", "/a b", "--path must be a path such as /hooks, not '/a b'"),
        ("--path", "/healthz/", "--path must be a path such as /hooks, not"),
    ],
)
def test_unusable_address_is_an_error(
    store_url: str, option: str, text: str, message: str
) -> None:
    done = serve(store_url, option, text, STAIROIDS_WEBHOOK_SECRET=SECRET)

    assert done.exit_code == 1
    assert message in done.stderr


def test_secret_in_a_file_is_exact(store_url: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" hunter2\n")
    done = serve(store_url, STAIROIDS_WEBHOOK_SECRET_FILE=str(tmp_path / "secret"))

    assert done.exit_code == 1
    assert "begins or ends with white space" in done.stderr
    assert "hunter2" not in done.stderr


def test_secrets_are_read_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("SECRETS", '["a", "b"]\n'), ("S_ADMIN_TOKEN", "x" * 16)):
        (tmp_path / name).write_text(text)
        variable = f"STAIROIDS_WEBHOOK{'_' * (name == 'SECRETS')}{name}_FILE"
        monkeypatch.setenv(variable, str(tmp_path / name))

    assert environment.secrets() == ["a", "b"]
    assert environment.admin_token() == "x" * 16


def test_store_url_with_a_password_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:hunter2@127.0.0.1:1/x\n")
    arguments, variable = ["stats"], "STAIROIDS_WEBHOOKS_STORE_URL"
    run = partial(CliRunner().invoke, main, arguments)

    done = run(env={f"{variable}_FILE": str(tmp_path / "url")})
    both = run(env={f"{variable}_FILE": str(tmp_path / "url"), variable: "sqlite:///x"})

    assert "@127.0.0.1:1/x cannot be opened" in done.stderr
    assert "hunter2" not in done.stderr
    assert f"{variable} and {variable}_FILE are both set: unset one" in both.stderr


def test_port_in_use_is_an_error(store_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = serve(store_url, "--port", port, STAIROIDS_WEBHOOK_SECRET=SECRET)

    assert done.exit_code == 1
    reason = "Address already in use. Choose another --host or --port."
    assert f"cannot listen on 127.0.0.1 port {port}: {reason}" in done.stderr


def test_admin_port_needs_a_token(store_url: str) -> None:
    done = serve(store_url, "--admin-port", "0", STAIROIDS_WEBHOOK_SECRET=SECRET)

    assert done.exit_code == 1
    assert "STAIROIDS_WEBHOOKS_ADMIN_TOKEN" in done.stderr


def test_every_setting_is_an_option_and_a_variable() -> None:
    options = {option.name: option for option in main.commands["serve"].params}

    assert set(options) == set(ReceiverSettings.__struct_fields__)
    for name, option in options.items():
        assert option.envvar == f"STAIROIDS_WEBHOOKS_{name}".upper()
