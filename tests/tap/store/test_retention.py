"""Events leave the store when they may, and leave nothing behind."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreMissingError,
    StoreUnavailableError,
)
from tap_stairoids_webhooks.store.consumers import acknowledge, forget, lags
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.retention import Pruned, compact, prune
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

LONG_AFTER = "2030"


def left(store: EventStore) -> list[int]:
    return [event.sequence for event in store.read_after(0, upper=10**9)]


def test_nothing_is_pruned_that_no_consumer_acknowledged(
    home: EventStore, home_url: str
) -> None:
    home.append(deliveries(3))

    with pytest.raises(ConfigError, match=r"no consumer .*--force"):
        prune(home_url, before=LONG_AFTER)

    assert left(home) == [1, 2, 3]


def test_what_every_consumer_has_is_pruned(home: EventStore, home_url: str) -> None:
    home.append(deliveries(1_200))
    acknowledge(home, "warehouse", {"*": 1_100})
    acknowledge(home, "crm", {"*": 1_150})

    done = prune(home_url, before=LONG_AFTER)

    assert done == Pruned(
        removed=1_100, kept=100, kept_for={"warehouse": 100, "crm": 50}
    )
    assert left(home) == list(range(1_101, 1_201))
    assert home.last_sequence() == 1_200


def test_bookmark_of_one_type_says_nothing_of_the_others(
    home: EventStore, home_url: str
) -> None:
    home.append([a_delivery(a_body(f"evt_{n}", "ab"[n % 2])) for n in range(4)])
    home.append([a_delivery(b"no"), a_delivery(b"neither")])
    acknowledge(home, "crm", {"event:a": 1, "malformed": 5})

    done = prune(home_url, before=LONG_AFTER)

    assert done.removed == 4  # both of type b, which it does not want
    assert left(home) == [3, 6]


def test_what_is_young_stays(home: EventStore, home_url: str) -> None:
    home.append(deliveries(2))
    acknowledge(home, "crm", {"*": 2})

    assert prune(home_url, before="2024-10-15T09:30:01.000000Z").removed == 0
    assert prune(home_url, before="2024-10-15T09:30:01.000001Z").removed == 2


def test_consumer_that_went_back_is_waited_for(home: EventStore, home_url: str) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 3})
    acknowledge(home, "crm", {"*": 1})

    done = prune(home_url, before=LONG_AFTER)

    assert done == Pruned(removed=1, kept=2, kept_for={"crm": 2})


def test_force_removes_regardless_and_no_sequence_returns(
    home: EventStore, home_url: str
) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 0})

    assert prune(home_url, before=LONG_AFTER, force=True).removed == 3
    assert home.last_sequence() == 3
    home.append(deliveries(1))
    assert left(home) == [4]


def test_forgotten_consumer_is_not_waited_for(home: EventStore, home_url: str) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 3})
    acknowledge(home, "gone", {"*": 0})

    assert forget(home, "gone")
    assert not forget(home, "gone")
    assert prune(home_url, before=LONG_AFTER).removed == 3


def test_lag_counts_what_a_consumer_waits_for(home: EventStore) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 1})
    acknowledge(home, "done", {"*": 3})

    found = lags(home)

    assert (found["crm"].events, found["done"].events) == (2, 0)
    assert found["crm"].oldest_received_at == "2024-10-15T09:30:01.000000Z"
    assert found["done"].oldest_received_at is None


def test_compacted_store_goes_on_as_before(home: EventStore, home_url: str) -> None:
    large = a_body(pad=os.urandom(100_000).hex())
    home.append([a_delivery(large), *deliveries(2)])
    before = home.database.total_bytes()
    prune(home_url, before=LONG_AFTER, force=True)

    after = compact(home_url)

    assert before > 200_000 > after == home.database.total_bytes() > 0
    home.append(deliveries(1))
    assert left(home) == [4]


def test_reader_in_the_way_of_compacting_is_told(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0.1)
    store.append(deliveries(1))
    with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as reader:
        reader.isolation_level = None
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM webhook_events").fetchone()

        with pytest.raises(StoreUnavailableError, match=r"as large as .*try again"):
            compact(store_url)

    compact(store_url)


def test_missing_store_is_not_made(home_url: str) -> None:
    with pytest.raises(StoreMissingError):
        compact(home_url)
    with pytest.raises(StoreMissingError):
        prune(home_url, before=LONG_AFTER)
    with pytest.raises(StoreMissingError):
        erase(home_url, Person(email=EMAIL))


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
def test_person_is_recognised(body: bytes, *, expected: bool) -> None:
    assert ADA.is_in(body) is expected


def test_contact_id_may_be_a_number() -> None:
    assert Person(contact_id="17").is_in(b'{"contact_id": 17}')
    assert not Person(contact_id="17").is_in(b'{"contact_id": 170}')


def test_erased_event_keeps_its_place_and_nothing_else(
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


def test_redelivery_does_not_bring_an_erased_body_back(
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


def test_erasure_gets_through_while_deliveries_come_in(
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


def test_reader_in_the_way_of_an_erasure_is_told(
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


def test_postgresql_forgets_the_old_versions_of_erased_rows(postgres_url: str) -> None:
    with EventStore.create(postgres_url) as store:
        store.append([a_delivery(a_body("evt_1"))])
        erase(postgres_url, Person(email=EMAIL))
    url = postgres_url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url)
    dead = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relname = 'webhook_events'"
    with engine.connect() as connection:
        assert connection.exec_driver_sql(dead).scalar() == 0
    engine.dispose()
