"""Write log lines to stderr, as text or as JSON.

A line is logged as one object, `logger.info(LogLine("deliveries", stored=12))`, so that
the formatter decides how to write its fields.
"""

from __future__ import annotations

import json
import logging
import sys
import time

from typing_extensions import override


class LogLine:
    """A log line of constant words with fields: `deliveries: duplicate=1 stored=12`."""

    def __init__(self, text: str, /, **fields: object) -> None:
        self.text = text
        self.fields = fields

    @override
    def __str__(self) -> str:
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.text}: {fields}" if fields else self.text


def log_to_stderr(*, level: str = "info", shape: str = "text") -> None:
    """Log to stderr, with times in UTC.

    Args:
        shape: Format of a line, `text` or `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine() if shape == "json" else _TextLine())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Not a line for each port scanner: the metrics count them.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _TextLine(logging.Formatter):
    """Time, level and message, separated by spaces."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _time_of(record)


class _JsonLine(logging.Formatter):
    """A JSON object: time, level, logger, message and each field of a `LogLine`.

    A traceback is the field `traceback`.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.msg, LogLine):
            line |= {"message": record.msg.text, **record.msg.fields}
        else:  # a line of a library
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _time_of(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
