"""Payload schemas of the known event types, and records that fit them.

Schema and record follow from one declaration, so any payload becomes a valid record. A
value of another type becomes its JSON text where a text is declared, and null where a
number or a time is declared. A value where an object is declared is kept under the key
``value``. Fields that are not declared stay as they are.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

Json = Any  # any JSON value; narrowed where it is read

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_TEXT: Json = {"type": ["string", "null"]}
_NUMBER: Json = {"type": ["number", "null"]}
_TIME: Json = {**_TEXT, "format": "date-time"}


def _object(**fields: Json) -> Json:
    """Return the schema of an object with declared fields and any others."""
    return {
        "type": ["object", "null"],
        "properties": fields,
        "additionalProperties": True,
    }


_ACCOUNT = _object(id=_TEXT, name=_TEXT, domain=_TEXT)
_CONTACT = _object(id=_TEXT, email=_TEXT, name=_TEXT, first_name=_TEXT, last_name=_TEXT)
_SIGNAL_FIELDS = {
    "id": _TEXT,
    "type": _TEXT,
    "source": _TEXT,
    "properties": _object(),
    "created_at": _TIME,
}
_SIGNAL = _object(**_SIGNAL_FIELDS)
_SIGNAL_DATA = _object(
    **_SIGNAL_FIELDS, account=_ACCOUNT, contact=_CONTACT, score=_NUMBER
)


def _envelope(data: Json) -> Json:
    return _object(created_at=_TIME, data=data)


#: Event type -> the schema of its payload.
#: For the events after signal.created only the envelope is documented.
KNOWN_EVENTS: dict[str, Json] = {
    "automation.action_triggered": _object(
        automation_id=_TEXT,
        automation_name=_TEXT,
        triggered_at=_TIME,
        account=_ACCOUNT,
        contact=_CONTACT,
        signal=_SIGNAL,
    ),
    "signal.created": _envelope(_SIGNAL_DATA),
    "signal.scored": _envelope(_SIGNAL_DATA),
    "account.score_changed": _envelope(_object(account=_ACCOUNT, score=_NUMBER)),
    "contact.score_changed": _envelope(_object(contact=_CONTACT, score=_NUMBER)),
    "automation.triggered": _envelope(
        _object(account=_ACCOUNT, contact=_CONTACT, signal=_SIGNAL)
    ),
}


def conform(value: object, schema: Json) -> dict[str, Any] | None:
    """Return a value as an object that fits a schema of this module."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return {"value": value}
    result = dict(value)
    for name, spec in schema["properties"].items():
        found = result.get(name)
        if "properties" in spec:
            result[name] = conform(found, spec)
        else:
            result[name] = found if found is None else _scalar(found, spec)
    return result


def _scalar(value: object, spec: Json) -> object:
    if spec is _NUMBER:
        is_number = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
        return value if is_number else None
    if spec is _TIME:
        return value if _is_time(value) else None
    if isinstance(value, str):
        return value
    return msgspec.json.format(_ENCODER.encode(value), indent=0).decode()


def _is_time(value: object) -> bool:
    """Return whether a value is a date and time with an offset, as in RFC 3339."""
    if not isinstance(value, str) or len(value) < len("2024-01-01T00:00:00Z"):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
