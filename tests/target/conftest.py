"""A sandbox, a target that sends to it, and a PostgreSQL server for its ledger."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text

from stairoids_sandbox import Sandbox
from target_stairoids.api import retry
from target_stairoids.sending import response_handler
from tests.support.singer_io import TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection


# No test may fail because the machine is slow.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(excluded_domains={"excluded.example"}) as running:
        yield running


@pytest.fixture
def target(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path
) -> TargetUnderTest:
    """The Singer target; with `on_both_connectors` that of Airbyte as well."""
    connector: type[TargetUnderTest] = getattr(request, "param", TargetUnderTest)
    return connector(tmp_path, sandbox.url)


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each pause before a retry be 10 ms."""
    for module in (retry, response_handler):
        monkeypatch.setattr(module, "pause_before", lambda _attempt: 0.01)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL; skips where there is none for this Python."""
    pgserver = pytest.importorskip("pgserver")
    # Not in the folder of pytest, which closes it to the other user of the server.
    folder = tempfile.mkdtemp(prefix="ledger-")
    with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR
        running = pgserver.get_server(folder)
    # At exit it logs into streams that pytest has closed by then.
    logging.getLogger("pgserver").disabled = True
    url = running.get_uri()
    # The tests need no protection from power cuts, which costs seconds at the end.
    with _connection(url) as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield url
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_database(postgres_server: str) -> Callable[[], str]:
    """Create an empty database, and return its URL."""

    def create() -> str:
        name = f"ledger_{uuid.uuid4().hex}"
        with _connection(postgres_server) as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return postgres_server.replace("/postgres?", f"/{name}?")

    return create


@pytest.fixture
def postgres_url(new_database: Callable[[], str]) -> str:
    """A database of its own for each test."""
    return new_database()


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    psycopg = url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(psycopg, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
