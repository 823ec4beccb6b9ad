"""Read times as taps write them, where their meaning is certain.

A text is read in ISO 8601, as a mail header or a program prints it, as `2025/11/05` or
`5.11.2025`, or as a Unix time. `5/11/2025` may be in May or November, and is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.values import is_blank

#: A placeholder for an unknown time, or for never, lies outside of these years.
_YEARS = range(1971, 2099)
UNREADABLE = (
    "occurred_at: not a date and time that can be read, such as 2026-01-31T12:00:00Z"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The digits of a Unix time in seconds, milli-, micro- or nanoseconds.
_EPOCH_DIGITS = frozenset({10, 13, 16, 19})
#: `/Date(…)/` is of .NET, in milliseconds. Its offset does not change the moment.
_NUMBER = re.compile(
    r"(\d{10}(?:\d{3}){0,3}(?:\.\d+)?)|/Date\((\d{13})(?:[+-]\d{4})?\)/", re.ASCII
)
_NANOSECONDS = {"nanos", "nanoseconds", "_nanoseconds"}
_PARTS = {"seconds", "_seconds", *_NANOSECONDS}
_MILLISECONDS = 13  # digits of a Unix time since 2001
_SECONDS = 10
#: A part of an hour or a minute, which Python takes for a part of a second.
_PART = re.compile(r".{8,}[Tt ]\d\d(?::?\d\d)?[.,]\d")
_COMPACT = re.compile(r"(\d{8})(\d{6})", re.ASCII)  # 20251105143000


class _Words(msgspec.Struct, frozen=True):
    months: tuple[str, ...]
    zones: dict[str, int]


_FILE = Path(__file__).with_name("times.toml")
_WORDS = msgspec.toml.decode(_FILE.read_bytes(), type=_Words)
_DAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?"
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:[.,]\d+)?))?"
    r"(?: ?(?P<half>[ap])\.?m\.?)?"
)
_ZONE = (
    r"(?: ?(?:(?:utc|gmt)?(?P<offset>[+-]\d\d(?::?\d\d)?)(?: [a-z]{3,5})?"
    r"|(?P<zone>[a-z]{1,5}))(?:\[[\w/+-]+\]| \([^()]*\))?)?"
)
#: Behind a date, `-0001` may be a number and no offset.
_NO_NUMBER = r"(?(hour)|(?! ?[+-]\d\d(?!:)))"
_NTH = r"(?:st|nd|rd|th|\.)?"
_YEAR, _WORD, _ONE = r"(?P<year>\d{4})", r"(?P<word>[a-z]{3,9})\.?", r"\d{1,2}"
_FORMS = [
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        *(
            rf"{_DAY}{date}(?:(?:t|,? (?:at )?){_TIME})?{_NO_NUMBER}{_ZONE}"
            for date in (
                rf"{_YEAR}(?P<sep>[-/.])(?P<month>{_ONE})(?P=sep)(?P<day>{_ONE})",
                rf"(?P<day>{_ONE})\.(?P<month>{_ONE})\.{_YEAR}",
                rf"(?P<day>{_ONE}){_NTH}(?P<sep>[ -]){_WORD}(?P=sep){_YEAR}",
                rf"{_WORD} (?P<day>{_ONE}),? {_YEAR}",
            )
        ),
        rf"{_DAY}{_WORD} (?P<day>{_ONE}) {_TIME}{_ZONE} {_YEAR}",  # C's asctime
    )
]


def time_from(value: object) -> str | None:
    """Return a time as RFC 3339 in UTC; None if it is empty.

    A time without an offset is in UTC. A value without a certain meaning raises
    `InvalidSignalError`.
    """
    try:
        value = _inner(value) if isinstance(value, dict) else value
        if isinstance(value, str):
            return _time_from_text(value)
        return None if value is None else _rfc3339(_moment(value))
    except (ValueError, OverflowError) as error:
        raise InvalidSignalError(UNREADABLE) from error


@lru_cache(maxsize=4096)  # times of a sync repeat
def _time_from_text(text: str) -> str | None:
    return None if is_blank(text) else _rfc3339(_text_moment(text))


def _rfc3339(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return str(msgspec.to_builtins(moment))


def is_time(names: Collection[str]) -> bool:
    """Return whether an object with these fields is a time of Firestore and others."""
    return not _NANOSECONDS.isdisjoint(names) and _PARTS.issuperset(names)


def _inner(value: Any) -> object:  # noqa: ANN401 - any value of a record
    """Return the time in an object of MongoDB, Firestore or Protocol Buffers.

    Sources: MongoDB Extended JSON (v2), `Timestamp` of the Firebase SDKs and of
    google.protobuf.
    """
    match value:
        case {"$date": {"$numberLong": inner}} | {"$numberLong": inner}:
            is_certain = len(str(inner)) == _MILLISECONDS
        case {"$date": inner}:
            is_certain = not isinstance(inner, int) or len(str(inner)) == _MILLISECONDS
        case {"seconds": inner, **rest} | {"_seconds": inner, **rest}:
            part = next(iter(rest.values()), 0)
            is_certain = rest.keys() <= _NANOSECONDS and len(str(inner)) == _SECONDS
            with suppress(ArithmeticError):
                inner = Decimal(str(inner)) + Decimal(str(part)).scaleb(-9)
        case _:
            is_certain = False
    return inner if is_certain else value


def event_time_from(value: object) -> str | None:
    """Return a time as `time_from` does, and refuse a placeholder for one."""
    time = time_from(value)
    if time is not None and int(time[:4]) not in _YEARS:
        raise InvalidSignalError(
            f"occurred_at: not a time from {_YEARS[0]} to {_YEARS[-1]}, so it is a "
            "placeholder"
        )
    return time


def _or_none(read: Callable[[object], str | None]) -> Callable[[object], str | None]:
    def likely(value: object) -> str | None:
        try:
            return read(value)
        except InvalidSignalError:
            return None

    return likely


likely_time_from = _or_none(time_from)
likely_event_time_from = _or_none(event_time_from)


def is_placeholder(value: object) -> bool:
    """Return whether a value is a time, but not of an event: `2999-12-31`."""
    return likely_time_from(value) is not None and likely_event_time_from(value) is None


def _moment(value: object) -> datetime:
    """Return the moment of a number: a Unix time, `20251105` or `20251105143000`."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise ValueError  # noqa: TRY004 - `time_from` catches ValueError
    number = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    if not number.is_finite() or number <= 0:
        raise ValueError
    digits = number.adjusted() + 1
    if digits in _EPOCH_DIGITS:
        if number == int(number) and _is_also_a_date(str(int(number))):
            raise ValueError
        return _EPOCH + timedelta(microseconds=int(number.scaleb(16 - digits)))
    if digits > 14 or number != int(number):
        raise ValueError
    return _text_moment(str(int(number)))


