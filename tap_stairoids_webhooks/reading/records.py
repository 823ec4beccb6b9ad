"""Records: what each stream holds, made of stored events in the order of sequence.

Streams are declared here once, for every protocol that carries them.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.reading.payload_schemas import (
    KNOWN_EVENTS,
    conform,
    schema_of,
)
from tap_stairoids_webhooks.store.event_filter import ALL, MALFORMED, of_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_stairoids_webhooks.reading.snapshot import Snapshot
    from tap_stairoids_webhooks.store.schema import StoredEvent, Wanted

Json = Any  # what JSON can hold; narrowed where it is read

#: What tells the records of a stream apart, and what a state remembers of it.
SEQUENCE = "sequence"
#: The stream that holds every sequence.
EVENTS = "events"
# Quick, but less strict than what the receiver has read the body with.
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def _text(description: str = "", *, nullable: bool = True, **more: Json) -> Json:
    told = {"description": description} if description else {}
    return {"type": ["string", "null"] if nullable else ["string"], **told, **more}


def _schema(
    properties: Mapping[str, Json], *, required: list[str], **more: Json
) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        **more,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }


_SEQUENCE = {
    SEQUENCE: {
        "type": ["integer"],
        "description": "Position in the store; grows with each event.",
    }
}
_RECEIVED_AT = {
    "received_at": _text(
        "When the receiver took the delivery.", nullable=False, format="date-time"
    )
}
_EVENT = {
    "event": _text("Event type."),
    "event_id": _text("Stairoids' id, equal in redeliveries."),
}
_DELIVERY = {
    "delivery_id": _text("Unsigned header."),
    "content_type": _text("Unsigned header."),
    "body_sha256": _text(nullable=False),
    "key_id": _text("Which secret signed it.", nullable=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which events the settings ask for, in whatever stream.

    Attributes:
        events: These types only; None for all.
        since: What was received then or later, as `received_at` has it.
    """

    events: frozenset[str] | None = None
    since: str | None = None

    def takes(self, event: str) -> bool:
        """Tell whether events of a type are among them."""
        return self.events is None or event in self.events

    def everything(self) -> Wanted:
        """All of them, erased ones as well, so that no sequence is missing."""
        return _wanted(events=self.events, since=self.since, erased=True)

    def of_type(self, event: str) -> Wanted:
        """Those of one type."""
        return _wanted(events=frozenset({event}), since=self.since)

    def malformed(self) -> Wanted:
        """Those that have no type, because they do not parse."""
        return _wanted(malformed=True, since=self.since)


def _wanted(**conditions: Any) -> Wanted:
    from tap_stairoids_webhooks.store.schema import Wanted  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

    return Wanted(**conditions)


class Records(Protocol):
    """The records of one stream."""

    @property
    def name(self) -> str:
        """The stream's name."""

    @property
    def schema(self) -> dict[str, Json]:
        """Their JSON schema."""

    @property
    def wants(self) -> list[str]:
        """What a consumer of this stream wants; see interest.py."""

    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        """Yield those of a higher sequence, in order.

        Args:
            as_is: Whether they go out as they are, so that a payload may be its very
                bytes.
        """


@dataclass(frozen=True, slots=True)
class EventRecords:
    """Every event, with its payload as it came."""

    _snapshot: Snapshot
    _choice: Choice

    @property
    def name(self) -> str:
        """The stream's name."""
        return EVENTS

    @property
    def schema(self) -> dict[str, Json]:
        """Their JSON schema."""
        properties = {
            **_SEQUENCE,
            **_EVENT,
            **_RECEIVED_AT,
            "payload": {
                "type": ["object", "null"],
                "properties": {},
                "description": "The signed body; null if it is not a JSON object.",
                "additionalProperties": True,
            },
            "malformed": _text(
                "Why there is no payload; the body is in malformed_events."
            ),
            "conflict": {
                "type": ["boolean"],
                "description": "True if its id had come before, with another body.",
            },
            "erased_at": _text(
                "When the payload was erased, on a person's request.",
                format="date-time",
            ),
            **_DELIVERY,
        }
        required = [SEQUENCE, "received_at", "conflict", "body_sha256", "key_id"]
        return _schema(properties, required=required)

    @property
    def wants(self) -> list[str]:
        """What a consumer of this stream wants."""
        if self._choice.events is None:
            return [ALL]
        return [of_type(event) for event in sorted(self._choice.events)]

    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        """Yield those of a higher sequence, in order."""
        for stored in self._snapshot.events_after(sequence, self._choice.everything()):
            payload: object
            payload, malformed = (
                (msgspec.Raw(stored.body), None)
                if as_is and _is_one_line(stored)
                else _payload_or_reason(stored)
            )
            yield {
                "sequence": stored.sequence,
                "event": stored.event,
                "event_id": stored.event_id,
                "received_at": stored.received_at,
                "payload": payload,
                "malformed": malformed,
                "conflict": stored.conflict,
                "erased_at": stored.erased_at,
                **_delivery_of(stored),
            }


