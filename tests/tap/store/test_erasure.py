"""Erasure empties the events of a person and leaves no trace of the bodies."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Iterator

#: As a keyboard for Japanese writes it.
WIDE = "".join(chr(ord(c) + 0xFEE0) for c in "ada@example.com")
DIGITS = "9" * 5_000  # more than Python reads
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
        (a_body(url="https://x.test/?e=ada%40example.com&n=1"), True),
        (a_body(url="https://x.test/?e=Ada%40Example%2Ecom"), True),
        (a_body(url="https://x.test/?q=mail+ada%40example.com"), True),
        (a_body(url="https://x.test/?next=%2F%3Fe%3Dada%2540example.com"), True),
        (a_body(raw=json.dumps({"email": "ada@example.com"})), True),
        (a_body(raw=json.dumps({"id": "con_9"})), True),
        (a_body(raw=json.dumps(json.dumps([{"id": "con_9"}]))), True),
        (a_body(raw='{"email": "ada\\u0040example.com"}'), True),
        (a_body(raw=f'{{"n": {DIGITS}, "email": "ada\\u0040example.com"}}'), True),
        (f'{{"n": {DIGITS}, "email": "ada\\u0040example.com"}}'.encode(), True),
        (a_body(raw='cut {"email": "ada\\u0040example.com'), True),
        (a_body(html="ada&#64;example.com, ada&commat;example.com"), True),
        (a_body(mail="ada=40example.com"), True),
        (a_body(note="住所ada@example.comです"), True),
        (a_body(note="อีเมลada@example.comครับ"), True),
        (a_body(note=WIDE), True),
        ("{ ada@example.com".encode("utf-16"), True),
        (b"no JSON: ada%40example.com", True),
        (a_body(note="éada@example.com"), False),
        (a_body(url="https://x.test/?e=mada%40example.com"), False),
        (a_body(url="https://x.test/?e=ada%40example.com.au"), False),
        (a_body(raw=json.dumps({"id": "con_99"})), False),
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


@pytest.mark.parametrize("email", ["ada@m\xfcnchen.de", "ada@xn--mnchen-3ya.de"])
@pytest.mark.parametrize("spelling", ["Ada@M\xdcNCHEN.de", "ada@xn--mnchen-3ya.de"])
def test_each_spelling_of_an_international_domain_is_recognised(
    email: str, spelling: str
) -> None:
    assert Person(email=email).is_in(a_body(data={"contact": {"email": spelling}}))
    assert not Person(email=email).is_in(a_body(note=f"b{spelling}"))


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


def test_event_is_erased_once_by_two_commands_at_once(
    home: EventStore, home_url: str
) -> None:
    class Slow(Person):
        def is_in(self, body: bytes) -> bool:
            assert erase(home_url, Person(email=EMAIL)) == 1  # another command
            return super().is_in(body)

    home.append([a_delivery(a_body("evt_1", data={"contact": {"email": EMAIL}}))])

    assert erase(home_url, Slow(email=EMAIL)) == 0
    assert len(home.erasures_after(0)) == 1


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


@contextmanager
def connected(postgres_url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(
        postgres_url.replace("postgresql:", "postgresql+psycopg:")
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_erased_body_is_not_in_the_files_of_postgresql(postgres_url: str) -> None:
    pads = [EMAIL * (size // len(EMAIL) + 1) for size in (10, 3_000, 50_000)]
    # Random bytes, because PostgreSQL compresses large bodies.
    pads = [pad + os.urandom(len(pad)).hex() for pad in pads]
    with EventStore.create(postgres_url) as store:
        store.append(
            [a_delivery(a_body(f"evt_{n}", pad=p)) for n, p in enumerate(pads)]
        )
        erase(postgres_url, Person(email=EMAIL))
    with connected(postgres_url) as connection:
        connection.exec_driver_sql("CHECKPOINT")
        folder, *files = connection.exec_driver_sql(
            "SELECT current_setting('data_directory'),"
            " pg_relation_filepath('webhook_events'),"
            " pg_relation_filepath(reltoastrelid)"
            " FROM pg_class WHERE relname = 'webhook_events'"
        ).one()

    assert all(EMAIL.encode() not in Path(folder, f).read_bytes() for f in files)


def test_open_snapshot_prevents_erasure_in_postgresql(
    postgres_url: str,
) -> None:
    with EventStore.create(postgres_url) as store:
        store.append(deliveries(2))
    with connected(postgres_url) as reader:
        reader.execution_options(isolation_level="REPEATABLE READ")
        reader.exec_driver_sql("SELECT 1 FROM pg_class")
        with pytest.raises(StoreUnavailableError, match=r"older state.*try again"):
            erase(postgres_url, Person(email=EMAIL))

    assert erase(postgres_url, Person(email=EMAIL)) == 0


def test_dry_run_erases_nothing(home: EventStore, home_url: str) -> None:
    home.append(deliveries(2))

    assert erase(home_url, Person(email=EMAIL), dry_run=True) == 2
    assert [event.erased_at for event in home.read_after(0, upper=9)] == [None, None]
    assert home.last_erasure() == 0


def test_missing_store_is_not_made(home_url: str) -> None:
    with pytest.raises(StoreMissingError):
        erase(home_url, Person(email=EMAIL))
