"""A running sandbox, a client of its API and a receiver of its webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Sandbox
from tests.support.sandbox_client import Client
from tests.support.sandbox_receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(retry_base_seconds=0.01) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with Client(sandbox) as talking:
        yield talking


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening
