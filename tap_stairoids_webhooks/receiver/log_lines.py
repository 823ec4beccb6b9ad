"""Log lines: how the receiver tells a fact on stderr, to people or to a program.

A fact is logged as one object, `logger.info(Fact("deliveries", stored=12))`, so that
whoever formats the line decides what becomes of its fields.
"""

from __future__ import annotations

import json
import logging
import sys
import time

from typing_extensions import override

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


class Fact:
    """Something to log: a constant text, and what differs as fields.

    As text it is `deliveries: duplicate=1 stored=12`, and so under any formatter.

    Args:
        text: What happened, the same each time.
        fields: Ids and counts; values that JSON has, or that are told as text.
    """

    def __init__(self, text: str, /, **fields: object) -> None:
        self.text = text
        self.fields = fields

    @override
    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.text}: {facts}" if facts else self.text


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
    """An object with the same and the logger's name, and each field of a `Fact`.

    A traceback is one text of it.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _moment_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.msg, Fact):
            line |= {"message": record.msg.text, **record.msg.fields}
        else:  # of a library
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _moment_of(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
