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

_TEXT = "%(asctime)s %(levelname)s %(message)s"


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
    handler.setFormatter(_JsonLine() if shape == "json" else _Line(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Not a line for each port scanner: the metrics count them.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _Line(logging.Formatter):
    """A line whose time is in UTC."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


class _JsonLine(_Line):
    """A JSON object: time, level, logger, message and each field of a `LogLine`.

    A traceback is the field `traceback`.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record),
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
