"""Read and write the text of a tap's values."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec

from target_stairoids.exceptions import InvalidSignalError


def text_from(value: object) -> str | None:
    """Return text, trimmed, or a number as text; None for any other value."""
    if isinstance(value, str):
        return str(value).strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        return str(value) if math.isfinite(value) else None
    except (OverflowError, ValueError):  # a large int, a signalling NaN
        return None


def is_filled(value: object) -> bool:
    """Return whether a value is neither null nor blank text."""
    return value is not None and not is_blank(value)


def is_blank(value: object) -> bool:
    """Return whether a value is text of white space only."""
    return isinstance(value, str) and not value.strip()


def holds(value: object) -> bool:
    """Return whether a value is true in an expression, as blank text is not."""
    return bool(value) and not is_blank(value)


def _plain(value: object) -> str:
    """Return the plain text of a text that Jinja marked as safe HTML."""
    if isinstance(value, str):
        return str(value)
    raise InvalidSignalError(
        "a value is neither text, number nor list (a method without its `()`?)"
    )


_encoder = msgspec.json.Encoder(
    decimal_format="number", order="sorted", enc_hook=_plain
)


def json_bytes(value: object) -> bytes:
    """Return JSON text with sorted keys; `InvalidSignalError` for any other value."""
    try:
        return _encoder.encode(value)
    except TypeError as error:
        raise InvalidSignalError("a name in an object is no text") from error
    except UnicodeEncodeError as error:
        raise InvalidSignalError(
            "a text holds half a surrogate pair, which is not Unicode"
        ) from error
