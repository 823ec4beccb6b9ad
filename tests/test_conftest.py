"""Programs that a test runs in process do not change the logging of later tests."""

from __future__ import annotations

import logging

import pytest
from singer_sdk.logging import ConsoleFormatter

from target_stairoids.target import TargetStairoids


@pytest.mark.parametrize("time", ["first", "second"])
def test_command_of_a_plugin_has_one_log_handler_and_its_own_level(time: str) -> None:
    root, logger = logging.getLogger(), logging.getLogger("target_stairoids")
    assert logger.level == logging.NOTSET, f"changed before the {time} time"

    _ = TargetStairoids.cli  # adds a handler
    logger.setLevel(logging.ERROR)

    consoles = [h for h in root.handlers if isinstance(h.formatter, ConsoleFormatter)]
    assert len(consoles) == 1
