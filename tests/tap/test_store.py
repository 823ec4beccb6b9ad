"""The store keeps its promises: once, in order, and only for its owner."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreMissingError,
    StoreUnavailableError,
    StoreVersionError,
)
from tap_stairoids_webhooks.rows import Outcome
from tap_stairoids_webhooks.store import EventStore
from tests.tap.builders import a_body, a_delivery, an_action_body, deliveries


def sequences(store: EventStore, after: int = 0, upper: int = 10**9) -> list[int]:
    return [event.sequence for event in store.read_after(after, upper=upper)]


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_redelivered_event_is_stored_once(store: EventStore) -> None:
    one = a_delivery(a_body("evt_1"))

    outcomes = store.append([one, one])
    again = store.append([one])

    assert [*outcomes, *again] == [
        Outcome.STORED,
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
    ]
    assert sequences(store) == [1]


@pytest.mark.parametrize("together", [True, False])
def test_same_id_with_another_body_is_kept_and_flagged(
    store: EventStore, *, together: bool
) -> None:
    first, other = a_delivery(a_body("evt_1")), a_delivery(a_body("evt_1", extra=1))

    batches = [[first, other]] if together else [[first], [other]]
    outcomes = [outcome for batch in batches for outcome in store.append(batch)]

    assert outcomes == [Outcome.STORED, Outcome.CONFLICT]
    assert [e.conflict for e in store.read_after(0, upper=9)] == [False, True]


def test_repeated_automation_run_is_stored_once(store: EventStore) -> None:
    outcomes = store.append(
        [a_delivery(an_action_body()), a_delivery(an_action_body(contact=None))]
    )

    assert outcomes == [Outcome.STORED, Outcome.DUPLICATE]


def test_event_comes_back_as_it_was_stored(store: EventStore) -> None:
    delivery = a_delivery(b"\x00\xff not JSON")
    store.append([delivery])

    (stored,) = store.read_after(0, upper=1)

    assert stored.body == delivery.body
    assert stored.signature == delivery.signature
    assert stored.headers == delivery.headers
    assert stored.key_id == delivery.key_id
    assert stored.malformed == "not UTF-8"
    assert stored.received_at == "2024-10-15T09:30:01.000000Z"


def test_reader_resumes_after_its_bookmark_and_ends_at_its_upper(
    store: EventStore,
) -> None:
    store.append(deliveries(9))

    assert sequences(store, after=3, upper=6) == [4, 5, 6]
    assert [e.sequence for e in store.read_after(3, upper=9, limit=2)] == [4, 5]


def test_reader_can_ask_for_one_type(store: EventStore) -> None:
    store.append([a_delivery(a_body("evt_1", "a.b")), a_delivery(b"no"), a_delivery()])

    typed = store.read_after(0, upper=9, event="signal.created")
    malformed = store.read_after(0, upper=9, malformed=True)

    assert [e.sequence for e in typed] == [3]
    assert [e.sequence for e in malformed] == [2]


def test_page_of_large_bodies_is_short(store: EventStore) -> None:
    store.append(
        [a_delivery(a_body(f"evt_{n}", pad="x" * 5_000_000)) for n in range(4)]
    )

    assert sequences(store) == [1, 2]


def test_sequence_is_not_used_again_after_a_removal(
    store: EventStore, store_url: str
) -> None:
    store.append(deliveries(3))
    with closing(sqlite3.connect(path_of(store_url))) as connection, connection:
        connection.execute("DELETE FROM webhook_events")
        connection.execute("UPDATE webhook_store SET pruned_through = 3")

    assert store.last_sequence() == 3
    store.append(deliveries(1))
    assert sequences(store) == [4]


def test_only_the_owner_can_read_the_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/webhooks.db"
    with EventStore.create(url) as store:
        store.append(deliveries(1))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in [tmp_path / "new", *(tmp_path / "new").iterdir()]
        }

    assert modes.pop("new") == 0o700
    assert modes == dict.fromkeys(modes, 0o600)
    assert len(modes) == 3


def test_commit_survives_a_power_cut(store: EventStore) -> None:
    """FULL is the mode in which SQLite waits for the disk at each commit."""
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_store_keeps_its_identity(store_url: str) -> None:
    with EventStore.create(store_url) as one, EventStore.create(store_url) as two:
        assert one.store_id == two.store_id
        assert len(one.store_id) == 36


def test_reader_cannot_write(store: EventStore, store_url: str) -> None:
    store.append(deliveries(1))

    with (
        EventStore.open_to_read(store_url) as reader,
        pytest.raises(StoreUnavailableError, match="readonly"),
    ):
        reader.append(deliveries(2))


def test_reader_needs_no_writer_alive(store_url: str) -> None:
    with EventStore.create(store_url) as store:
        store.append(deliveries(2))

    with EventStore.open_to_read(store_url) as reader:
        assert sequences(reader) == [1, 2]


def test_missing_store_names_the_setting_and_the_remedy(store_url: str) -> None:
    with pytest.raises(StoreMissingError, match=r"store_url.*stairoids-webhooks serve"):
        EventStore.open_to_read(store_url)

    assert not path_of(store_url).exists()


def test_other_database_is_not_a_store(store_url: str) -> None:
    with closing(sqlite3.connect(path_of(store_url))) as connection, connection:
        connection.execute("CREATE TABLE other (x)")

    with pytest.raises(StoreMissingError):
        EventStore.open_to_read(store_url)


def test_newer_store_is_refused(store: EventStore, store_url: str) -> None:
    with closing(sqlite3.connect(path_of(store_url))) as connection, connection:
        connection.execute("UPDATE webhook_store SET schema_version = 2")

    for opening in (EventStore.create, EventStore.open_to_read):
        with pytest.raises(StoreVersionError, match=r"version 2.*upgrade"):
            opening(store_url)
    assert store.place


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not a database URL"),
        ("webhooks.db", "not a database URL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("mysql://u:hunter2@h/db", "not mysql:"),
        ("postgresql+asyncpg://u:hunter2@h/db", r"not postgresql\+asyncpg:"),
    ],
)
def test_unusable_url_is_refused_without_repeating_it(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        EventStore.create(url)

    assert "hunter2" not in str(caught.value)


def test_unreachable_postgresql_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be opened") as caught:
        EventStore.create("postgresql://u:hunter2@127.0.0.1:1/db")

    assert "hunter2" not in str(caught.value)


def test_file_that_is_no_database_is_refused(store_url: str) -> None:
    path_of(store_url).write_text("not a database at all, " * 100)

    with pytest.raises(StoreUnavailableError, match="not a database"):
        EventStore.create(store_url)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnavailableError, match="cannot be made"):
        EventStore.create(f"sqlite:///{tmp_path}/file/webhooks.db")


def test_locked_store_refuses_rather_than_loses(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused append is answered 503, and Stairoids delivers again."""
    monkeypatch.setattr("tap_stairoids_webhooks.database._BUSY_SECONDS", 0)
    store.close()
    with closing(sqlite3.connect(path_of(store_url))) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailableError, match="did not store 1 deliveries"):
            store.append(deliveries(1))

    assert store.append(deliveries(1)) == [Outcome.STORED]


