"""Pruning removes events that every consumer has read; compacting returns the space."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreMissingError,
    StoreUnavailableError,
)
from tap_stairoids_webhooks.store.consumers import (
    acknowledge,
    forget,
    lags,
    set_bookmarks,
)
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.retention import (
    Pruned,
    compact,
    forget_digests,
    prune,
)
from tests.support.webhook_builders import (
    a_body,
    a_delivery,
    deliveries,
)

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.store import EventStore

LONG_AFTER = "2030"


def left(store: EventStore) -> list[int]:
    return [event.sequence for event in store.read_after(0, upper=10**9)]


def test_prune_needs_a_consumer(home: EventStore, home_url: str) -> None:
    home.append(deliveries(3))

    with pytest.raises(ConfigError, match=r"no consumer .*--force"):
        prune(home_url, before=LONG_AFTER)

    assert left(home) == [1, 2, 3]


def test_events_of_every_consumer_are_pruned(home: EventStore, home_url: str) -> None:
    home.append(deliveries(1_200))
    acknowledge(home, "warehouse", {"*": 1_100})
    acknowledge(home, "crm", {"*": 1_150})

    done = prune(home_url, before=LONG_AFTER)

    assert done == Pruned(
        removed=1_100, kept=100, kept_for={"warehouse": 100, "crm": 50}
    )
    assert left(home) == list(range(1_101, 1_201))
    assert home.last_sequence() == 1_200


def test_bookmark_of_one_type_does_not_cover_others(
    home: EventStore, home_url: str
) -> None:
    home.append([a_delivery(a_body(f"evt_{n}", "ab"[n % 2])) for n in range(4)])
    home.append([a_delivery(b"no"), a_delivery(b"neither")])
    acknowledge(home, "crm", {"event:a": 1, "malformed": 5})

    done = prune(home_url, before=LONG_AFTER)

    assert done.removed == 4  # both of type b, which it does not want
    assert left(home) == [3, 6]


def test_young_events_are_kept(home: EventStore, home_url: str) -> None:
    home.append(deliveries(2))
    acknowledge(home, "crm", {"*": 2})

    assert prune(home_url, before="2024-10-15T09:30:01.000000Z").removed == 0
    assert prune(home_url, before="2024-10-15T09:30:01.000001Z").removed == 2


def test_events_are_kept_for_a_consumer_that_went_back(
    home: EventStore, home_url: str
) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 3})
    acknowledge(home, "crm", {"*": 1})

    done = prune(home_url, before=LONG_AFTER)

    assert done == Pruned(removed=1, kept=2, kept_for={"crm": 2})


def test_force_prunes_and_sequences_are_not_reused(
    home: EventStore, home_url: str
) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 0})

    assert prune(home_url, before=LONG_AFTER, force=True).removed == 3
    assert home.last_sequence() == 3
    home.append([a_delivery(a_body("evt_new"))])
    assert left(home) == [4]


def test_forgotten_consumer_keeps_no_events(home: EventStore, home_url: str) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 3})
    acknowledge(home, "gone", {"*": 0})

    forget(home, "gone")
    assert prune(home_url, before=LONG_AFTER).removed == 3


def test_events_of_a_thousand_consumers_are_pruned(
    store: EventStore, store_url: str
) -> None:
    store.append(deliveries(3))
    with store.transaction("cannot acknowledge", lock=True) as connection:
        for number in range(1_100):
            set_bookmarks(connection, f"run-{number}", {"*": 1 + number % 3})

    assert prune(store_url, before=LONG_AFTER).removed == 1


def test_lag_counts_unread_events(home: EventStore) -> None:
    home.append(deliveries(3))
    acknowledge(home, "crm", {"*": 1})
    acknowledge(home, "done", {"*": 3})

    found = lags(home)

    assert (found["crm"].events, found["done"].events) == (2, 0)
    assert found["crm"].oldest_received_at == "2024-10-15T09:30:01.000000Z"
    assert found["done"].oldest_received_at is None


@pytest.mark.parametrize("kind", ["malformed", "event:signal.created"])
def test_no_consumer_of_a_type_waits_for_an_erased_event(
    home: EventStore, home_url: str, kind: str
) -> None:
    text = "ada@example.com"
    body = text.encode() if kind == "malformed" else a_body("evt_1", note=text)
    home.append([a_delivery(body)])
    acknowledge(home, "warehouse", {kind: 0})
    before = lags(home)["warehouse"].events

    erase(home_url, Person(email=text))

    assert (before, lags(home)["warehouse"].events) == (1, 0)
    assert prune(home_url, before=LONG_AFTER).removed == 1


def test_compacted_store_works(home: EventStore, home_url: str) -> None:
    large = a_body(pad=os.urandom(100_000).hex())
    home.append([a_delivery(large), *deliveries(2)])
    before = home.database.total_bytes()
    prune(home_url, before=LONG_AFTER, force=True)

    after = compact(home_url)

    assert before > 200_000 > after == home.database.total_bytes() > 0
    home.append([a_delivery(a_body("evt_new"))])
    assert left(home) == [4]


def test_open_reader_prevents_compacting(
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


def test_redelivery_of_a_pruned_event_is_a_duplicate(
    home: EventStore, home_url: str
) -> None:
    home.append(deliveries(3))
    prune(home_url, before=LONG_AFTER, force=True)

    again = home.append([*deliveries(4), a_delivery(a_body("evt_1", extra=1))])
    forget_digests(home_url, before=LONG_AFTER)
    forgotten = home.append(deliveries(1))

    assert again == [*["duplicate"] * 3, "stored", "conflict"]
    assert forgotten == ["conflict"]


def test_digests_are_forgotten_in_short_transactions(
    home: EventStore, home_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.append(deliveries(5))
    prune(home_url, before=LONG_AFTER, force=True)
    monkeypatch.setattr("tap_stairoids_webhooks.store.retention._BATCH_ROWS", 2)
    counts: list[int] = []

    def count(_c: object, _cursor: object, statement: str, *_: object) -> None:
        counts.append(statement.startswith("DELETE FROM webhook_pruned"))

    sa.event.listen(sa.Engine, "after_cursor_execute", count)
    try:
        forget_digests(home_url, before=LONG_AFTER)
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", count)

    assert sum(counts) == 4
    assert home.append(deliveries(5)) == ["stored"] * 5
