"""Read and write times: RFC 3339 in UTC with `Z` as text, aware datetimes in code."""

from __future__ import annotations

from datetime import UTC, datetime


def current_second() -> datetime:
    """Return the current time in UTC, without a fraction of a second."""
    return datetime.now(UTC).replace(microsecond=0)


def timestamp(moment: datetime | None = None) -> str:
    """Write a time, by default now, with microseconds, so that texts sort by time."""
    return rfc3339(moment or datetime.now(UTC), "microseconds")


def rfc3339(moment: datetime, timespec: str = "auto") -> str:
    """Write an aware datetime as RFC 3339 in UTC; `timespec` is that of `isoformat`."""
    text = moment.astimezone(UTC).isoformat(timespec=timespec)
    return text.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 date, or a date with a time, in UTC without a zone.

    The message of its `ValueError` does not repeat the text.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = "not a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None
