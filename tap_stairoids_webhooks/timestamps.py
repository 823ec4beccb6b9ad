"""Times as the store writes them: RFC 3339 in UTC with microseconds.

All have the same length, so that texts sort in the order of time.
"""

from __future__ import annotations

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def stamp(moment: datetime) -> str:
    """Return a time as text."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def now() -> str:
    """Return the current time as text."""
    return stamp(datetime.now(UTC))


def seconds_of(text: str) -> float:
    """Return the Unix time of a text of the store."""
    return datetime.fromisoformat(text).timestamp()


def stamp_from(text: str) -> str:
    """Read a date, or a date with a time, in UTC if there is no offset.

    Raises:
        ValueError: The text is neither; the message does not repeat it.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return stamp(moment)
    except (ValueError, OverflowError):
        msg = "not a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None
