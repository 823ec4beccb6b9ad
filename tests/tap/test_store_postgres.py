"""The store on PostgreSQL: several writers, and a reader that skips nothing.

Starts a server of its own on a Unix socket; left out where there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from typing_extensions import override

from tap_stairoids_webhooks.database import PostgresDatabase
from tap_stairoids_webhooks.exceptions import StoreMissingError, StoreUnavailableError
from tap_stairoids_webhooks.rows import EVENTS, Outcome
from tap_stairoids_webhooks.serve import Receiver
from tap_stairoids_webhooks.store import EventStore
from tests.tap.builders import SECRET, a_body, a_delivery, an_action_body, deliveries
from tests.tap.test_receiver import post

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(shutil.which("initdb") is None, reason="no PostgreSQL here"),
    pytest.mark.xdist_group("postgres"),
]


def as_its_user(*command: str) -> None:
    """Run a command of the server, which refuses to run as root."""
    prefix = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    subprocess.run([*prefix, *command], check=True, capture_output=True)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data = str(folder / "data")
    as_its_user("initdb", "-D", data, "-U", "tests", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    as_its_user("pg_ctl", "-D", data, "-l", f"{data}/log", "-w", "-o", options, "start")
    try:
        yield f"postgresql://tests@/postgres?host={quote(str(folder), safe='')}"
    finally:
        as_its_user("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server: str) -> Iterator[str]:
    yield server
    engine = sa.create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for table in ("webhook_events", "webhook_store"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    engine.dispose()


def test_store_keeps_its_promises(url: str) -> None:
    with EventStore.create(url) as store:
        outcomes = store.append(
            [
                a_delivery(a_body("evt_1")),
                a_delivery(a_body("evt_1")),
                a_delivery(a_body("evt_1", extra=1)),
                a_delivery(an_action_body()),
                a_delivery(b"\x00\xff"),
                a_delivery(a_body("a\x00b", "c\x00d")),
            ]
        )
        again = store.append([a_delivery(a_body("evt_1"))])

    assert outcomes == [
        Outcome.STORED,
        Outcome.DUPLICATE,
        Outcome.CONFLICT,
        *[Outcome.STORED] * 3,
    ]
    assert again == [Outcome.DUPLICATE]
    with EventStore.open_to_read(url) as reader:
        events = reader.read_after(0, upper=reader.last_sequence())
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
        assert events[3].body == b"\x00\xff"
        assert reader.read_after(0, upper=9, malformed=True) == [events[3]]
        assert reader.stats().total == 5
        assert reader.store_id == store.store_id


def test_missing_store_is_told(url: str) -> None:
    with pytest.raises(StoreMissingError, match="there is no store at"):
        EventStore.open_to_read(url)


def test_reader_cannot_write(url: str) -> None:
    with (
        EventStore.create(url),
        EventStore.open_to_read(url) as reader,
        pytest.raises(StoreUnavailableError, match="read-only"),
    ):
        reader.append(deliveries(1))


def test_two_receivers_store_a_redelivery_once(url: str) -> None:
    with (
        Receiver(store_url=url, secrets=[SECRET]) as one,
        Receiver(store_url=url, secrets=[SECRET]) as two,
    ):
        answers = [post(receiver, a_body("evt_1")).text for receiver in (one, two)]

    assert answers == ["stored", "duplicate"]


class Unlocked(PostgresDatabase):
    """The mistake the control makes."""

    @override
    def lock(self, connection: sa.Connection) -> None:
        pass


class Race:
    """Eight writers with transactions of different length, and a following reader."""

    def __init__(self, url: str, *, locking: bool) -> None:
        self._url = url
        self._locking = locking
        self._done = threading.Event()
        self.seen: list[int] = []

    def run(self) -> list[int]:
        """Return the sequences that the reader never saw."""
        with EventStore.create(self._url) as reader:
            following = threading.Thread(target=self._follow, args=[reader])
            writers = [threading.Thread(target=self._write, args=[n]) for n in range(8)]
            for thread in (following, *writers):
                thread.start()
            for thread in writers:
                thread.join()
            self._done.set()
            following.join()
            stored = []
            sequence = 0
            while page := reader.read_after(sequence, upper=10**9):
                stored += [event.sequence for event in page]
                sequence = page[-1].sequence
        return sorted(set(stored) - set(self.seen))

    def _write(self, writer: int) -> None:
        with EventStore.create(self._url) as store:
            if not self._locking:
                store._database = Unlocked(sa.make_url(self._url))
            for number in range(40):
                size = (writer * 7 + number * 3) % 10 + 1
                store.append(
                    [
                        a_delivery(a_body(f"evt_{writer}_{number}_{n}", pad="x" * 3000))
                        for n in range(size)
                    ]
                )

    def _follow(self, reader: EventStore) -> None:
        bookmark, finished = 0, False
        while not finished:
            finished = self._done.is_set()
            while page := reader.read_after(bookmark, upper=10**9):
                self.seen += [event.sequence for event in page]
                bookmark = page[-1].sequence


def test_reader_skips_nothing_of_concurrent_writers(url: str) -> None:
    race = Race(url, locking=True)

    assert race.run() == []
    assert race.seen == sorted(set(race.seen))


def test_without_the_lock_the_reader_would_skip_events(url: str) -> None:
    """The control: if this finds nothing missing, the test above proves nothing."""
    missed: list[int] = []
    for _ in range(10):
        missed += Race(url, locking=False).run()
        if missed:
            break
        with EventStore.create(url) as store, store._engine.begin() as connection:
            connection.execute(sa.delete(EVENTS))

    assert missed
