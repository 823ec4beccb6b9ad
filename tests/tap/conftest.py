"""Stores in SQLite and PostgreSQL, and receivers."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.store.schema import METADATA
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.running_receiver import Runner, fill
from tests.support.webhook_builders import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/webhooks.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server; skipped if there is none for this Python."""
    pgserver = pytest.importorskip("pgserver", reason="no PostgreSQL for this Python")
    # It logs after the last test.
    logging.getLogger("pgserver").setLevel(logging.WARNING)
    # Not in the folder of pytest, which closes it to the other user of the server.
    folder = tempfile.mkdtemp(prefix="store-")
    with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR
        running = pgserver.get_server(folder)
    yield running.get_uri()
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database, because a new one for each test takes a second."""
    yield postgres
    engine = sa.create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    METADATA.drop_all(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
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
    with Receiver(
        store_url=store_url, secrets=["other", SECRET], max_body_bytes=200_000
    ) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver for tests that do not look into its store."""
    url = f"sqlite:///{tmp_path_factory.mktemp('shared')}/webhooks.db"
    with Receiver(
        store_url=url, secrets=["other", SECRET], max_body_bytes=200_000
    ) as receiver:
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
