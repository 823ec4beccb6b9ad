"""Read summaries of the newest events, or one event with its body.

Each function raises `StoreUnavailableError` if the store cannot be read now.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import sqlalchemy as sa

from tap_stairoids_webhooks.store.schema import EVENTS, StoredEvent
from tap_stairoids_webhooks.store.store import EventStore

_MAX_READ = 16_384  # bytes of a body that is read for its subject
_MAX_PARSED = 65_536  # of the body of one event
_SIZE: Any = sa.func.length(EVENTS.c.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """An event without its body, whose size is in bytes; see `subject_of`."""

    sequence: int
    event: str | None
    event_id: str | None
    malformed: str | None
    conflict: bool
    received_at: str
    key_id: str
    erased_at: str | None
    size: int
    subject: str


_COLUMNS = [
    *(EVENTS.c[field.name] for field in fields(EventSummary) if field.name in EVENTS.c),
    _SIZE.label("size"),
    sa.case((_SIZE <= _MAX_READ, EVENTS.c.body)).label("body"),
]


def latest(
    store: EventStore,
    *,
    number: int,
    before: int | None = None,
    kind: str | None = "",
    day: str = "",
    text: str = "",
) -> list[EventSummary]:
    """Return events before a sequence, the newest first.

    Args:
        kind: Only events of this type; None for those without a type.
        day: Only events received on this day (UTC), such as 2026-01-31.
        text: Only events whose body contains this text.
    """
    if "\0" in f"{kind}{day}":
        return []  # PostgreSQL refuses to compare it
    query = sa.select(*_COLUMNS).order_by(EVENTS.c.sequence.desc()).limit(number)
    if before is not None:
        query = query.where(EVENTS.c.sequence < before)
    if kind != "":
        query = query.where(EVENTS.c.event == kind)
    if day:
        query = query.where(EVENTS.c.received_at.startswith(day, autoescape=True))
    with store.transaction("cannot be read") as connection:
        if text:
            query = query.where(_contains(text, connection.dialect.name))
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [EventSummary(subject=subject_of(row.pop("body")), **row) for row in rows]


def subject_of(body: bytes | None) -> str:
    """Return the automation, the signal type and the company of an event.

    They are not read from a large body, because its parsing delays the receiver.
    """
    if len(body or b"") > _MAX_PARSED:
        return ""
    try:
        payload = msgspec.json.decode(body or b"")
    except (ValueError, RecursionError):
        return ""
    data = _part(payload, "data") or payload
    parts = (
        _part(payload, "automation_name"),
        _part(data, "signal", "type") or _part(data, "type"),
        _part(data, "account", "name") or _part(data, "account", "domain"),
    )
    return " · ".join(part for part in parts if isinstance(part, str) and part)


def _part(value: object, *names: str) -> object:
    """Return a part of a parsed body; None if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _contains(text: str, dialect: str) -> sa.ColumnElement[bool]:
    """Return the condition that a body contains a text, as it is or escaped in JSON."""
    conditions = []
    for spelling in {text, json.dumps(text)[1:-1]}:
        body: Any = EVENTS.c.body
        part: Any = sa.literal(spelling.encode(), sa.LargeBinary)
        if dialect == "sqlite":
            conditions.append(sa.func.instr(body, part) > 0)
            continue
        body, part = (sa.func.encode(value, "escape") for value in (body, part))
        conditions.append(sa.func.strpos(body, part) > 0)
    return sa.or_(*conditions)


def event_with_sequence(store: EventStore, sequence: int) -> StoredEvent | None:
    """Return one event with its body; None if there is none."""
    found = store.read_after(sequence - 1, upper=sequence, limit=1)
    return found[0] if found else None
