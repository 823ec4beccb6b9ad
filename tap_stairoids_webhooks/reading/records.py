"""Turn stored events into the records of each stream.

The Singer tap and the Airbyte source share these streams.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from typing_extensions import override

from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.reading.payload_schemas import KNOWN_EVENTS, conform
from tap_stairoids_webhooks.reading.snapshot import Snapshot
from tap_stairoids_webhooks.store.event_filter import EventFilter

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.schema import Erasure, StoredEvent

Json = Any  # any JSON value; narrowed where it is read

#: Primary key and replication key of every stream.
SEQUENCE = "sequence"
#: Name of the stream that has every sequence.
EVENTS = "events"
#: Name of the stream of erased events. No setting leaves out some of them.
ERASURES = "erasures"
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
EVENTS_SCHEMA = _schema(
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
_MALFORMED = _schema(
    {
        **_SEQUENCE,
        **_RECEIVED_AT,
        "reason": _text(nullable=False),
        "body_base64": _text("The signed bytes.", nullable=False),
        **_DELIVERY,
    }
)
_ERASURES = _schema(
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


@dataclass(eq=False)
class Records:
    """The records of one stream.

    Attributes:
        record_as_is: Like `record_of`, for records that nothing changes before they are
            written. Their payload may be the bytes of the body.
        at: The sequence of the last record; 0 before the first record.
        read_through: The last sequence of the store when the stream was last read to
            its end, as the state names it; None before that.
    """

    name: str
    schema: dict[str, Json]
    snapshot: Snapshot
    selected: EventFilter
    record_of: Callable[[Any], dict[str, Any]]
    record_as_is: Callable[[Any], dict[str, Any]] | None = None
    at: int = 0
    read_through: int | None = None

    @property
    def upper(self) -> int:
        """The last sequence of the snapshot."""
        return self.snapshot.upper

    @property
    def forgotten_through(self) -> int:
        """The last sequence whose digest may be gone."""
        return self.snapshot.store.pruned_through()

    def row_digest(self, sequence: int) -> str | None:
        """Return the digest of a row; None for no row, or a forgotten one."""
        return self.snapshot.store.row_digest(sequence)

    def has_row(self, sequence: int, digest: object) -> bool:
        """Return whether a row has this digest, or is one that was pruned long ago."""
        found = self.row_digest(sequence)
        is_forgotten = found is None and sequence <= self.forgotten_through
        return is_forgotten or found == digest

    def after(self, sequence: int, *, as_is: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the records after a sequence; `as_is` if nothing changes them later."""
        if self.selected.types == frozenset():
            return  # the config leaves out the type of this stream
        if self.read_through is not None:
            self.snapshot.warn_of_pruned_events(max(sequence, self.read_through))
        record_of = (self.record_as_is if as_is else None) or self.record_of
        for stored in self.snapshot.events_after(sequence, self.selected):
            self.at = stored.sequence
            yield record_of(stored)
        if not self.snapshot.stopped:
            self.read_through = self.upper


class ErasureRecords(Records):
    """Events that were erased on a person's request, in the order of the erasures."""

    @property
    @override
    def upper(self) -> int:
        return self.snapshot.last_erasure

    @property
    @override
    def forgotten_through(self) -> int:
        return 0

    @override
    def row_digest(self, sequence: int) -> str | None:
        found = self.snapshot.store.erasures_after(sequence - 1, limit=1)
        return next((e.row_digest for e in found if e.number == sequence), None)

    @override
    def after(self, sequence: int, *, as_is: bool = True) -> Iterator[dict[str, Any]]:
        for erasure in self.snapshot.erasures_after(sequence):
            self.at = erasure.number
            yield self.record_of(erasure)


def all_records(snapshot: Snapshot, selected: EventFilter) -> list[Records]:
    """Return the records of every stream."""
    # Erased events as well, so that no sequence is missing.
    every = replace(selected, erased=True)
    malformed = replace(selected, types=None, malformed=True)
    nothing = EventFilter(types=frozenset())  # no event waits for the erasures
    return [
        Records(EVENTS, EVENTS_SCHEMA, snapshot, every, _event, _event_as_is),
        Records("malformed_events", _MALFORMED, snapshot, malformed, _malformed_event),
        ErasureRecords(ERASURES, _ERASURES, snapshot, nothing, _erasure),
        *(_records_of_type(event, snapshot, selected) for event in KNOWN_EVENTS),
    ]


def _event(stored: StoredEvent) -> dict[str, Any]:
    return _event_with(stored, *_payload_or_reason(stored))


def _event_as_is(stored: StoredEvent) -> dict[str, Any]:
    if _is_one_line(stored):
        return _event_with(stored, msgspec.Raw(stored.body), None)
    return _event(stored)


def _event_with(
    stored: StoredEvent, payload: object, malformed: str | None
) -> dict[str, Any]:
    return {
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


def _malformed_event(stored: StoredEvent) -> dict[str, Any]:
    """Return a signed body that is not a JSON object, byte for byte."""
    return {
        "sequence": stored.sequence,
        "received_at": stored.received_at,
        "reason": stored.malformed,
        "body_base64": base64.b64encode(stored.body).decode("ascii"),
        **_delivery_of(stored),
    }


def _erasure(erasure: Erasure) -> dict[str, Any]:
    record = msgspec.structs.asdict(erasure)
    record["event_sequence"] = erasure.sequence
    record["sequence"] = record.pop("number")
    return record


def _records_of_type(event: str, snapshot: Snapshot, selected: EventFilter) -> Records:
    """Return the records of the events of one type, with declared fields."""
    of_payload = KNOWN_EVENTS[event]
    declared = deepcopy(of_payload["properties"])
    schema = _schema(
        {**_SEQUENCE, **_EVENT, **_RECEIVED_AT, **declared}, additionalProperties=True
    )

    def record_of(stored: StoredEvent) -> dict[str, Any]:
        payload, _ = _payload_or_reason(stored)
        record = conform(payload or {}, of_payload) or {}
        record.pop("id", None)  # the record has it as event_id
        record["sequence"] = stored.sequence
        record["event"] = stored.event
        record["event_id"] = stored.event_id
        record["received_at"] = stored.received_at
        return record

    name = event.replace(".", "_")
    return Records(name, schema, snapshot, selected.of_type(event), record_of)


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
