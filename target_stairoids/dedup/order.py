"""The order of a record's states: values of bookmark columns, positions in a log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from target_stairoids.mapping.schema import LOG_POSITIONS, StreamSchema


def read_order(run: int, number: int = 0) -> int:
    """Return the place of a run's record among all records that runs have read."""
    return run << 32 | number


def run_of(read_order: int) -> int:
    """Return the run in a read order."""
    return read_order >> 32


def value_in(record: Mapping[str, Any], schema: StreamSchema) -> str | None:
    """Return a record's position in a log, or else its bookmark's value."""
    place = log_position(record) if schema.log_columns else None
    return place or bookmark_value(record.get(schema.bookmark or ""))


def bookmark_value(value: object) -> str | None:
    """Return a bookmark's value as a text that `is_before` compares.

    Numbers are compared as numbers, also those that a tap prints as text: "9" is before
    "10".
    """
    match value:
        case str():
            if value.isascii() and value.isdecimal():
                return f"n{value}"
            moment = utc(value)
            # No database takes half a surrogate pair, and PostgreSQL takes no NUL.
            return f"t{moment}" if moment else f"s{value!a}"
        case None | bool() | dict() | list():
            return None
        case int() | Decimal() | float():
            return f"n{value}" if Decimal(value).is_finite() else None
        case _:
            return f"s{value!a}"


@lru_cache(maxsize=4096)  # a value is needed more than once, and times of a sync repeat
def utc(text: str) -> str | None:
    """Return an ISO 8601 time in UTC; None for a text that is no such time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        return None


def log_position(record: Mapping[str, Any]) -> str | None:
    """Return a record's position in a log as `is_before` compares it, or None."""
    for column, file_column in LOG_POSITIONS.items():
        parts = _log_parts(record.get(column))
        if parts is not None and file_column is not None:
            number = re.search(r"\d+$", str(record.get(file_column) or ""))
            parts = [int(number[0]), *parts] if number else None
        if parts is not None:
            place = ".".join(f"{part:020d}" for part in parts)
            return f"l{column}/{len(parts)} {place}"
    return None


def _log_parts(value: object) -> list[int] | None:
    """Return the numbers of a position: 42, "42", "16/B374D848" or "2A:1A8:2"."""
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return [int(value)] if Decimal(value).is_finite() and value >= 0 else None
    if not isinstance(value, str):
        return None
    if value.isascii() and value.isdecimal():
        return [int(value)]
    parts = re.split(r"[/:]", value.removeprefix("0x"))
    if not all(re.fullmatch(r"[0-9A-Fa-f]{1,16}", part) for part in parts):
        return None
    return [int(part, 16) for part in parts]


def is_log_position(value: str | None) -> bool:
    """Return whether a bookmark value is a position in a log."""
    return value is not None and value[0] == "l"


def are_ordered(one: str | None, other: str | None) -> bool:
    """Return whether two bookmark values have a known order.

    Values of different kinds have none. Nor have texts that are neither numbers nor
    times: "v10" may come before or after "v9".
    """
    if one is None or other is None or one[0] != other[0]:
        return False
    if one[0] == "l":
        return one.partition(" ")[0] == other.partition(" ")[0]
    return one[0] != "s"


def is_before(one: str | None, other: str | None) -> bool:
    """Return whether a bookmark value is certainly older than another."""
    if one is None or other is None or not are_ordered(one, other):
        return False
    if one[0] == "n":
        return Decimal(one[1:]) < Decimal(other[1:])
    return one < other
