"""Stores in SQLite and PostgreSQL, and receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.store.schema import METADATA
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.postgres import autocommit
from tests.support.running_tap import Runner, fill
from tests.support.webhook_builders import SECRET, a_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/webhooks.db"


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database, because a new one for each test takes a second."""
    yield postgres
    with autocommit(postgres) as connection:
        METADATA.drop_all(connection)
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS hooks CASCADE")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def home_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store, once in SQLite and once in PostgreSQL."""
    name = "store_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def home(home_url: str) -> Iterator[EventStore]:
    with EventStore.create(home_url) as store:
        yield store


@pytest.fixture
def store(store_url: str) -> Iterator[EventStore]:
    with EventStore.create(store_url) as store:
        yield store


@pytest.fixture
def receiver(store_url: str) -> Iterator[Receiver]:
    with a_receiver(store_url, secrets=["other", SECRET], max_body=200_000) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver for tests that do not look into its store."""
    url = f"sqlite:///{tmp_path_factory.mktemp('shared')}/webhooks.db"
    with a_receiver(url, secrets=["other", SECRET], max_body=200_000) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_address(shared_receiver: Receiver) -> tuple[str, int]:
    parts = urlsplit(shared_receiver.url)
    return str(parts.hostname), int(parts.port or 0)


@pytest.fixture
def address(receiver: Receiver) -> tuple[str, int]:
    parts = urlsplit(receiver.url)
    return str(parts.hostname), int(parts.port or 0)


@pytest.fixture
def run(tmp_path: Path, store_url: str, caplog: pytest.LogCaptureFixture) -> Runner:
    return Runner(tmp_path, store_url, caplog)


@pytest.fixture
def filled(store_url: str) -> str:
    fill(store_url)
    return store_url
