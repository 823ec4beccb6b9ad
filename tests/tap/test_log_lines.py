"""Log lines as text and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.receiver.app import RESULTS

#: Logs as a library does, as the receiver does, and after an error.
PROGRAM = """
import logging, sys
from tap_stairoids_webhooks.log_lines import LogLine, log_to_stderr
log_to_stderr(shape=sys.argv[1])
logging.getLogger("uvicorn.error").error("Cancel %s running\\ntask(s)", 3)
failing = LogLine("store failing", deliveries=3, error=OSError(28))
logging.getLogger("x").warning(failing)
logging.getLogger("x").info(LogLine("disk has room again", free_bytes=None))
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("asyncio").exception("it failed")
"""


def logged(shape: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, shape],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stderr.splitlines()


def test_log_line_is_text_and_fields() -> None:
    fact = LogLine("deliveries", duplicate=1, stored=12)

    assert str(fact) == "deliveries: duplicate=1 stored=12"
    assert str(LogLine("stopped")) == "stopped"


def test_json_line_has_its_fields_as_values() -> None:
    of_library, failing, again, failed = map(json.loads, logged("json"))

    assert of_library["message"] == "Cancel 3 running\ntask(s)"
    assert of_library["logger"] == "uvicorn.error"
    always = ["time", "level", "logger", "message"]
    assert list(failing) == [*always, "deliveries", "error"]
    assert failing["message"] == "store failing"
    assert (failing["deliveries"], failing["error"]) == (3, "28")
    assert again["free_bytes"] is None
    assert failed["traceback"].endswith("ZeroDivisionError: division by zero")


def test_text_line_has_its_fields_as_text() -> None:
    lines = logged("text")

    assert lines[2].endswith("Z WARNING store failing: deliveries=3 error=28")
    assert lines[3].endswith("Z INFO disk has room again: free_bytes=None")


@pytest.mark.parametrize("name", ["time", "level", "logger", "message", "traceback"])
def test_no_result_hides_a_common_field(name: str) -> None:
    assert name not in RESULTS
