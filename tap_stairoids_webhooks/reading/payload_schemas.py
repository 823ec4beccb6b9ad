"""Payload schemas of the known event types, and records that fit them.

Schema and record follow from one declaration, so any payload becomes a valid record. A
value of another type becomes its JSON text where a text is declared, and null where a
number or a time is declared. A value where an object is declared is kept under the key
``value``. Fields that are not declared stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec


class Kind(Enum):
    """Type of a declared field, which may also be null."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with declared fields and any others."""

    fields: dict[str, Kind | Shape]


_ENCODER = msgspec.json.Encoder(decimal_format="number")
_SCALARS: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: {"type": ["string", "null"]},
    Kind.NUMBER: {"type": ["number", "null"]},
    Kind.TIME: {"type": ["string", "null"], "format": "date-time"},
}
_ANY = Shape({})
_ACCOUNT = Shape({"id": Kind.TEXT, "name": Kind.TEXT, "domain": Kind.TEXT})
_CONTACT = Shape(
    {
        "id": Kind.TEXT,
        "email": Kind.TEXT,
        "name": Kind.TEXT,
        "first_name": Kind.TEXT,
        "last_name": Kind.TEXT,
    }
)
_SIGNAL = Shape(
    {
        "id": Kind.TEXT,
        "type": Kind.TEXT,
        "source": Kind.TEXT,
        "properties": _ANY,
        "created_at": Kind.TIME,
    }
)
_SIGNAL_DATA = Shape(
    {**_SIGNAL.fields, "account": _ACCOUNT, "contact": _CONTACT, "score": Kind.NUMBER}
)


def _envelope(data: Shape) -> Shape:
    return Shape({"created_at": Kind.TIME, "data": data})


# For the events after signal.created only the envelope is documented.
KNOWN_EVENTS: dict[str, Shape] = {
    "automation.action_triggered": Shape(
        {
            "automation_id": Kind.TEXT,
            "automation_name": Kind.TEXT,
            "triggered_at": Kind.TIME,
            "account": _ACCOUNT,
            "contact": _CONTACT,
            "signal": _SIGNAL,
        }
    ),
    "signal.created": _envelope(_SIGNAL_DATA),
    "signal.scored": _envelope(_SIGNAL_DATA),
    "account.score_changed": _envelope(
        Shape({"account": _ACCOUNT, "score": Kind.NUMBER})
    ),
    "contact.score_changed": _envelope(
        Shape({"contact": _CONTACT, "score": Kind.NUMBER})
    ),
    "automation.triggered": _envelope(
        Shape({"account": _ACCOUNT, "contact": _CONTACT, "signal": _SIGNAL})
    ),
}


def schema_of(shape: Shape) -> dict[str, Any]:
    """Return the JSON Schema of a shape."""
    return {
        "type": ["object", "null"],
        "properties": {
            name: schema_of(kind) if isinstance(kind, Shape) else dict(_SCALARS[kind])
            for name, kind in shape.fields.items()
        },
        "additionalProperties": True,
    }


def conform(value: object, shape: Shape) -> dict[str, Any] | None:
    """Return a value as an object that fits the schema of a shape."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return {"value": value}
    result = dict(value)
    for name, kind in shape.fields.items():
        found = result.get(name)
        if isinstance(kind, Shape):
            result[name] = conform(found, kind)
        else:
            result[name] = found if found is None else _scalar(found, kind)
    return result


def _scalar(value: object, kind: Kind) -> object:
    match kind:
        case Kind.TEXT if not isinstance(value, str):
            return msgspec.json.format(_ENCODER.encode(value), indent=0).decode()
        case Kind.NUMBER if isinstance(value, bool):
            return None
        case Kind.NUMBER if not isinstance(value, (int, Decimal)):
            return None
        case Kind.TIME if not _is_time(value):
            return None
        case _:
            return value


def _is_time(value: object) -> bool:
    """Return whether a value is a date and time with an offset, as in RFC 3339."""
    if not isinstance(value, str) or len(value) < len("2024-01-01T00:00:00Z"):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
