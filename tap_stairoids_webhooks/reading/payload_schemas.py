"""Payloads: what each known event type carries, declared once.

Schema and record both follow from one declaration, so a record never violates
its schema, whatever Stairoids sends: a text that came as another type is turned
into its JSON text, a number or time that is none becomes null, and something
else where an object belongs is kept under the key ``value``. Fields not declared
here pass as they came; stream ``events`` has every payload untouched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any


class Kind(Enum):
    """What a declared field holds, or null."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with declared fields, and any others."""

    fields: dict[str, Kind | Shape]


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
    {
        **_SIGNAL.fields,
        "account": _ACCOUNT,
        "contact": _CONTACT,
        "score": Kind.NUMBER,
    }
)


def _envelope(data: Shape) -> Shape:
    return Shape({"created_at": Kind.TIME, "data": data})


# Of the events below signal.created only the envelope is documented.
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
    """Return the JSON schema of a shape."""
    return {
        "type": ["object", "null"],
        "properties": {
            name: schema_of(kind) if isinstance(kind, Shape) else dict(_SCALARS[kind])
            for name, kind in shape.fields.items()
        },
        "additionalProperties": True,
    }


def conform(value: object, shape: Shape) -> dict[str, Any] | None:
    """Return an object that fits its schema; unknown fields pass."""
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
            return json.dumps(value, default=str)
        case Kind.NUMBER if isinstance(value, bool):
            return None
        case Kind.NUMBER if not isinstance(value, (int, Decimal)):
            return None
        case Kind.TIME if not _is_time(value):
            return None
        case _:
            return value


def _is_time(value: object) -> bool:
    """Tell a date with a time and an offset, as RFC 3339 has it."""
    if not isinstance(value, str) or len(value) < len("2024-01-01T00:00:00Z"):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
