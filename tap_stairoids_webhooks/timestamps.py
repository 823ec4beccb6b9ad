"""Timestamps: RFC 3339 in UTC, all of one length, so that texts order as times do."""

from __future__ import annotations

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def stamp(moment: datetime) -> str:
    """Write a moment as the store keeps it."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def now() -> str:
    """Write the present moment."""
    return stamp(datetime.now(UTC))


def seconds_of(text: str) -> float:
    """Read a moment as the store keeps it; return it as `time.time` tells it."""
    return datetime.fromisoformat(text).timestamp()


def stamp_from(text: str) -> str:
    """Read a date, or a date with a time; without an offset it is UTC.

    Raises:
        ValueError: It is neither; the message does not repeat it.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return stamp(moment)
    except (ValueError, OverflowError):
        msg = "not a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None
