"""Limits on the texts and numbers that an expression makes.

A template such as `{{ x | center(1000000000) }}` would otherwise fill the memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")
Json = Any  # any JSON value; narrowed where it is read

_LONGEST = 1_000_000  # characters, digits or items
#: Filters and methods with an argument that decides the size of the result.
_SIZED = frozenset(
    {"batch", "center", "expandtabs", "indent", "ljust", "rjust", "round", "slice"}
    | {"to_bytes", "tojson", "zfill"}
)
#: A format with a width of seven digits, or of another argument: `%9999999s`, `%*d`.
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{7}|\*)|\{[^{}]*(\d{7}|\{)")


class TooLongError(Exception):
    """An expression makes something that is too long."""


def check_arguments(name: str, *values: object) -> None:
    """Refuse a filter or a method that would make something too long.

    Args:
        values: Its arguments, with the object of a method.
    """
    texts = [value for value in values if isinstance(value, str)]
    if name in _SIZED:
        lines = 1 + max((len(re.findall(r"[\n\t]", text)) for text in texts), default=0)
        numbers = [abs(value) for value in values if isinstance(value, int)]
        _check(max(numbers, default=0) * lines)
    elif name.startswith("format") and any(map(_WIDE.search, texts)):
        raise TooLongError


def checked(value: T) -> T:
    """Return a value. Refuse a text that is too long."""
    _check(len(value) if isinstance(value, str) else 0)
    return value


def joined(parts: Iterable[str]) -> str:
    """Return the text of all parts."""
    size, found = 0, []
    for part in parts:
        size += len(part)
        _check(size)
        found.append(part)
    return "".join(found)


def power(base: Json, exponent: Json) -> Json:
    """Return a power."""
    if isinstance(base, int) and isinstance(exponent, int):
        _check(base.bit_length() * abs(exponent))
    return base**exponent


def remainder(value: Json, other: Json) -> Json:
    """Return a remainder, or the text that a format makes of a value."""
    if isinstance(value, str):
        check_arguments("format", value)
    return checked(value % other)


def total(value: Json, other: Json) -> Json:
    """Return a sum, or the text of two texts."""
    return checked(value + other)


def _check(size: int) -> None:
    if size > _LONGEST:
        raise TooLongError
