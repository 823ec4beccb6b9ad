"""Writes messages and log lines to stdout, one JSON object a line."""

from __future__ import annotations

import logging
import sys

import msgspec
from typing_extensions import override

from stairoids_airbyte.exceptions import BrokenError
from stairoids_airbyte.protocol import Message
from stairoids_common.cli import discard_stdout
from stairoids_common.error_ids import with_id
from stairoids_common.text import visible

_ENCODER = msgspec.json.Encoder(decimal_format="number")
#: Python's level -> Airbyte's name for it.
_LEVELS = {logging.CRITICAL: "FATAL", logging.WARNING: "WARN"}


def write(message: Message, *, flush: bool = True) -> None:
    """Write a message. A record may wait in the buffer for the next state."""
    write_line(_ENCODER.encode(message), flush=flush)


def write_line(line: bytes, *, flush: bool = True) -> None:
    """Write a message that is JSON already."""
    try:
        sys.stdout.buffer.write(line + b"\n")  # one call, because other threads log
        if flush:
            sys.stdout.buffer.flush()
    except OSError as error:
        discard_stdout()
        msg = f"stdout cannot be written: {error.strerror}. Run again."
        sys.stderr.write(f"{msg}\n")
        raise BrokenError(msg) from error


class LogHandler(logging.Handler):
    """Writes log records as LOG messages, which the platform shows by level."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        level = _LEVELS.get(record.levelno, record.levelname)
        text, is_minor = self.format(record), record.levelno < logging.WARNING
        text = visible(text) if is_minor else with_id(text)
        write({"type": "LOG", "log": {"level": level, "message": text}})


def log_as_messages() -> None:
    """Write everything that is logged at INFO or above as LOG messages."""
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[LogHandler()], force=True
    )
