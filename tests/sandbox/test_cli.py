"""The command reports when it is ready, ends cleanly and survives kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import requests
from click.testing import CliRunner

from stairoids_sandbox.cli import main
from tests.support.sandbox_client import a_body, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.sandbox_receiver import Receiver

KEY = {"Authorization": "Bearer sk_demo"}


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; yield it and its URL."""
    command = [sys.executable, "-m", "stairoids_sandbox", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--key", "sk_demo:read_write", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "STAIROIDS_WEBHOOK_SECRET": "whsec_shell"},
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["event"] == "ready"
            yield process, ready["url"]
        finally:
            process.kill()


def send(url: str, **fields: object) -> requests.Response:
    body = a_body(**fields)
    return requests.post(f"{url}/signals", json=body, headers=KEY, timeout=30)


def assert_ends(process: subprocess.Popen[str], number: int) -> str:
    """End the command with a POSIX signal. Return its log."""
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)

    assert process.returncode == 0
    assert stdout == ""  # the ready line was read before
    assert "Traceback" not in stderr
    assert "sk_demo" not in stderr
    return stderr


@pytest.mark.slow
def test_accepted_signals_survive_kill_9(tmp_path: Path) -> None:
    db = str(tmp_path / "signals.db")
    with serving("--db", db) as (process, url):
        sent = [send(url).json()["id"] for _ in range(20)]
        process.kill()

    with serving("--db", db) as (process, url):
        page = requests.get(f"{url}/signals", headers=KEY, timeout=30).json()
        log = assert_ends(process, signal.SIGTERM)

    assert [signal["id"] for signal in page["data"]] == sent[::-1]
    assert "requests=1 signals=20" in log


@pytest.mark.slow
def test_options_reach_the_sandbox(receiver: Receiver) -> None:
    with serving(
        *("--plan", "starter", "--success-shape", "nested"),
        *("--automation", f"*={receiver.url}"),
        *("--webhook", f"signal.created={receiver.url}"),
        *("--excluded-domain", "rival.com"),
        *("--fault", "status,status=502,count=1"),
    ) as (process, url):
        responses = [send(url), send(url), send(url, account={"domain": "rival.com"})]
        wait_until(lambda: len(receiver.received) == 2)
        log = assert_ends(process, signal.SIGINT)

    assert [response.status_code for response in responses] == [502, 201, 422]
    assert responses[0].headers["X-RateLimit-Limit"] == "60"
    assert responses[1].json()["account"]["domain"] == "acmecorp.com"
    assert all("X-Stairoids-Signature" in r.headers for r in receiver.received)
    assert receiver.url not in log


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--key", "sk_secret"], "--key"),
        (["--key", "sk_secret:admin"], "scope"),
        (["--automation", "demo_requested"], "--automation"),
        (["--automation", "x=http://example.com/"], "https"),
        (["--webhook", "signal.deleted=https://a.b/"], "events"),
        (["--fault", "meteor"], "meteor"),
        (["--fault", "slow,delay=1"], "delay=1"),
        (["--fault", "slow,delay=1"], "did you mean `delay_ms`?"),
        (["--fault", "slow,delay_ms=soon"], "delay_ms"),
        (["--db", "/nowhere/at/all.db"], "/nowhere/at/all.db"),
        (["--plan", "free"], "free"),
        (["--host", "ü..b"], "cannot listen on ü..b:0: no name of a host. Choose"),
    ],
)
def test_wrong_option_is_named_and_exits_2(options: list[str], named: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--port", "0", *options])

    assert result.exit_code == 2
    assert named in result.output
    assert "sk_secret" not in result.output


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(main, ["--help"])

    assert "stairoids-sandbox serve --port 8900" in result.output
    assert "curl" in result.output
