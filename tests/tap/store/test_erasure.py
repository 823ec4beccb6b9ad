"""Erasure empties the events of a person and leaves no trace of the bodies."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import StoreMissingError, StoreUnavailableError
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.schema import Outcome
from tap_stairoids_webhooks.store.statistics import statistics_of
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import (
    EMAIL,
    a_body,
    a_delivery,
    an_action_body,
    deliveries,
)

ADA = Person(email="Ada@Example.com ", contact_id="con_9")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (a_body(data={"contact": {"email": "ada@example.com"}}), True),
        (a_body(data={"contact": {"email": "ADA@EXAMPLE.COM"}}), True),
        (a_body(data={"contact": {"id": "con_9"}}), True),
        (a_body(data={"note": "Call ada@example.com."}), True),
        (a_body(data={"ada@example.com": [1]}), True),
        (b'{"data": {"email": "ada\\u0040example.com"}}', True),
        (a_body(data={"people": [[{"id": "con_9"}]]}), True),
        (b"no JSON, but ada@example.com", True),
        (b'{"id": "con_9", "id": "con_9"}', True),
        (b"\xff ada@example.com", True),
        (a_body(data={"contact": {"email": "mada@example.com"}}), False),
        (a_body(data={"contact": {"email": "ada@example.com.au"}}), False),
        (a_body(data={"contact": {"email": "x.ada@example.com"}}), False),
        (a_body(data={"contact": {"id": "con_99"}}), False),
        (a_body(data={"contact": None, "n": True}), False),
        (b"no JSON, con_99", False),
    ],
)
def test_person_is_recognised_in_a_body(body: bytes, *, expected: bool) -> None:
    assert ADA.is_in(body) is expected


def test_contact_id_may_be_a_number() -> None:
    assert Person(contact_id="17").is_in(b'{"contact_id": 17}')
    assert not Person(contact_id="17").is_in(b'{"contact_id": 170}')


def test_erased_event_keeps_its_sequence_and_type(
    home: EventStore, home_url: str
) -> None:
    other = a_delivery(a_body("evt_2", data={}))
    home.append([a_delivery(a_body("evt_1")), other, a_delivery(an_action_body())])

    number = erase(home_url, Person(email=EMAIL))

    first, second, third = home.read_after(0, upper=9)
    assert number == 2
    assert (first.body, first.signature, first.headers) == (b"", "", {})
    assert (first.sequence, first.event) == (1, "signal.created")
    assert first.erased_at is not None
    assert second.body == other.body
    assert third.erased_at is not None
    assert [
        e.sequence for e in home.read_after(0, upper=9, selected=EventFilter())
    ] == [2]


def test_redelivery_does_not_restore_an_erased_body(
    home: EventStore, home_url: str
) -> None:
    again = [a_delivery(a_body("evt_1")), a_delivery(an_action_body())]
    home.append(again)
    erase(home_url, Person(email=EMAIL))

    assert home.append(again) == [Outcome.DUPLICATE] * 2
    assert erase(home_url, Person(email=EMAIL)) == 0


def test_erased_body_is_in_no_file(store: EventStore, store_url: str) -> None:
    """Neither in the table nor in the write-ahead log, also of large bodies."""
    for size in (10, 1_000, 50_000):
        pad = EMAIL * (size // len(EMAIL) + 1)
        store.append([a_delivery(a_body(f"evt_{size}_{n}", pad=pad)) for n in range(9)])
    folder = Path(store_url.removeprefix("sqlite:///")).parent
    files = list(folder.glob("webhooks.db*"))
    assert any(EMAIL.encode() in file.read_bytes() for file in files)

    erase(store_url, Person(email=EMAIL))

    remains = [f.name for f in folder.iterdir() if EMAIL.encode() in f.read_bytes()]
    assert remains == []
    assert statistics_of(store).total == 27


def test_erasure_works_while_deliveries_arrive(
    store: EventStore, store_url: str
) -> None:
    store.append([a_delivery(a_body(f"evt_{n}")) for n in range(50)])
    ended = threading.Event()

    def deliver() -> None:
        for number in range(100_000):
            if ended.is_set():
                return
            store.append([a_delivery(a_body(f"evt_new_{number}", data={}))])

    delivering = threading.Thread(target=deliver)
    delivering.start()
    try:
        assert erase(store_url, Person(email=EMAIL)) == 50
    finally:
        ended.set()
        delivering.join()

    files = Path(store_url.removeprefix("sqlite:///")).parent.glob("webhooks.db*")
    assert all(EMAIL.encode() not in file.read_bytes() for file in files)


def test_open_reader_prevents_erasure_of_the_log(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0.1)
    store.append(deliveries(1))
    with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as reader:
        reader.isolation_level = None
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM webhook_events").fetchone()

        with pytest.raises(StoreUnavailableError, match=r"write-ahead log.*try again"):
            erase(store_url, Person(email=EMAIL))

    assert erase(store_url, Person(email=EMAIL)) == 0


def test_postgresql_vacuums_erased_rows(postgres_url: str) -> None:
    with EventStore.create(postgres_url) as store:
        store.append([a_delivery(a_body("evt_1"))])
        erase(postgres_url, Person(email=EMAIL))
    url = postgres_url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url)
    dead = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relname = 'webhook_events'"
    with engine.connect() as connection:
        assert connection.exec_driver_sql(dead).scalar() == 0
    engine.dispose()


def test_missing_store_is_not_made(home_url: str) -> None:
    with pytest.raises(StoreMissingError):
        erase(home_url, Person(email=EMAIL))