def _is_also_a_date(digits: str) -> bool:
    """Return whether a Unix time of 2032 to 2036 may be `2025110514`, a date's hour."""
    try:
        date = datetime.fromisoformat(f"{digits[:8]}T{digits[8:14]}")
    except ValueError:
        return False
    return date.year in _YEARS


def _text_moment(text: str) -> datetime:
    text = " ".join(text.split())
    if number := _NUMBER.fullmatch(text):
        return _moment(Decimal(number[1] or number[2]))
    if _PART.match(text):
        raise ValueError
    text = _COMPACT.sub(r"\1T\2", text) if _COMPACT.fullmatch(text) else text
    # Python takes any character for the `T`, also the sign of an offset.
    if len(text) <= 10 or text[10] in "Tt " or text[8] in "Tt":
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass  # perhaps in another form
    found = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if found is None:
        raise ValueError
    return datetime.fromisoformat(_iso8601(found.groupdict()))


def _iso8601(parts: dict[str, str | None]) -> str:
    month, word = parts.get("month"), (parts.get("word") or "").lower()
    if not month:
        names = enumerate(_WORDS.months, start=1)
        month = str(next((n for n, name in names if name.startswith(word)), 0))
    hour = int(parts["hour"] or 0)
    if parts["half"]:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + (12 if parts["half"] in "pP" else 0)
    zone = (parts["zone"] or "UTC").upper()
    if zone not in _WORDS.zones:
        raise ValueError
    offset = parts["offset"] or f"{_WORDS.zones[zone]:+03}:00"
    date = f"{parts['year']}-{int(month):02}-{int(parts['day'] or 0):02}"
    time = f"{hour:02}:{parts['minute'] or '00'}:{parts['second'] or '00'}"
    return f"{date}T{time}{offset}"
