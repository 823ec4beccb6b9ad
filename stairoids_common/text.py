"""Write numbers and times for people, in UTF-8."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def write_utf8() -> None:
    """Let stdout and stderr be UTF-8 in every locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 signal`, `2 signals` or `1,000 signals`.

    The singular includes a verb if the verb changes: `signal is`.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """Return `5 s`, `3 min 54 s`, `1 h 40 min` or `2 d 3 h`."""
    rest = round(seconds)
    for unit, size, smaller, part in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if rest >= size:
            return f"{rest // size} {unit} {rest % size // part} {smaller}"
    return f"{rest} s"
