"""Ledgers in one SQLite file, as several processes open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from target_stairoids.ledger.ledger import Ledger
from tests.support.ledger_builders import API

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.ledger_builders import Opened


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """Opens one more ledger, with a run begun and the stream `trials` known."""
    ledgers = []

    def open_one(scope: str = API) -> Ledger:
        ledger = Ledger.create(url, scope)
        ledgers.append(ledger)
        ledger.begin_run()
        ledger.open_stream("trials", {"schema": {}})
        return ledger

    yield open_one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Opened) -> Ledger:
    return opened()
