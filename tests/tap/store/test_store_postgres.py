"""The store in PostgreSQL: several writers, and a reader that skips nothing."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from typing_extensions import override

from tap_stairoids_webhooks.exceptions import (
    StoreError,
    StoreForbiddenError,
    StoreMissingError,
)
from tap_stairoids_webhooks.store.database import PostgresDatabase
from tap_stairoids_webhooks.store.leases import lease_of
from tap_stairoids_webhooks.store.store import EventStore, _append
from tests.support.postgres import a_pooler, autocommit
from tests.support.webhook_builders import a_body, a_delivery, a_receiver
from tests.tap.receiver.test_app import post


def test_missing_store_is_an_error(postgres_url: str) -> None:
    with pytest.raises(
        StoreMissingError,
        match=r"there is no store at .* \(role postgres, schema public\): start",
    ):
        EventStore.open_read_only(postgres_url)


def test_right_that_is_missing_is_known_in_each_language(postgres_url: str) -> None:
    with EventStore.create(postgres_url) as store:
        with autocommit(postgres_url) as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
                " BEGIN RAISE 'keine Berechtigung' USING ERRCODE = '42501'; END $$;"
                "CREATE TRIGGER refuse BEFORE INSERT ON webhook_events"
                " EXECUTE FUNCTION refuse()"
            )

        with pytest.raises(StoreForbiddenError, match="keine Berechtigung"):
            store.append([a_delivery(a_body("evt_1"))])


def test_two_receivers_store_a_redelivery_once(postgres_url: str) -> None:
    with (
        a_receiver(postgres_url) as one,
        a_receiver(postgres_url) as two,
    ):
        responses = [post(receiver, a_body("evt_1")).text for receiver in (one, two)]

    assert responses == ["stored", "duplicate"]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_store_works_behind_a_pooler_and_changes_no_other_program(
    postgres_url: str, mode: str
) -> None:
    with a_pooler(postgres_url, mode) as url, autocommit(url) as other:
        with EventStore.create(url) as store:
            store.append([a_delivery(a_body())])
        with EventStore.open_read_only(url) as store:
            assert store.last_sequence() == 1
            with pytest.raises(StoreError, match="read-only"):
                store.append([a_delivery(a_body("evt_2"))])
        names = "statement_timeout", "lock_timeout", "default_transaction_read_only"
        shown = [other.scalar(sa.text(f"SHOW {name}")) for name in names]

    assert shown == ["0", "0", "off"]


def test_options_of_the_url_and_the_environment_count(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the schema that the tables are in."""
    with autocommit(postgres_url) as connection:
        connection.execute(sa.text("CREATE SCHEMA hooks"))
    url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}options="
    with EventStore.create(f"{url}-csearch_path%3Dhooks") as store:
        store.append([a_delivery(a_body())])

    with pytest.raises(StoreMissingError):
        EventStore.open_read_only(postgres_url)
    monkeypatch.setenv("PGOPTIONS", "-c search_path=hooks")
    with EventStore.open_read_only(postgres_url) as store:
        assert store.last_sequence() == 1


def test_forwarders_of_stores_in_two_schemas_may_have_one_name(
    postgres_url: str,
) -> None:
    leases = []
    for schema in ("one", "two"):
        with autocommit(postgres_url) as connection:
            connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
        mark = "&" if "?" in postgres_url else "?"
        url = f"{postgres_url}{mark}options=-csearch_path%3D{schema}"
        with EventStore.create(url) as store:
            leases += [lease_of(store.database, "crm") for _ in range(2)]

    taken = [lease.take() for lease in leases]
    held = [lease.is_held() for lease in leases]
    for lease in leases:
        lease.release()

    assert taken == held == [True, False, True, False]


class Unlocked(PostgresDatabase):
    """The mistake the control makes."""

    @override
    def lock(self, connection: sa.Connection) -> None:
        pass


class Race:
    """Eight writers with transactions of different length, and a following reader."""

    def __init__(self, url: str) -> None:
        self._url = url
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


@pytest.mark.slow
def test_reader_skips_nothing_of_concurrent_writers(postgres_url: str) -> None:
    race = Race(postgres_url)

    assert race.run() == []
    assert race.seen == sorted(set(race.seen))


def test_without_the_lock_a_reader_skips_events(postgres_url: str) -> None:
    """The control: a later sequence is read before an earlier one is committed."""
    with (
        EventStore.create(postgres_url) as slow,
        EventStore.create(postgres_url) as quick,
    ):
        quick.database = Unlocked(sa.make_url(postgres_url))
        with slow.transaction("fails") as connection:
            _append(connection, [a_delivery(a_body("evt_1"))])
            quick.append([a_delivery(a_body("evt_2"))])
            read = quick.read_after(0, upper=10**9)
        later = quick.read_after(read[-1].sequence, upper=10**9)
        stored = quick.read_after(0, upper=10**9)

    assert [event.sequence for event in stored] == [1, 2]
    assert [event.sequence for event in (*read, *later)] == [2]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("me:CANARY@host:5/db", "me@host:5/db"),
        ("/db?host=/run/x&password=CANARY", "/db?host=%2Frun%2Fx"),
        ("host/db?sslpassword=CANARY&sslmode=require", "host/db?sslmode=require"),
    ],
)
def test_url_of_a_command_has_no_password(url: str, shown: str) -> None:
    database = PostgresDatabase(sa.make_url(f"postgresql://{url}"))

    assert database.url == f"postgresql://{shown}"
