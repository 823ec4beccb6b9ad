"""The messages of the Airbyte protocol v0 that the connectors use.

https://docs.airbyte.com/platform/understanding-airbyte/airbyte-protocol

Airbyte's own classes would need pydantic or a second JSON library. Incoming RECORD and
STATE messages have no class here, because a STATE is returned unchanged.
"""

from __future__ import annotations

import time
from typing import Any, Literal, TypedDict

import msgspec

Json = Any  # any value of JSON
Path = list[str]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message, a line of JSON without the fields that are None."""

    type: Literal[
        "SPEC", "CONNECTION_STATUS", "CATALOG", "RECORD", "STATE", "LOG", "TRACE"
    ]
    spec: Specification | None = None
    connection_status: ConnectionStatus | None = msgspec.field(
        default=None, name="connectionStatus"
    )
    catalog: Catalog | None = None
    record: Record | None = None
    state: State | None = None
    log: Log | None = None
    trace: Trace | None = None


class Specification(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The settings of a connector, and the sync modes of a destination."""

    connection_specification: Json = msgspec.field(name="connectionSpecification")
    protocol_version: str
    supports_incremental: bool = msgspec.field(
        default=False, name="supportsIncremental"
    )
    supported_destination_sync_modes: list[str] | None = None


class ConnectionStatus(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The result of a check."""

    status: Literal["SUCCEEDED", "FAILED"]
    message: str | None = None


class Stream(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A stream as its source declares it."""

    name: str
    json_schema: dict[str, Json]
    supported_sync_modes: list[str] | None = None
    source_defined_cursor: bool | None = None
    default_cursor_field: Path | None = None
    source_defined_primary_key: list[Path] | None = None
    is_resumable: bool | None = None
    namespace: str | None = None


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All streams of a source."""

    streams: list[Stream]


class ConfiguredStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream and the way in which it is synced.

    Attributes:
        minimum_generation_id: Records of older generations are to be removed.
    """

    stream: Stream
    sync_mode: str = "full_refresh"
    destination_sync_mode: str = "append"
    cursor_field: Path | None = None
    primary_key: list[Path] | None = None
    generation_id: int | None = None
    minimum_generation_id: int | None = None


class ConfiguredCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """All streams of a sync."""

    streams: list[ConfiguredStream]


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The name of a stream."""

    name: str
    namespace: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record.

    Attributes:
        emitted_at: Milliseconds since the epoch.
    """

    stream: str
    data: dict[str, Json]
    emitted_at: int


class SentRecord(TypedDict, total=False):
    """A record that a source sent. Its data is not parsed."""

    stream: str
    data: msgspec.Raw
    namespace: str | None


class StreamState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The bookmark of a stream."""

    stream_descriptor: Descriptor
    stream_state: dict[str, Json] | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The number of records before a state, as a float, which Airbyte requires."""

    record_count: float = msgspec.field(name="recordCount")


class State(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The state of one stream, as the source writes it."""

    type: Literal["STREAM"]
    stream: StreamState
    source_stats: Stats | None = msgspec.field(default=None, name="sourceStats")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A log line."""

    level: str
    message: str


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a connector failed.

    Attributes:
        message: For the person who configured the connector.
        internal_message: For a developer of the connector.
    """

    message: str
    failure_type: str
    internal_message: str | None = None
    stack_trace: str | None = None


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a stream."""

    stream_descriptor: Descriptor
    status: Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"]


class Trace(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An error of the sync, or the status of a stream.

    Attributes:
        emitted_at: Milliseconds since the epoch.
    """

    type: Literal["ERROR", "STREAM_STATUS"]
    emitted_at: float
    error: Failure | None = None
    stream_status: StreamStatus | None = None


def now() -> int:
    """Return the current time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def log_message(level: str, text: str) -> Message:
    """Return a log line."""
    return Message(type="LOG", log=Log(level=level, message=text))


def error_message(failure: Failure) -> Message:
    """Return the message for a failure."""
    trace = Trace(type="ERROR", emitted_at=float(now()), error=failure)
    return Message(type="TRACE", trace=trace)


def status_message(
    status: Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"], stream: Descriptor
) -> Message:
    """Return the message for the status of a stream."""
    stream_status = StreamStatus(stream_descriptor=stream, status=status)
    trace = Trace(
        type="STREAM_STATUS", emitted_at=float(now()), stream_status=stream_status
    )
    return Message(type="TRACE", trace=trace)
