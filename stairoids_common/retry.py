"""Retries: how long to pause, and how long a server asks a client to wait."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST_PAUSE = 60.0


def pause_before(attempt: int) -> float:
    """Return a random pause in seconds, doubling with each attempt from the second."""
    longest = min(_LONGEST_PAUSE, 2.0 ** min(max(0, attempt - 2), 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, no secret


def retry_after_in(text: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After`, a number or a date (RFC 9110, 10.2.3)."""
    if text is not None and text.strip().isdecimal():
        return float(text)
    moment = http_date(text or "")
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def http_date(text: str) -> datetime | None:
    """Return the time of a header such as `Date`; None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
