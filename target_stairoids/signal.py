"""A signal: what Stairoids takes, normalised and checked before it may go out.

The contract is that of https://docs.stairoids.com/integrations/custom-api and
`/api-reference/signals/send-signal`, read the strict way where the two differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from target_stairoids.exceptions import InvalidSignalError

Scalar = str | bool | int | float | Decimal
Json = Any  # what JSON can hold; narrowed where it is read

_DOMAIN = re.compile(r"^[^\s\x00-\x1f@/:?#]+\.[^\s\x00-\x1f@/:?#.]+$")
_EMAIL = re.compile(r"^[^\s\x00-\x1f@]+@[^\s\x00-\x1f@]+\.[^\s\x00-\x1f@.]+$")

SIGNAL_SCHEMA: dict[str, Json] = {
    "type": "object",
    "required": ["type", "source"],
    "additionalProperties": False,
    "anyOf": [
        {"required": ["account"], "properties": {"account": {"required": ["domain"]}}},
        {"required": ["contact"], "properties": {"contact": {"required": ["email"]}}},
    ],
    "properties": {
        "type": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "account": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "domain": {"type": "string", "pattern": _DOMAIN.pattern},
                "name": {"type": "string", "minLength": 1},
            },
        },
        "contact": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "email": {"type": "string", "pattern": _EMAIL.pattern},
                "first_name": {"type": "string", "minLength": 1},
                "last_name": {"type": "string", "minLength": 1},
            },
        },
        "properties": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
        "occurred_at": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT.*Z$"},
    },
}

_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
_HALF_A_PAIR = "a text holds half a surrogate pair, which is not Unicode"
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://|^//", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal, normalised.

    Attributes:
        account: `domain` and `name`, those that are known.
        contact: `email`, `first_name` and `last_name`, those that are known.
        properties: Flat; strings, numbers and booleans only.
        occurred_at: RFC 3339 in UTC, or None to let Stairoids take its own clock.
    """

    type: str
    source: str
    account: Mapping[str, str]
    contact: Mapping[str, str]
    properties: Mapping[str, Scalar]
    occurred_at: str | None = None

    def body(self) -> dict[str, Json]:
        """Return the request's JSON object; what is empty is left out."""
        body: dict[str, Json] = {"type": self.type, "source": self.source}
        for name in ("account", "contact", "properties", "occurred_at"):
            value = getattr(self, name)
            if value:
                body[name] = dict(value) if isinstance(value, Mapping) else value
        return body

    def checked_text(self) -> bytes:
        """Return the request's JSON text of a signal that keeps the contract.

        Raises:
            InvalidSignalError: It breaks the contract; the reason names field and rule.
        """
        body = self.body()
        for error in _contract().iter_errors(body):
            field = ".".join(str(part) for part in error.absolute_path)
            raise InvalidSignalError(_reason(field, str(error.validator)))
        try:
            return _encoder.encode(body)
        except UnicodeEncodeError as error:
            raise InvalidSignalError(_HALF_A_PAIR) from error


@cache
def _contract() -> Draft202012Validator:
    return Draft202012Validator(SIGNAL_SCHEMA)


def _reason(field: str, rule: str) -> str:
    match field, rule:
        case "", "anyOf":
            return "neither account.domain nor contact.email is known"
        case _, "pattern":
            return f"{field}: not of the form Stairoids matches by"
        case _, "minLength" | "minProperties" | "required":
            return f"{field or 'the signal'}: must not be empty"
        case _:
            return f"{field or 'the signal'}: breaks the rule `{rule}`"


def domain_from(value: object) -> str | None:
    """Return the bare host of a URL, host or e-mail address; None if there is none."""
    if not isinstance(value, str):
        return None
    host = _SCHEME.sub("", value.strip().lower())
    host = re.split(r"[/?#\s]", host, maxsplit=1)[0].rpartition("@")[2]
    host = host.split(":", 1)[0].removeprefix("www.").rstrip(".")
    return host or None


def email_from(value: object) -> str | None:
    """Return the address trimmed and with its domain in lower case; None if empty."""
    if not isinstance(value, str):
        return None
    address = value.strip()
    if address[:7].lower() == "mailto:":
        address = address[7:].partition("?")[0]
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}" or None


def likely_domain_from(value: object) -> str | None:
    """Return the host as `domain_from` does, or None if no account has such a one."""
    domain = domain_from(value)
    return domain if domain and _DOMAIN.match(domain) else None


def likely_email_from(value: object) -> str | None:
    """Return the address as `email_from` does, or None if it is none."""
    email = email_from(value)
    return email if email and _EMAIL.match(email) else None


def text_from(value: object) -> str | None:
    """Return a trimmed text; numbers become text, everything else is None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    return str(value).strip() or None


def time_from(value: object, field: str = "occurred_at") -> str | None:
    """Return a time as RFC 3339 in UTC; a time without offset is taken as UTC.

    Whole numbers are Unix times, in seconds or, from the year 5138 on, milliseconds.

    Raises:
        InvalidSignalError: It is no time.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        moment = _moment(value).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        reason = f"{field}: not a date and time in ISO 8601"
        raise InvalidSignalError(reason) from error
    return moment.isoformat().replace("+00:00", "Z")


def _moment(value: object) -> datetime:
    if isinstance(value, str):
        moment = datetime.fromisoformat(value.strip())
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise ValueError  # noqa: TRY004 - the caller turns one kind of error into a reason
    seconds = float(value)
    return datetime.fromtimestamp(
        seconds / 1000 if seconds >= 100_000_000_000 else seconds, tz=UTC
    )


def flat_properties(properties: Mapping[str, Json]) -> dict[str, Scalar]:
    """Return properties as Stairoids takes them.

    Objects are flattened with dots, lists become JSON text, null is left out.

    Raises:
        InvalidSignalError: A number is not finite, or a value is nested too deeply.
    """
    flat: dict[str, Scalar] = {}
    try:
        _flatten(properties, "", flat)
    except RecursionError as error:
        reason = "properties: nested too deeply"
        raise InvalidSignalError(reason) from error
    return flat


def _flatten(values: Mapping[str, Json], prefix: str, flat: dict[str, Scalar]) -> None:
    for name, value in values.items():
        key = prefix + name
        match value:
            case None:
                continue
            case str() | bool() | int():
                flat[key] = value
            case Mapping():
                _flatten(value, f"{key}.", flat)
            case _ if not _is_finite(value):
                reason = f"properties.{key}: not a finite number"
                raise InvalidSignalError(reason)
            case float() | Decimal():
                flat[key] = value
            case _:
                flat[key] = _json_text(value)


def _is_finite(value: Json) -> bool:
    match value:
        case float() | Decimal():
            return math.isfinite(value)
        case Mapping():
            return all(map(_is_finite, value.values()))
        case list():
            return all(map(_is_finite, value))
        case _:
            return True


def _json_text(value: Json) -> str:
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError as error:
        raise InvalidSignalError(_HALF_A_PAIR) from error