def test_full_store_refuses_and_says_why(store: EventStore) -> None:
    with store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 20")
    big = [a_delivery(a_body("evt_big", pad="x" * 1_000_000))]

    with pytest.raises(StoreUnavailableError, match="full"):
        store.append(big)

    assert store.append(deliveries(1)) == [Outcome.STORED]


def test_refusal_repeats_nothing_of_a_body(store: EventStore) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE webhook_events")

    with pytest.raises(StoreUnavailableError) as caught:
        store.append([a_delivery(a_body("evt_canary"))])

    assert "canary" not in str(caught.value)


def test_concurrent_writers_store_each_event_once(store_url: str) -> None:
    """Eight receivers get the same redeliveries at the same time."""
    outcomes: list[Outcome] = []

    def append_all() -> None:
        with EventStore.create(store_url) as store:
            for delivery in deliveries(20):
                outcomes.extend(store.append([delivery]))

    threads = [threading.Thread(target=append_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(Outcome.STORED) == 20
    assert outcomes.count(Outcome.DUPLICATE) == 140
    with EventStore.open_to_read(store_url) as reader:
        assert sequences(reader) == list(range(1, 21))


def test_stats_count_by_type_and_key(store: EventStore) -> None:
    assert store.stats().total == 0
    store.append(
        [
            a_delivery(a_body("evt_1")),
            a_delivery(a_body("evt_1", extra=1), secret="old"),  # noqa: S106 -- a test's
            a_delivery(b"no"),
        ]
    )

    stats = store.stats()

    assert stats.events == {"signal.created": 2, None: 1}
    assert (stats.total, stats.conflicts, stats.malformed) == (3, 1, 1)
    assert sorted(stats.keys.values()) == [1, 2]
    assert stats.last_received_at == "2024-10-15T09:30:01.000000Z"


def test_sqlalchemy_is_told_to_hide_values(store: EventStore) -> None:
    assert isinstance(store._engine, sa.Engine)
    assert store._engine.hide_parameters
