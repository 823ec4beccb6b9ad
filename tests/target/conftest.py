"""A sandbox, a target that sends to it, and PostgreSQL databases for its ledger."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from stairoids_sandbox import Sandbox
from target_stairoids.api import retry
from target_stairoids.sending import response_handler
from tests.support.postgres import autocommit
from tests.support.singer_io import TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


@pytest.fixture
def new_database(postgres: str) -> Callable[[], str]:
    """Create an empty database, and return its URL."""

    def create() -> str:
        name = f"ledger_{uuid.uuid4().hex}"
        with autocommit(postgres) as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return postgres.replace("/postgres?", f"/{name}?")

    return create


@pytest.fixture
def postgres_url(new_database: Callable[[], str]) -> str:
    """A database of its own for each test."""
    return new_database()
