"""Log lines: how the receiver tells a fact on stderr, to people or to a program."""

from __future__ import annotations

import json
import logging
import sys
import time

from typing_extensions import override

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


def log_to_stderr(*, level: str = "info", shape: str = "text") -> None:
    """Log as a service does: one line a fact, in UTC.

    Args:
        level: Lines below it are left out; one of `LEVELS`.
        shape: What a line looks like; one of `FORMATS`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine() if shape == "json" else _TextLine())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # A line for each port scanner is not a fact worth having; they are counted.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _TextLine(logging.Formatter):
    """Time, level and message, apart by spaces."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _moment_of(record)


class _JsonLine(logging.Formatter):
    """An object with the same and the logger's name; a traceback is one text of it."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _moment_of(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
