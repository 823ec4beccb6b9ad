"""The store in its SQLite file, and URLs that are refused."""

from __future__ import annotations

import errno
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreMissingError,
    StoreUnavailableError,
    StoreVersionError,
)
from tap_stairoids_webhooks.store.schema import Outcome
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import a_body, a_delivery, deliveries


def sequences(store: EventStore, after: int = 0, upper: int = 10**9) -> list[int]:
    return [event.sequence for event in store.read_after(after, upper=upper)]


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_sequence_of_a_removed_event_is_not_used_again(
    store: EventStore, store_url: str
) -> None:
    store.append(deliveries(3))
    with closing(sqlite3.connect(path_of(store_url))) as connection, connection:
        connection.execute("DELETE FROM webhook_events")
        connection.execute("UPDATE webhook_store SET pruned_through = 3")

    assert store.last_sequence() == 3
    store.append(deliveries(1))
    assert sequences(store) == [4]


def test_only_the_owner_can_read_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".stairoids"
    with EventStore.create("sqlite:///.stairoids/webhooks.db") as store:
        store.append(deliveries(1))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in [folder, *folder.iterdir()]
        }

    assert modes.pop(".stairoids") == 0o700
    assert modes == dict.fromkeys(modes, 0o600)
    assert len(modes) == 3


def test_commit_survives_a_power_cut(store: EventStore) -> None:
    """FULL is the mode in which SQLite waits for the disk at each commit."""
    with store.transaction("cannot be read") as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_missing_store_names_setting_and_command(store_url: str) -> None:
    with pytest.raises(StoreMissingError, match=r"stairoids-webhooks serve.*store_url"):
        EventStore.open_read_only(store_url)

    assert not path_of(store_url).exists()


def test_other_database_is_not_a_store(store_url: str) -> None:
    with closing(sqlite3.connect(path_of(store_url))) as connection, connection:
        connection.execute("CREATE TABLE other (x)")

    with pytest.raises(StoreMissingError):
        EventStore.open_read_only(store_url)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("version", [1, 99])
def test_store_of_another_release_is_refused(store_url: str, version: int) -> None:
    with closing(sqlite3.connect(path_of(store_url))) as connection, connection:
        connection.execute("UPDATE webhook_store SET schema_version = ?", [version])

    for opening in (EventStore.create, EventStore.open, EventStore.open_read_only):
        with pytest.raises(StoreVersionError, match=rf"version {version}, but .* use"):
            opening(store_url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not an SQLAlchemy URL"),
        ("webhooks.db", "not an SQLAlchemy URL"),
        ("postgresql://u:hunter2@host:port/db", "not an SQLAlchemy URL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("mysql://u:hunter2@h/db", "must name SQLite or PostgreSQL, not mysql"),
    ],
)
def test_unusable_url_is_refused_without_repeating_it(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        EventStore.create(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?password=hunter2",
        "postgresql://127.0.0.1:1/db?user=u&sslpassword=hunter2",
    ],
)
def test_unreachable_postgresql_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be opened") as caught:
        EventStore.create(url)

    assert "hunter2" not in str(caught.value)


def test_file_that_is_no_database_is_refused(store_url: str) -> None:
    path_of(store_url).write_text("not a database at all, " * 100)

    with pytest.raises(StoreUnavailableError, match="not a database"):
        EventStore.create(store_url)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnavailableError, match="cannot be made"):
        EventStore.create(f"sqlite:///{tmp_path}/file/webhooks.db")


def test_locked_store_is_unavailable(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response is then 503, and Stairoids delivers again."""
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0)
    with EventStore.create(store_url) as store:
        with closing(sqlite3.connect(path_of(store_url))) as other:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(StoreUnavailableError, match="did not store 1 deliver"):
                store.append(deliveries(1))

        assert store.append(deliveries(1)) == [Outcome.STORED]


def test_full_store_is_unavailable(store: EventStore) -> None:
    with store.transaction("cannot be read") as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 20")
    big = [a_delivery(a_body("evt_big", pad="x" * 1_000_000))]

    with pytest.raises(StoreUnavailableError, match="full"):
        store.append(big)

    assert store.append(deliveries(1)) == [Outcome.STORED]


def test_store_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.db"
    path.touch(mode=0o644)
    path.chmod(0o644)

    with EventStore.create(f"sqlite:///{path}") as store:
        store.append(deliveries(1))
        modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}

    assert modes == {0o600}


@pytest.mark.parametrize(
    ("refused", "message"), [("stat", "opened"), ("touch", "written")]
)
def test_store_of_another_user_is_named(
    store_url: str, monkeypatch: pytest.MonkeyPatch, refused: str, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    EventStore.create(store_url).close()
    with monkeypatch.context() as context:
        context.setattr(Path, refused, refuse)
        with pytest.raises(
            StoreUnavailableError, match=f"cannot be {message}: Permission denied"
        ):
            EventStore.open(store_url)


def test_missing_folder_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError) as refused:
        EventStore.create(f"sqlite:///{tmp_path}/disk/webhooks.db")

    assert f"right, run `mkdir -p {tmp_path}/disk`. See --store" in str(refused.value)
    with pytest.raises(StoreMissingError, match=f"no store at {tmp_path}/disk/"):
        EventStore.open_read_only(f"sqlite:///{tmp_path}/disk/webhooks.db")
    assert not (tmp_path / "disk").exists()


def test_folder_in_place_of_a_store_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "webhooks"
    folder.mkdir()
    folder.chmod(0o755)

    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        EventStore.create(f"sqlite:///{folder}")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize("opened", [EventStore.create, EventStore.open])
def test_database_of_another_program_is_refused_unchanged(
    tmp_path: Path, opened: Callable[[str], EventStore]
) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE invoices (id)")
    path.chmod(0o644)
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"other\.db is the database of another"):
        opened(f"sqlite:///{path}")

    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
