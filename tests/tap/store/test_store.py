"""The store in SQLite and PostgreSQL: each event once, and in order."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import StoreUnavailableError
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.retention import prune
from tap_stairoids_webhooks.store.schema import Outcome
from tap_stairoids_webhooks.store.statistics import statistics_of
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import (
    a_body,
    a_delivery,
    an_action_body,
    deliveries,
)


def sequences(store: EventStore, after: int = 0, upper: int = 10**9) -> list[int]:
    return [event.sequence for event in store.read_after(after, upper=upper)]


def test_redelivered_event_is_stored_once(home: EventStore) -> None:
    one = a_delivery(a_body("evt_1"))

    outcomes = home.append([one, one])
    again = home.append([one])

    assert [*outcomes, *again] == [
        Outcome.STORED,
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
    ]
    assert sequences(home) == [1]


@pytest.mark.parametrize("together", [True, False])
def test_same_id_with_another_body_is_a_conflict(
    home: EventStore, *, together: bool
) -> None:
    first, other = a_delivery(a_body("evt_1")), a_delivery(a_body("evt_1", extra=1))

    batches = [[first, other]] if together else [[first], [other]]
    outcomes = [outcome for batch in batches for outcome in home.append(batch)]

    assert outcomes == [Outcome.STORED, Outcome.CONFLICT]
    assert [e.conflict for e in home.read_after(0, upper=9)] == [False, True]


@pytest.mark.parametrize(
    "changed",
    [
        {"contact": {"id": "con_2"}},
        {"account": {"id": "acc_2"}},
        {"signal": {"id": "sig_1", "type": "trial", "properties": {"plan": "pro"}}},
    ],
)
def test_flat_event_with_another_body_is_a_conflict(
    home: EventStore, changed: dict[str, Any]
) -> None:
    first, other = a_delivery(an_action_body()), a_delivery(an_action_body(**changed))

    outcomes = home.append([first, other, first, other])

    assert outcomes == [
        Outcome.STORED,
        Outcome.CONFLICT,
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
    ]
    assert [event.body for event in home.read_after(0, upper=9)] == [
        first.body,
        other.body,
    ]


def test_reformatted_redelivery_is_a_duplicate(home: EventStore) -> None:
    body = json.dumps(json.loads(a_body()), indent=2, sort_keys=True).encode()

    outcomes = home.append([a_delivery(a_body()), a_delivery(body)])

    assert outcomes == [Outcome.STORED, Outcome.DUPLICATE]


def test_removal_of_events_ends_no_page_early(home: EventStore, home_url: str) -> None:
    """`prune` may remove the events of a page between two statements of a reader."""
    home.append(deliveries(20))
    removed: list[int] = []

    def prune_first(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if "length" in sql and not removed:
            removed.append(0)
            removed[0] = prune(home_url, before="2030", force=True).removed

    with EventStore.open_read_only(home_url) as reader:
        upper = reader.last_sequence()
        sa.event.listen(sa.Engine, "after_cursor_execute", prune_first)
        try:
            page = reader.read_after(0, upper=upper)
        finally:
            sa.event.remove(sa.Engine, "after_cursor_execute", prune_first)

    assert removed == [20]
    assert [event.sequence for event in page] == list(range(1, 21))


def test_event_is_read_as_it_was_stored(home: EventStore) -> None:
    delivery = a_delivery(b"\x00\xff not JSON")
    home.append([delivery])

    (stored,) = home.read_after(0, upper=1)

    assert stored.body == delivery.body
    assert stored.signature == delivery.signature
    assert stored.headers == delivery.headers
    assert stored.key_id == delivery.key_id
    assert stored.malformed == "not UTF-8"
    assert stored.received_at == "2024-10-15T09:30:01.000000Z"


def test_read_begins_after_a_sequence_and_ends_at_upper(
    home: EventStore,
) -> None:
    home.append(deliveries(9))

    assert sequences(home, after=3, upper=6) == [4, 5, 6]
    assert [e.sequence for e in home.read_after(3, upper=9, limit=2)] == [4, 5]


def test_read_filters_by_type_and_malformed(home: EventStore) -> None:
    home.append([a_delivery(a_body("evt_1", "a.b")), a_delivery(b"no"), a_delivery()])

    typed = home.read_after(
        0, upper=9, selected=EventFilter(types=frozenset({"signal.created"}))
    )
    malformed = home.read_after(0, upper=9, selected=EventFilter(malformed=True))

    assert [e.sequence for e in typed] == [3]
    assert [e.sequence for e in malformed] == [2]


def test_page_of_large_bodies_is_short(home: EventStore) -> None:
    home.append([a_delivery(a_body(f"evt_{n}", pad="x" * 5_000_000)) for n in range(4)])

    assert sequences(home) == [1, 2]


def test_store_keeps_its_identity(home_url: str) -> None:
    with EventStore.create(home_url) as one, EventStore.create(home_url) as two:
        assert one.store_id == two.store_id
        assert len(one.store_id) == 36


def test_reader_cannot_write(home: EventStore, home_url: str) -> None:
    home.append(deliveries(1))

    with (
        EventStore.open_read_only(home_url) as reader,
        pytest.raises(StoreUnavailableError, match=r"read-?only"),
    ):
        reader.append(deliveries(2))


def test_reader_needs_no_writer_alive(home_url: str) -> None:
    with EventStore.create(home_url) as store:
        store.append(deliveries(2))

    with EventStore.open_read_only(home_url) as reader:
        assert sequences(reader) == [1, 2]


def test_error_repeats_nothing_of_a_body(home: EventStore) -> None:
    with home.transaction("cannot be changed") as connection:
        connection.exec_driver_sql("DROP TABLE webhook_events")

    with pytest.raises(StoreUnavailableError) as caught:
        home.append([a_delivery(a_body("evt_canary"))])

    assert "canary" not in str(caught.value)


def test_concurrent_writers_store_each_event_once(home_url: str) -> None:
    """Eight receivers get the same redeliveries at the same time."""
    outcomes: list[Outcome] = []

    def append_all() -> None:
        with EventStore.create(home_url) as store:
            for delivery in deliveries(20):
                outcomes.extend(store.append([delivery]))

    threads = [threading.Thread(target=append_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(Outcome.STORED) == 20
    assert outcomes.count(Outcome.DUPLICATE) == 140
    with EventStore.open_read_only(home_url) as reader:
        assert sequences(reader) == list(range(1, 21))


def test_stats_count_by_type_and_key(home: EventStore) -> None:
    assert statistics_of(home).total == 0
    home.append(
        [
            a_delivery(a_body("evt_1")),
            a_delivery(a_body("evt_1", extra=1), secret="old"),  # noqa: S106 -- a test's
            a_delivery(b"no"),
        ]
    )

    stats = statistics_of(home)

    assert stats.events == {"signal.created": 2, None: 1}
    assert (stats.total, stats.conflicts, stats.malformed) == (3, 1, 1)
    assert sorted(stats.keys.values()) == [1, 2]
    assert stats.last_received_at == "2024-10-15T09:30:01.000000Z"
