"""`make demo` tells its story, and leaves nothing running however it ends."""

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
    """What a new user has: an empty home, nothing cached, nothing set."""
    theirs = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "STAIROIDS_", "TARGET_", "TAP_", "VIRTUAL_"))
    }
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    return {**theirs, "HOME": str(home), "TMPDIR": str(temporary)}


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


def assert_nothing_listens_anymore(told: str) -> None:
    urls = re.findall(r"http://127\.0\.0\.1:\d+", told)
    assert len(urls) == 2
    for url in urls:
        with socket.socket() as connection:
            assert connection.connect_ex(("127.0.0.1", urlsplit(url).port)) != 0


def test_demo_tells_how_a_taps_records_became_signals_and_came_back(
    environment: dict[str, str],
) -> None:
    with start(environment) as demo:
        told, complaints = demo.communicate(timeout=240)

    assert (demo.returncode, complaints) == (0, "")
    assert "20 records read: 19 accepted, 1 invalid." in told
    assert "19 signed webhooks came in" in told
    assert "19 records of `events`" in told
    assert "20 records read: 19 duplicate, 1 invalid." in told
    assert "Stairoids holds 19 signals, as before" in told
    assert_nothing_listens_anymore(told)
    (folder,) = Path(environment["TMPDIR"]).glob("stairoids-demo-*")
    printed = (folder / "webhooks.jsonl").read_text().splitlines()
    events = [m for m in map(json.loads, printed) if m.get("stream") == "events"]
    assert sum(m["type"] == "RECORD" for m in events) == 19


def test_demo_shows_the_last_words_of_the_program_that_failed(
    environment: dict[str, str],
) -> None:
    """With nothing cached and no package index, the tap cannot be had."""
    with start({**environment, "UV_OFFLINE": "1"}) as demo:
        told, complaints = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "tap-jsonl ended with exit code" in complaints
    assert "tap-jsonl was not found in the cache" in complaints
    assert "Traceback" not in complaints
    assert_nothing_listens_anymore(told)


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_interrupted_demo_stops_what_it_started(
    environment: dict[str, str], number: int, exit_code: int
) -> None:
    with start(environment) as demo:
        assert demo.stdout is not None
        told = "".join(demo.stdout.readline() for _ in range(3))

        demo.send_signal(number)
        _, complaints = demo.communicate(timeout=60)

    assert demo.returncode == exit_code
    assert "Traceback" not in complaints
    assert_nothing_listens_anymore(told)