def _is_one_line(stored: StoredEvent) -> bool:
    """Say whether a body can go out as it is: proven JSON, on one line."""
    return (
        stored.malformed is None
        and stored.erased_at is None
        and b"\n" not in stored.body
        and b"\r" not in stored.body
        and hashlib.sha256(stored.body).hexdigest() == stored.body_sha256
    )


@dataclass(frozen=True, slots=True)
class EventTypeRecords:
    """The events of one type, with declared fields."""

    _snapshot: Snapshot
    _choice: Choice
    _event: str

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._event.replace(".", "_")

    @property
    def schema(self) -> dict[str, Json]:
        """Their JSON schema."""
        fields = schema_of(KNOWN_EVENTS[self._event])["properties"]
        return _schema(
            {**_SEQUENCE, **_EVENT, **_RECEIVED_AT, **fields},
            required=[SEQUENCE, "received_at"],
            additionalProperties=True,
        )

    @property
    def wants(self) -> list[str]:
        """What a consumer of this stream wants."""
        return [of_type(self._event)] if self._choice.takes(self._event) else []

    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:  # noqa: ARG002 -- they are made anew in either case
        """Yield those of a higher sequence, in order."""
        if not self._choice.takes(self._event):
            return
        shape, wanted = KNOWN_EVENTS[self._event], self._choice.of_type(self._event)
        for stored in self._snapshot.events_after(sequence, wanted):
            payload, _ = _payload_or_reason(stored)
            record = conform(payload or {}, shape) or {}
            record.pop("id", None)  # it is the event's, and here as event_id
            record["sequence"] = stored.sequence
            record["event"] = stored.event
            record["event_id"] = stored.event_id
            record["received_at"] = stored.received_at
            yield record


@dataclass(frozen=True, slots=True)
class MalformedEventRecords:
    """Signed bodies that are not a JSON object, byte for byte."""

    _snapshot: Snapshot
    _choice: Choice

    @property
    def name(self) -> str:
        """The stream's name."""
        return "malformed_events"

    @property
    def schema(self) -> dict[str, Json]:
        """Their JSON schema."""
        properties = {
            **_SEQUENCE,
            **_RECEIVED_AT,
            "reason": _text(nullable=False),
            "body_base64": _text("The signed bytes.", nullable=False),
            **_DELIVERY,
        }
        own = [SEQUENCE, "received_at", "reason", "body_base64"]
        return _schema(properties, required=[*own, "body_sha256", "key_id"])

    @property
    def wants(self) -> list[str]:
        """What a consumer of this stream wants."""
        return [MALFORMED]

    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:  # noqa: ARG002 -- they hold no payload
        """Yield those of a higher sequence, in order."""
        for stored in self._snapshot.events_after(sequence, self._choice.malformed()):
            yield {
                "sequence": stored.sequence,
                "received_at": stored.received_at,
                "reason": stored.malformed,
                "body_base64": base64.b64encode(stored.body).decode("ascii"),
                **_delivery_of(stored),
            }


def all_records(snapshot: Snapshot, choice: Choice) -> list[Records]:
    """Return the records of every stream there is."""
    return [
        EventRecords(snapshot, choice),
        MalformedEventRecords(snapshot, choice),
        *(EventTypeRecords(snapshot, choice, event) for event in KNOWN_EVENTS),
    ]


def _payload_or_reason(stored: StoredEvent) -> tuple[dict[str, Any] | None, str | None]:
    if stored.malformed is not None or stored.erased_at is not None:
        return None, stored.malformed
    try:
        payload = _DECODER.decode(stored.body)
    except (ValueError, RecursionError):
        payload = None
    if isinstance(payload, dict):
        return payload, None
    try:
        return payload_from(stored.body), None
    except MalformedBodyError as error:  # stored by a version that was less strict
        return None, str(error)


def _delivery_of(stored: StoredEvent) -> dict[str, Any]:
    return {
        "delivery_id": stored.headers.get("x-stairoids-delivery"),
        "content_type": stored.headers.get("content-type"),
        "body_sha256": stored.body_sha256,
        "key_id": stored.key_id,
    }
