"""The filters of a mapping's expressions, as in `{{ website | domain }}`.

A filter returns null for a value that it cannot use: an odd value then costs a field
and not the signal. Only `default` turns null into a value. Jinja's own filters are
available too.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from target_stairoids.mapping import names
from target_stairoids.mapping import people_and_companies as people
from target_stairoids.mapping.privacy import READERS, has_refused, simple_name
from target_stairoids.mapping.times import likely_time_from
from target_stairoids.mapping.values import holds, text_from

_LONGEST_NUMBER = 400  # digits; 1e9999999 would fill the memory
_CURRENCY = re.compile(
    r"(?:^\s*|(?<=-))(?:{0})|(?:{0})\s*$".format(
        r"[$\u20ac\xa3\xa5]|\b(?:EUR|USD|GBP|CHF|CAD|AUD|SEK|NOK|DKK|PLN)\b"
    )
)
#: Numbers with one meaning: `1,234.56`, `1.234,56`, `1,234,567`, `1 234,5` and `12,50`.
#: `1,234` may have a decimal comma.
_NUMBERS = [
    re.compile(rf"(-?{form})", re.ASCII)
    for form in (
        r"\d{1,3}(?:,\d{3})+)\.(\d+",
        r"\d{1,3}(?:\.\d{3})+),(\d+",
        r"\d{1,3}(?:,\d{3}){2,})(",
        r"\d{1,3}(?:\.\d{3}){2,})(",
        r"\d{1,3}(?:[ '\u2019]\d{3})+)(?:[.,](?=\d)|\Z)(\d*",
        r"\d+)(?:\.(?=(?:\d\d?|\d{4,})\Z)|\Z)(\d*",
        r"(?:0(?=,)|\d+(?=,(?:\d\d?|\d{4,})\Z))),(\d+",
    )
]
_NO_DIGIT = re.compile(r"[^\d-]")
_IN_UTC = re.compile(r"(?<![a-z])(?:utc|gmt)(?![a-z])", re.IGNORECASE)


def known(value: object) -> object:
    """Return a value, but null for blank text and words such as `N/A`."""
    return (
        None if isinstance(value, str) and people.stands_for_nothing(value) else value
    )


def primary(value: object) -> object:
    """Return the primary value of a list, else the one for work, else the first.

    Null items and those with an opt-out of their own are left out.
    """
    if not isinstance(value, list | dict):
        return value
    items = value if isinstance(value, list) else [value]
    choices = sorted(items, key=_rank, reverse=True)
    values = (_value_in(item) for item in choices if not has_refused(item))
    return next(filter(known, values), None)


_VALUES = ("value", "email", "emailaddress", "address", "domain", "name", "url", "uri")
_PRIMARY = frozenset(
    {"primary", "isprimary", "primaryaddress", "default", "isdefault", "metadata"}
)
_KINDS = frozenset({"type", "label", "category"})
_WORK = frozenset({"work", "office", "business"})


def _fields_of(item: object) -> list[tuple[str, object]]:
    """Return names and values; names that differ in their form only are equal."""
    named = item if isinstance(item, dict) else {}
    return [(simple_name(str(name)), value) for name, value in named.items()]


def _value_in(item: object) -> object:
    fields = {name: value for name, value in _fields_of(item) if value}
    found = next((fields[name] for name in _VALUES if name in fields), None)
    return found if isinstance(item, dict) else item


def _rank(item: object) -> tuple[bool, bool]:
    """Return whether an item is the primary one, and whether it is one for work."""
    fields = _fields_of(item)
    kinds = {(n, str(v).lower()) for n, v in fields if n in _KINDS}
    is_primary = ("type", "primary") in kinds or any(
        _rank(value)[0] or str(value).lower() in {"true", "1", "yes"}
        for name, value in fields
        if name in _PRIMARY
    )
    return is_primary, any(kind in _WORK for _, kind in kinds)


def iso8601(value: object, form: str | None = None) -> str | None:
    """Return a time in UTC, as `time_from` reads it.

    Args:
        form: The form of any other text, such as `%d.%m.%Y %H:%M`, in the codes of
            https://docs.python.org/3/library/datetime.html#format-codes.
    """
    if form is None:
        return likely_time_from(value)
    text = str(value).strip()
    if "%Z" in form and not _IN_UTC.search(text):
        return None  # Python reads a zone of this machine, and returns no offset
    try:
        moment = datetime.strptime(text, form)  # noqa: DTZ007 - the next line adds the offset
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return likely_time_from(aware.isoformat())
    except (ValueError, OverflowError):
        return None


def slug(value: object) -> str | None:
    """Return a text in lower-case letters and digits with hyphens between words."""
    text = unicodedata.normalize("NFKD", (text_from(value) or "").casefold())
    ascii_text = text.encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-") or None


def sha256(value: object) -> str | None:
    """Return the SHA-256 of a text in hexadecimal digits."""
    text = text_from(value)
    if text is None:
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def number(value: object) -> Decimal | None:
    """Return a number, or the number in a text, with all its digits."""
    if isinstance(value, bool):
        return Decimal(value)
    text = str(value).strip()
    try:  # Python reads `2024_01` as 202401
        found = Decimal(text if "_" not in text else "nan")
    except InvalidOperation:
        return _written_number(text)
    return found if found.is_finite() else None


def _written_number(text: str) -> Decimal | None:
    """Return the number of `1,234.56`, `1.234,56 €` or `12,50`; None if uncertain."""
    text = " ".join(_CURRENCY.sub("", text, count=1).split())  # at one of its ends
    found = next(filter(None, (form.fullmatch(text) for form in _NUMBERS)), None)
    return Decimal(f"{_NO_DIGIT.sub('', found[1])}.{found[2]}") if found else None


def _number_as(kind: Callable[[Decimal], object], digits: int) -> Callable[..., object]:
    """Return a filter for numbers up to so many digits; it has a default for others."""

    def converted(value: object, default: object = None) -> object:
        found = number(value)
        if found is None or found.adjusted() > digits:
            return default
        result = kind(found)
        return default if result is None else result

    return converted


def _double(value: Decimal) -> Decimal | None:
    """Return the decimal of a double; None for a number that no double holds."""
    found = float(value)
    return Decimal(repr(found)) if math.isfinite(found) else None


def default(value: object, fallback: object = "", boolean: object = False) -> object:  # noqa: FBT002 - Jinja's own signature
    """Return the fallback for null; with `true` also for blank text and 0."""
    return fallback if value is None or (boolean and not holds(value)) else value


FILTERS: dict[str, Callable[..., Any]] = {
    "domain": people.of_text(people.clean_domain),
    "company_domain": people.of_text(people.company_domain_of),
    "company_name": names.company_name_from,
    "email": people.of_text(people.clean_email),
    "known": known,
    "primary": primary,
    **READERS,
    "person_name": names.person_name_from,
    "first_name": people.of_text(lambda text: names.names_of_person(text)[0]),
    "last_name": people.of_text(lambda text: names.names_of_person(text)[1]),
    "iso8601": iso8601,
    "slug": slug,
    "sha256": sha256,
    "float": _number_as(_double, 308),
    "int": _number_as(int, _LONGEST_NUMBER),
    "default": default,
    "d": default,
}
