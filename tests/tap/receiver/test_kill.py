"""Repeated kill -9 of the receiver loses no acknowledged event, and emits none twice.

Meanwhile Stairoids delivers and redelivers, and the tap reads with the state of its
last run. Before some kills, the connections to the database fall silent, or a writer
freezes. ``STAIROIDS_KILLS`` is the number of kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.forks import forked
from tests.support.silent_proxy import SilentProxy
from tests.support.webhook_builders import a_body, headers_for
from tests.tap.receiver.test_app import until
from tests.tap.receiver.test_recovery import frozen_writer
from tests.tap.receiver.test_server import serving
from tests.tap.test_tap import TAP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

_KILLS = int(os.environ.get("STAIROIDS_KILLS", "10"))
_RECOVERY_SECONDS = 15
_ATTEMPTS = 5  # Stairoids gives an event up after so many


class Stairoids:
    """Eight senders; each delivers an event up to five times until it gets 2xx."""

    def __init__(self) -> None:
        self._url = ""
        self._moved = threading.Condition()
        self._ended = threading.Event()
        self.acknowledged: set[str] = set()
        self.redelivered = 0
        self._threads = [
            threading.Thread(target=self._send, args=[number]) for number in range(8)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @contextmanager
    def acknowledging_soon(self) -> Iterator[None]:
        """Check that more deliveries succeed than were on their way before."""
        before = len(self.acknowledged) + len(self._threads)
        yield
        until(lambda: len(self.acknowledged) > before, seconds=_RECOVERY_SECONDS)

    def deliver_to(self, url: str) -> None:
        with self._moved:
            self._url = url
            self._moved.notify_all()

    def join(self) -> None:
        self._ended.set()
        self.deliver_to(self._url)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _send(self, sender: int) -> None:
        with requests.Session() as session:
            for number in range(1_000_000):
                if self._ended.is_set():
                    return
                event_id = f"evt_{sender}_{number}"
                if self._deliver(session, a_body(event_id)):
                    self.acknowledged.add(event_id)
                    # A replay by hand of an acknowledged event.
                    if number % 7 == 0:
                        self._deliver(session, a_body(event_id))

    def _deliver(self, session: requests.Session, body: bytes) -> bool:
        for attempt in range(_ATTEMPTS):
            url = self._url
            self.redelivered += attempt > 0
            headers = headers_for(body, delivery_id=str(uuid.uuid4()))
            try:
                response = session.post(url, body, headers=headers, timeout=60)
            except requests.RequestException:
                # Instead of the minutes for which Stairoids backs off.
                with self._moved:
                    self._moved.wait_for(
                        lambda: self._url != url or self._ended.is_set(),  # noqa: B023 -- it is this round's
                        _RECOVERY_SECONDS,
                    )
                continue
            if response.status_code == 200:
                return True
        return False


class Reader:
    """Runs the tap again and again, each time from the state it had printed last."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self._folder = folder
        self._state: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        config = {"store_url": store_url, "consumer": "test"}
        (folder / "config.json").write_text(json.dumps(config))
        self.runs = 0
        self.failed: list[str] = []
        self.events: Counter[str] = Counter()
        self.sequences: list[int] = []

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.read()

    def read(self) -> None:
        command = [str(TAP), "--config", str(self._folder / "config.json")]
        if self._state is not None:
            (self._folder / "state.json").write_text(json.dumps(self._state))
            command += ["--state", str(self._folder / "state.json")]
        done = subprocess.run(
            forked(command), capture_output=True, text=True, check=False
        )
        self.runs += 1
        if done.returncode != 0:
            self.failed.append(done.stderr)
        for message in map(json.loads, done.stdout.splitlines()):
            if message["type"] == "STATE":
                self._state = message["value"]
            if message["type"] == "RECORD" and message["stream"] == "events":
                self.events[message["record"]["event_id"]] += 1
                self.sequences.append(message["record"]["sequence"])


@pytest.mark.timeout(60 + 15 * _KILLS)
def test_acknowledged_is_emitted_and_nothing_twice(
    home_url: str, tmp_path: Path
) -> None:
    stairoids, reader = Stairoids(), Reader(tmp_path, home_url)

    with ExitStack() as ending:
        proxy, store_url = None, home_url
        if home_url.startswith("postgresql"):
            proxy = ending.enter_context(SilentProxy(home_url))
            store_url = proxy.url
        # Also after a failure, because the threads would go on without end.
        ending.callback(reader.join)
        ending.callback(stairoids.join)
        for kill in range(_KILLS):
            with serving(store_url, stderr=subprocess.DEVNULL) as (process, url):
                stairoids.deliver_to(url)
                if kill == 0:
                    stairoids.start()
                    reader.start()
                threading.Event().wait(0.2 + random.random() / 2)  # noqa: S311 -- any moment will do
                if proxy is not None and kill % 10 == 1:
                    with stairoids.acknowledging_soon():
                        proxy.fall_silent()
                if kill % 10 == 2:
                    _freeze_a_writer(home_url, stairoids)
                process.send_signal(signal.SIGKILL)
                process.wait()
        with (
            serving(store_url, stderr=subprocess.DEVNULL) as (_, url),
            stairoids.acknowledging_soon(),
        ):
            stairoids.deliver_to(url)
    reader.read()

    assert reader.failed == []
    assert len(stairoids.acknowledged) > 10 * _KILLS
    assert stairoids.redelivered > 0
    assert stairoids.acknowledged - set(reader.events) == set()
    assert [e for e, number in reader.events.items() if number > 1] == []
    assert reader.sequences == sorted(set(reader.sequences))
    assert reader.runs > 1


def _freeze_a_writer(store_url: str, stairoids: Stairoids) -> None:
    """PostgreSQL can end the session of a frozen writer; SQLite waits for the end."""
    if store_url.startswith("postgresql"):
        with (
            frozen_writer(store_url, "amid a batch"),
            stairoids.acknowledging_soon(),
        ):
            pass
        return
    with stairoids.acknowledging_soon(), frozen_writer(store_url):
        threading.Event().wait(1)
