"""Convert a tap's values to the forms that the Stairoids API accepts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from target_stairoids.exceptions import InvalidSignalError

Scalar = str | bool | int | float | Decimal
Json = Any  # any JSON value; narrowed where it is read


def _plain(value: object) -> str:
    """Return the plain text of a text that Jinja marked as safe HTML."""
    if isinstance(value, str):
        return str(value)
    raise InvalidSignalError(
        "a value is neither text, number nor list (a filter without its `| list`?)"
    )


_encoder = msgspec.json.Encoder(
    decimal_format="number", order="sorted", enc_hook=_plain
)


def text_from(value: object) -> str | None:
    """Return text, trimmed, or a number as text; None for any other value."""
    if type(value) is str:
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if not _is_finite(value):
        return None
    return str(value).strip() or None


def is_filled(value: object) -> bool:
    """Return whether a value is neither null nor blank text."""
    return bool(value.strip()) if isinstance(value, str) else value is not None


def flat_properties(properties: Mapping[str, Json]) -> dict[str, Scalar]:
    """Return flat properties, without null and blank text.

    Objects become `name.field`, and lists JSON text.

    Raises:
        InvalidSignalError: No double holds a number, or a value is nested too deeply.
    """
    flat: dict[str, Scalar] = {}
    try:
        _flatten(properties, "", flat)
    except RecursionError as error:
        raise InvalidSignalError("properties: nested too deeply") from error
    return flat


_NUMBERS = frozenset({int, float, Decimal})


def _flatten(values: Mapping[str, Json], prefix: str, flat: dict[str, Scalar]) -> None:
    for name, value in values.items():
        key = prefix + name if prefix else name
        kind = type(value)
        if kind is str:
            if value and not value.isspace():
                flat[key] = value
        elif kind is bool or (kind in _NUMBERS and _is_finite(value)):
            flat[key] = value
        elif isinstance(value, Mapping):
            _flatten(value, f"{key}.", flat)
        elif value is not None:
            if not _is_finite(value):
                raise InvalidSignalError(
                    f"properties.{key}: not a number that a double holds"
                )
            flat[key] = value if isinstance(value, str) else json_bytes(value).decode()


def _is_finite(value: Json) -> bool:
    """Return whether a double holds all numbers of a value, as readers of JSON need."""
    if isinstance(value, int | float | Decimal):
        try:
            return math.isfinite(value)
        except (OverflowError, ValueError):  # a large int, a signalling NaN
            return False
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return True


def json_bytes(value: Json) -> bytes:
    """Return a value as JSON text in UTF-8 with sorted keys.

    Raises:
        InvalidSignalError: A text in it is not Unicode.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as error:
        raise InvalidSignalError(
            "a text holds half a surrogate pair, which is not Unicode"
        ) from error
