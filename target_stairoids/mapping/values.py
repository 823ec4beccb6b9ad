"""Read the text of a tap's values."""

from __future__ import annotations

import math
from decimal import Decimal


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
    return bool(value.strip()) if isinstance(value, str) else value is not None
