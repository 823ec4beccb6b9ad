"""Turn stored events into the records of each stream.

The Singer tap and the Airbyte source share these streams.
"""

from __future__ import annotations

import base64
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from typing_extensions import override

from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.reading.payload_schemas import (
    KNOWN_EVENTS,
    conform,
    schema_of,
)
from tap_stairoids_webhooks.reading.snapshot import Snapshot
from tap_stairoids_webhooks.store.event_filter import EventFilter

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.schema import StoredEvent

Json = Any  # any JSON value; narrowed where it is read

#: Primary key and replication key of every stream.
SEQUENCE = "sequence"
#: Name of the stream that has every sequence.
EVENTS = "events"
# Faster than the strict parser that the receiver has used on the body.
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def _text(description: str = "", *, nullable: bool = True, **more: Json) -> Json:
    described = {"description": description} if description else {}
    type_ = ["string", "null"] if nullable else ["string"]
    return {"type": type_, **described, **more}


def _schema(properties: dict[str, Json], **more: Json) -> dict[str, Json]:
    """Return the schema of a stream; a property that may not be null is required."""
    required = [name for name, spec in properties.items() if "null" not in spec["type"]]
    return {
        "type": "object",
        "properties": properties,
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
_EVENTS_SCHEMA = _schema(
    {
        **_SEQUENCE,
        **_EVENT,
        **_RECEIVED_AT,
        "payload": {
            "type": ["object", "null"],
            "properties": {},
            "description": "The signed body; null if it is not a JSON object.",
            "additionalProperties": True,
        },
        "malformed": _text("Why there is no payload; the body is in malformed_events."),
        "conflict": {
            "type": ["boolean"],
            "description": "True if its id had come before, with another body.",
        },
        "erased_at": _text(
            "When the payload was erased, on a person's request.", format="date-time"
        ),
        **_DELIVERY,
    }
)
_MALFORMED_SCHEMA = _schema(
    {
        **_SEQUENCE,
        **_RECEIVED_AT,
        "reason": _text(nullable=False),
        "body_base64": _text("The signed bytes.", nullable=False),
        **_DELIVERY,
    }
)
_ERASURES_SCHEMA = _schema(
    {
        SEQUENCE: {"type": ["integer"], "description": "Number of the erasure."},
        "event_sequence": {
            "type": ["integer"],
            "description": "Sequence of the erased event in the other streams.",
        },
        **_EVENT,
        **_RECEIVED_AT,
        "body_sha256": _text(nullable=False),
        "erased_at": _text(nullable=False, format="date-time"),
    }
)


class Records(ABC):
    """The records of one stream.

    Args:
        selected: The events that this stream has.
    """

    def __init__(
        self,
        name: str,
        schema: dict[str, Json],
        snapshot: Snapshot,
        selected: EventFilter,
    ) -> None:
        self.name = name
        self.schema = schema
        self._snapshot = snapshot
        self.selected = selected
        #: The event of the last record; None before the first record.
        self.last: StoredEvent | None = None

    @property
    def upper(self) -> int:
        """The last sequence of the snapshot."""
        return self._snapshot.upper

    @abstractmethod
    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        """Yield the records after a sequence, in order.

        Args:
            sequence: The bookmark of the stream, 0 for none.
            as_is: Whether nothing changes the records before they are written. Then a
                payload may be the bytes of the body.
        """


class EventRecords(Records):
    """Every event, with its payload unchanged."""

    def __init__(self, snapshot: Snapshot, selected: EventFilter) -> None:
        # Erased events as well, so that no sequence is missing.
        every = replace(selected, erased=True)
        super().__init__(EVENTS, _EVENTS_SCHEMA, snapshot, every)

    @override
    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        for stored in self._snapshot.events_after(sequence, self.selected):
            self.last = stored
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
    """Return whether a body is proven JSON on one line, which can be written as is."""
    return (
        stored.malformed is None
        and stored.erased_at is None
        and b"\n" not in stored.body
        and b"\r" not in stored.body
        and hashlib.sha256(stored.body).hexdigest() == stored.body_sha256
    )


class EventTypeRecords(Records):
    """The events of one type, with declared fields."""

    def __init__(self, snapshot: Snapshot, selected: EventFilter, event: str) -> None:
        self._shape = KNOWN_EVENTS[event]
        schema = _schema(
            {
                **_SEQUENCE,
                **_EVENT,
                **_RECEIVED_AT,
                **schema_of(self._shape)["properties"],
            },
            additionalProperties=True,
        )
        name, of_type = event.replace(".", "_"), selected.of_type(event)
        super().__init__(name, schema, snapshot, of_type)

    @override
    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        if not self.selected.types:
            return
        for stored in self._snapshot.events_after(sequence, self.selected):
            self.last = stored
            payload, _ = _payload_or_reason(stored)
            record = conform(payload or {}, self._shape) or {}
            record.pop("id", None)  # the record has it as event_id
            record["sequence"] = stored.sequence
            record["event"] = stored.event
            record["event_id"] = stored.event_id
            record["received_at"] = stored.received_at
            yield record


class MalformedEventRecords(Records):
    """Signed bodies that are not a JSON object, byte for byte."""

    def __init__(self, snapshot: Snapshot, selected: EventFilter) -> None:
        malformed = replace(selected, types=None, malformed=True)
        super().__init__("malformed_events", _MALFORMED_SCHEMA, snapshot, malformed)

    @override
    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        for stored in self._snapshot.events_after(sequence, self.selected):
            self.last = stored
            yield {
                "sequence": stored.sequence,
                "received_at": stored.received_at,
                "reason": stored.malformed,
                "body_base64": base64.b64encode(stored.body).decode("ascii"),
                **_delivery_of(stored),
            }


class ErasureRecords(Records):
    """Events that were erased on a person's request, in the order of the erasures."""

    def __init__(self, snapshot: Snapshot) -> None:
        nothing = EventFilter(types=frozenset())  # no event waits for this stream
        super().__init__("erasures", _ERASURES_SCHEMA, snapshot, nothing)

    @property
    @override
    def upper(self) -> int:
        return self._snapshot.last_erasure

    @override
    def after(self, sequence: int, *, as_is: bool) -> Iterator[dict[str, Any]]:
        for erasure in self._snapshot.erasures_after(sequence):
            more = {k: v for k, v in erasure.items() if k != "number"}
            places = {
                "sequence": erasure["number"],
                "event_sequence": erasure["sequence"],
            }
            yield more | places


def all_records(snapshot: Snapshot, selected: EventFilter) -> list[Records]:
    """Return the records of every stream."""
    return [
        EventRecords(snapshot, selected),
        MalformedEventRecords(snapshot, selected),
        ErasureRecords(snapshot),
        *(EventTypeRecords(snapshot, selected, event) for event in KNOWN_EVENTS),
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
    except MalformedBodyError as error:  # the row was changed in the store
        return None, str(error)


def _delivery_of(stored: StoredEvent) -> dict[str, Any]:
    return {
        "delivery_id": stored.headers.get("x-stairoids-delivery"),
        "content_type": stored.headers.get("content-type"),
        "body_sha256": stored.body_sha256,
        "key_id": stored.key_id,
    }
