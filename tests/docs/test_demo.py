"""`make demo` prints its steps and stops every program that it started."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a new user: an empty home and an empty cache."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "STAIROIDS_", "TARGET_", "TAP_", "VIRTUAL_"))
    }
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    return {**variables, "HOME": str(home), "TMPDIR": str(temporary)}


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "demo/demo.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def assert_no_server_is_left(printed: str) -> None:
    urls = re.findall(r"http://127\.0\.0\.1:\d+", printed)
    assert len(urls) == 2
    for url in urls:
        with socket.socket() as connection:
            assert connection.connect_ex(("127.0.0.1", urlsplit(url).port)) != 0


def test_demo_prints_the_way_of_the_records(
    environment: dict[str, str],
) -> None:
    with start(environment) as demo:
        printed, errors = demo.communicate(timeout=240)

    assert (demo.returncode, errors) == (0, "")
    assert "20 records read: 19 accepted, 1 invalid." in printed
    assert "19 signed webhooks came in" in printed
    assert "19 records of `events`" in printed
    assert "20 records read: 19 duplicate, 1 invalid." in printed
    assert "Stairoids holds 19 signals, as before" in printed
    assert_no_server_is_left(printed)
    (folder,) = Path(environment["TMPDIR"]).glob("stairoids-demo-*")
    assert "<html" in (folder / "report.html").read_text()
    lines = (folder / "webhooks.jsonl").read_text().splitlines()
    events = [m for m in map(json.loads, lines) if m.get("stream") == "events"]
    assert sum(m["type"] == "RECORD" for m in events) == 19


def test_failed_demo_shows_the_last_log_lines_of_the_program(
    environment: dict[str, str],
) -> None:
    """Without a cache and a package index, the tap cannot be installed."""
    with start({**environment, "UV_OFFLINE": "1"}) as demo:
        printed, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "tap-jsonl ended with exit code" in errors
    assert "tap-jsonl was not found in the cache" in errors
    assert "Traceback" not in errors
    assert_no_server_is_left(printed)


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_interrupted_demo_stops_its_programs(
    environment: dict[str, str], number: int, exit_code: int
) -> None:
    with start(environment) as demo:
        assert demo.stdout is not None
        printed = "".join(demo.stdout.readline() for _ in range(3))

        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == exit_code
    assert "Traceback" not in errors
    assert_no_server_is_left(printed)
