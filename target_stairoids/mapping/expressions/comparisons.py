"""The comparisons of expressions, which know null, blank text and times."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from jinja2 import ChainableUndefined

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.filters import number
from target_stairoids.mapping.times import likely_time_from
from target_stairoids.mapping.values import is_filled

Json = Any  # any JSON value; narrowed where it is read

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "in": lambda one, many: one in many,
    "notin": lambda one, many: one not in many,
}
SIZES = frozenset({"lt", "lteq", "gt", "gteq"})
#: Comparison -> the names of Jinja's tests for it, as in `selectattr("qty", "gt", 0)`.
TESTS = {
    "eq": ("eq", "==", "equalto"),
    "ne": ("ne", "!="),
    "lt": ("lt", "<", "lessthan"),
    "lteq": ("le", "<="),
    "gt": ("gt", ">", "greaterthan"),
    "gteq": ("ge", ">="),
    "in": ("in",),
}
#: The start of a date of digits. Some are not read, such as `5/11/2026`.
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?!\d)|\d{1,2}([./-])\d{1,2}\1\d{4}(?!\d)")
_YEAR = re.compile(r"\b\d{4}\b")  # as in `Nov 5, 2026`; without it, no text is a time
_NANOSECONDS = re.compile(r"[.,]\d{6}(\d*[1-9])")  # Python's times have six digits
_PERIOD = re.compile(r"\d{4}(-\d\d)?")  # a year or a month, in order as a text
#: Beside a year or a month, a time counts in its own zone.
_WITH_ISO = re.compile(r"\d{4}(-\d\d)?|\d{4}-\d\d-\d\d.*", re.DOTALL)
_WORDS = {
    True: {"true", "yes", "y", "t", "1", "on"},
    False: {"false", "no", "n", "f", "0", "off"},
}


def value_of(value: Json) -> Json:
    """Return null for an undefined value, and any other value unchanged."""
    return None if isinstance(value, ChainableUndefined) else value


def compare(value: Json, *pairs: Json) -> bool:
    """Return whether a chain of comparisons holds, such as `1 < seats <= 5`."""
    one = value_of(value)
    for op, given in zip(pairs[::2], pairs[1::2], strict=True):
        other = value_of(given)
        if op in SIZES and not (is_filled(one) and is_filled(other)):
            return False
        is_unknown = other is None or (one is None and isinstance(other, str))
        if is_unknown and op not in {"eq", "ne"}:
            if op != "notin":
                return False
        elif not _holds(op, one, other):
            return False
        one = other
    return True


def _holds(op: str, one: Json, other: Json) -> bool:
    """Return whether a comparison holds. Texts are times if both can be read as such.

    `InvalidSignalError` if a number or a boolean in a text would change the result.
    """
    operate, pair, is_wrong = _COMPARISONS[op], (one, other), False
    found = bool(operate(one, other))
    if op in {"in", "notin"} or not (isinstance(one, str) and isinstance(other, str)):
        is_in = op in {"in", "notin"} and isinstance(other, list | tuple)
        members = other if is_in else [other]
        if one not in members:
            is_text = isinstance(one, str)
            unlike = (item for item in members if isinstance(item, str) != is_text)
            is_wrong = any(_means(one, item) for item in unlike)
    elif (is_date := any(map(_DATE.match, pair))) or all(map(_YEAR.search, pair)):
        times = [*filter(None, map(_time_of, pair))]
        if len(times) == len(pair):
            return bool(operate(*times))
        if is_date and op in SIZES:
            is_ordered = _WITH_ISO if any(map(_PERIOD.fullmatch, pair)) else _PERIOD
            texts = [
                t if is_ordered.fullmatch(t) else likely_time_from(t) for t in pair
            ]
            if None not in texts:
                return bool(operate(*texts))
            raise InvalidSignalError(
                "a time is compared with a text that is none; write "
                "`column | iso8601`, perhaps with a form such as '%d/%m/%Y'"
            )
    elif op in SIZES:
        numbers = [*map(number, pair)]
        is_wrong = None not in numbers and operate(*numbers) != found
    if is_wrong:
        raise InvalidSignalError(
            "a comparison takes a number or a boolean for a text; write "
            "`column | int`, `column | float` or `column | string`"
        )
    return found


@lru_cache(maxsize=4096)  # times of a sync repeat
def _time_of(text: str) -> tuple[datetime, str] | None:
    """Return the moment of a text, and the digits of its nanoseconds."""
    time, nanoseconds = likely_time_from(text), _NANOSECONDS.search(text)
    if time is None:
        return None
    return datetime.fromisoformat(time), nanoseconds[1] if nanoseconds else ""


def _means(one: Json, other: Json) -> bool:
    """Return whether one of two values is a text with the other one in it."""
    text, value = (one, other) if isinstance(one, str) else (other, one)
    if not isinstance(text, str) or isinstance(value, str):
        return False
    if isinstance(value, bool):
        return text.strip().lower() in _WORDS[value]
    return isinstance(value, int | Decimal) and number(text) == value


def test_of(op: str) -> Callable[[Json, Json], bool]:
    """Return the test of Jinja for a comparison."""
    return lambda value, other: compare(value, op, other)
