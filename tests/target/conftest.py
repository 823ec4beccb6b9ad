"""A sandbox to send to, and a target that sends to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox.server import Sandbox
from tests.singer_io import TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(excluded_domains={"excluded.example"}) as running:
        yield running


@pytest.fixture
def target(sandbox: Sandbox, tmp_path: Path) -> TargetUnderTest:
    return TargetUnderTest(tmp_path, sandbox.url)
