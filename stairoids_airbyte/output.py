"""The output: messages on stdout, whole lines, nothing else."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import msgspec
from typing_extensions import override

from stairoids_airbyte.protocol import log

if TYPE_CHECKING:
    from stairoids_airbyte.protocol import Message

_ENCODER = msgspec.json.Encoder(decimal_format="number")
#: Python's level -> Airbyte's name for it.
_LEVELS = {logging.CRITICAL: "FATAL", logging.WARNING: "WARN"}


def write(message: Message, *, flush: bool = True) -> None:
    """Write one message.

    Args:
        flush: Whether it is to arrive now; a record need not, before its state does.
    """
    write_line(_ENCODER.encode(message), flush=flush)


def write_line(line: bytes, *, flush: bool = True) -> None:
    """Write one message that is JSON already."""
    sys.stdout.buffer.write(line + b"\n")  # one call: other threads may log
    if flush:
        sys.stdout.buffer.flush()


class LogHandler(logging.Handler):
    """Writes what is logged as LOG messages: the platform shows them by level."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        level = _LEVELS.get(record.levelno, record.levelname)
        write(log(level, self.format(record)))


def log_as_messages() -> None:
    """Let all that is logged from INFO on become LOG messages."""
    logging.basicConfig(level=logging.INFO, handlers=[LogHandler()], force=True)
