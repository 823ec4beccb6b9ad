"""A store, and a receiver that fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tap_stairoids_webhooks.serve import Receiver
from tap_stairoids_webhooks.store import EventStore
from tests.tap.builders import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/webhooks.db"


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


@pytest.fixture
def address(receiver: Receiver) -> tuple[str, int]:
    parts = urlsplit(receiver.url)
    return str(parts.hostname), int(parts.port or 0)
