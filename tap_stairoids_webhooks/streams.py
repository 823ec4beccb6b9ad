"""Streams: stored events as records, in the order of their sequence."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.helpers._util import utc_now
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib import RecordMessage
from typing_extensions import override

from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.interest import ALL, MALFORMED, of_type
from tap_stairoids_webhooks.payloads import KNOWN_EVENTS, conform, schema_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context

    from tap_stairoids_webhooks.rows import StoredEvent, Wanted
    from tap_stairoids_webhooks.snapshot import Snapshot

_SEQUENCE = th.Property(
    "sequence",
    th.IntegerType(nullable=False),
    required=True,
    description="Position in the store; grows with each event.",
)
_RECEIVED_AT = th.Property(
    "received_at",
    th.DateTimeType(nullable=False),
    required=True,
    description="When the receiver took the delivery.",
)
_EVENT = th.Property("event", th.StringType, description="Event type.")
_EVENT_ID = th.Property(
    "event_id", th.StringType, description="Stairoids' id, equal in redeliveries."
)
_DELIVERY = (
    th.Property("delivery_id", th.StringType, description="Unsigned header."),
    th.Property("content_type", th.StringType, description="Unsigned header."),
    th.Property("body_sha256", th.StringType(nullable=False), required=True),
    th.Property(
        "key_id",
        th.StringType(nullable=False),
        required=True,
        description="Which secret signed it.",
    ),
)
# Quick, but less strict than what the receiver has read the body with.
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


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
    from tap_stairoids_webhooks.rows import Wanted  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

    return Wanted(**conditions)


class WebhookStream(Stream):
    """What all streams share: incremental on `sequence`, each record once."""

    primary_keys: ClassVar[tuple[str, ...]] = ("sequence",)
    replication_key = "sequence"
    is_sorted = True
    # Our records fit their schemas by construction (see payloads.py).
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(
        self, tap: Tap, snapshot: Snapshot, choice: Choice, **kwargs: Any
    ) -> None:
        super().__init__(tap, **kwargs)
        self._snapshot = snapshot
        self._choice = choice

    @property
    def wants(self) -> list[str]:
        """What a consumer of this stream wants; see interest.py."""
        raise NotImplementedError

    @override
    def get_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        """Yield what came after the bookmark, and remember whose bookmark it is."""
        start = self.get_starting_replication_key_value(context) or 0
        self.stream_state["store_id"] = self._snapshot.store_id
        yield from self._records_after(start)

    def _records_after(self, sequence: int) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    @cached_property
    def emits_as_is(self) -> bool:
        """True if neither catalog nor stream maps change the records."""
        if self.config.get("flattening_enabled") or not all(self.mask.values()):
            return False
        return all(
            type(stream_map) is SameRecordTransform for stream_map in self.stream_maps
        )

    @override
    def _generate_record_messages(
        self, record: dict[str, Any]
    ) -> Generator[RecordMessage, None, None]:
        """Spare a record that stays as it is the walk through all its fields."""
        if not self.emits_as_is:
            yield from super()._generate_record_messages(record)
            return
        yield RecordMessage(
            stream=self.name,
            record=record,
            version=self._stream_version,
            time_extracted=utc_now(),
        )


class EventsStream(WebhookStream):
    """Every event, with its payload as it came."""

    name = "events"
    schema = th.PropertiesList(
        _SEQUENCE,
        _EVENT,
        _EVENT_ID,
        _RECEIVED_AT,
        th.Property(
            "payload",
            th.ObjectType(additional_properties=True),
            description="The signed body; null if it is not a JSON object.",
        ),
        th.Property(
            "malformed",
            th.StringType,
            description="Why there is no payload; the body is in malformed_events.",
        ),
        th.Property(
            "conflict",
            th.BooleanType(nullable=False),
            required=True,
            description="True if its id had come before, with another body.",
        ),
        th.Property(
            "erased_at",
            th.DateTimeType,
            description="When the payload was erased, on a person's request.",
        ),
        *_DELIVERY,
    ).to_dict()

    @property
    @override
    def wants(self) -> list[str]:
        if self._choice.events is None:
            return [ALL]
        return [of_type(event) for event in sorted(self._choice.events)]

    @override
    def _records_after(self, sequence: int) -> Iterator[dict[str, Any]]:
        for stored in self._snapshot.events_after(sequence, self._choice.everything()):
            payload, malformed = self._payload_of(stored)
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

    def _payload_of(self, stored: StoredEvent) -> tuple[object, str | None]:
        """Return the payload; its very bytes, if nobody needs to look into it."""
        if (
            self.emits_as_is
            and stored.malformed is None
            and stored.erased_at is None
            and b"\n" not in stored.body
            and b"\r" not in stored.body
            and hashlib.sha256(stored.body).hexdigest() == stored.body_sha256
        ):
            return msgspec.Raw(stored.body), None
        return _payload_or_reason(stored)


class EventTypeStream(WebhookStream):
    """The events of one type, with declared fields."""

    def __init__(
        self, tap: Tap, snapshot: Snapshot, choice: Choice, *, event: str
    ) -> None:
        self._event = event
        self._shape = KNOWN_EVENTS[event]
        fields = schema_of(self._shape)["properties"]
        own = th.PropertiesList(
            _SEQUENCE, _EVENT, _EVENT_ID, _RECEIVED_AT, additional_properties=True
        ).to_dict()
        own["properties"] |= fields
        name = event.replace(".", "_")
        super().__init__(tap, snapshot, choice, name=name, schema=own)

    @property
    @override
    def wants(self) -> list[str]:
        return [of_type(self._event)] if self._choice.takes(self._event) else []

    @override
    def _records_after(self, sequence: int) -> Iterator[dict[str, Any]]:
        if not self._choice.takes(self._event):
            return
        wanted = self._choice.of_type(self._event)
        for stored in self._snapshot.events_after(sequence, wanted):
            payload, _ = _payload_or_reason(stored)
            record = conform(payload or {}, self._shape) or {}
            record.pop("id", None)  # it is the event's, and here as event_id
            record["sequence"] = stored.sequence
            record["event"] = stored.event
            record["event_id"] = stored.event_id
            record["received_at"] = stored.received_at
            yield record


class MalformedEventsStream(WebhookStream):
    """Signed bodies that are not a JSON object, byte for byte."""

    name = "malformed_events"
    schema = th.PropertiesList(
        _SEQUENCE,
        _RECEIVED_AT,
        th.Property("reason", th.StringType(nullable=False), required=True),
        th.Property(
            "body_base64",
            th.StringType(nullable=False),
            required=True,
            description="The signed bytes.",
        ),
        *_DELIVERY,
    ).to_dict()

    @property
    @override
    def wants(self) -> list[str]:
        return [MALFORMED]

    @override
    def _records_after(self, sequence: int) -> Iterator[dict[str, Any]]:
        for stored in self._snapshot.events_after(sequence, self._choice.malformed()):
            yield {
                "sequence": stored.sequence,
                "received_at": stored.received_at,
                "reason": stored.malformed,
                "body_base64": base64.b64encode(stored.body).decode("ascii"),
                **_delivery_of(stored),
            }


def all_streams(tap: Tap, snapshot: Snapshot, choice: Choice) -> list[WebhookStream]:
    """Return every stream of the tap."""
    return [
        EventsStream(tap, snapshot, choice),
        MalformedEventsStream(tap, snapshot, choice),
        *(
            EventTypeStream(tap, snapshot, choice, event=event)
            for event in KNOWN_EVENTS
        ),
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
