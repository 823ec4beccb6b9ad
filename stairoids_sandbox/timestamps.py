"""Times: aware UTC inside, RFC 3339 with ``Z`` on the wire."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

from stairoids_sandbox.exceptions import invalid


def now() -> datetime:
    """Read the wall clock, to the second, as the documented samples show times."""
    return _second(int(time.time()))


@lru_cache(maxsize=4)
def _second(number: int) -> datetime:
    return datetime.fromtimestamp(number, UTC)


@lru_cache(maxsize=1024)
def rfc3339(moment: datetime) -> str:
    """Write a UTC time the way every answer and payload shows it."""
    return moment.isoformat().replace("+00:00", "Z")


def moment_from(text: object, *, param: str) -> datetime:
    """Read an ISO 8601 date and time that says its zone.

    Raises:
        ApiError: 400; the text is not such a time.
    """
    if isinstance(text, str) and "T" in text:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            try:
                return moment.astimezone(UTC)
            except OverflowError:
                pass
    msg = f"{param} must be an ISO 8601 date and time with a zone."
    raise invalid(msg, param=param)
