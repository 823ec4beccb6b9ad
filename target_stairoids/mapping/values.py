"""Convert a tap's values to the forms that the Stairoids API accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import idna
import msgspec

from target_stairoids.exceptions import InvalidSignalError

Scalar = str | bool | int | float | Decimal
Json = Any  # any JSON value; narrowed where it is read

#: A domain for the API: a host whose top level is not a number.
DOMAIN = re.compile(r"^[^\s\x00-\x1f@/:?#]+\.(?!\d+$)[^\s\x00-\x1f@/:?#.]+$")
#: An email address for the API.
EMAIL = re.compile(r"^[^\s\x00-\x1f@]+@[^\s\x00-\x1f@]+\.[^\s\x00-\x1f@.]+$")

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://|^//", re.IGNORECASE)
_HOST_ENDS = re.compile(r"[/?#\s]")
_CACHED_HOSTS = 4096  # the records of a stream repeat their companies


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


def domain_from(value: object) -> str | None:
    """Return the bare host of a URL, host or email address; None without a host.

    An international host is returned as in DNS: `xn--mnchen-3ya.de` for `münchen.de`.
    Both spellings then are one company.
    """
    return _host(value) if isinstance(value, str) else None


@lru_cache(maxsize=_CACHED_HOSTS)
def _host(text: str) -> str | None:
    host = _SCHEME.sub("", text.strip().lower())
    host = _HOST_ENDS.split(host, maxsplit=1)[0].rpartition("@")[2]
    host = host.split(":", 1)[0].removeprefix("www.").rstrip(".")
    return _ascii_host(host) or None


@lru_cache(maxsize=_CACHED_HOSTS)
def _ascii_host(host: str) -> str:
    """Return a host as in DNS; unchanged if DNS cannot have it."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return host


def email_from(value: object) -> str | None:
    """Return the address, trimmed, with its domain in lower case; None if empty."""
    if not isinstance(value, str):
        return None
    address = value.strip()
    if address[:7].lower() == "mailto:":
        address = address[7:].partition("?")[0]
    local, at, domain = address.rpartition("@")
    return local + at + _ascii_host(domain.lower()) or None


def likely_domain_from(value: object) -> str | None:
    """Return the host of `domain_from`; None if it is no domain."""
    domain = domain_from(value)
    return domain if domain and DOMAIN.match(domain) else None


def likely_email_from(value: object) -> str | None:
    """Return the address as `email_from` does, or None if it is no address."""
    email = email_from(value)
    return email if email and EMAIL.match(email) else None


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
    """Return properties without null, objects as `name.field`, lists as JSON text.

    Raises:
        InvalidSignalError: No double holds a number, or a value is nested too deeply.
    """
    flat: dict[str, Scalar] = {}
    try:
        _flatten(properties, "", flat)
    except RecursionError as error:
        raise InvalidSignalError("properties: nested too deeply") from error
    return flat


_PLAIN = frozenset({str, bool})
_NUMBERS = frozenset({int, float, Decimal})


def _flatten(values: Mapping[str, Json], prefix: str, flat: dict[str, Scalar]) -> None:
    for name, value in values.items():
        key = prefix + name if prefix else name
        kind = type(value)
        if kind in _PLAIN or (kind in _NUMBERS and _is_finite(value)):
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
