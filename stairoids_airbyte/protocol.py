"""The messages of the Airbyte protocol v0, as far as these connectors speak it.

https://docs.airbyte.com/platform/understanding-airbyte/airbyte-protocol

They are structs of msgspec, which is here anyway, leaves out what is not set, keeps
decimals exact, and refuses what does not fit with one sentence; Airbyte's own classes
would bring either pydantic or a second serialiser for a dozen messages. RECORD and
STATE messages that come in are read as they are, because a STATE goes back unchanged.
"""

from __future__ import annotations

import time
from typing import Any, Literal, TypedDict

import msgspec

Json = Any  # what JSON can hold; narrowed where it is read
Path = list[str]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message, a line of JSON; what is None is left out."""

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
    """What a connector is to be told, and what a destination supports."""

    connection_specification: Json = msgspec.field(name="connectionSpecification")
    protocol_version: str
    supports_incremental: bool = msgspec.field(
        default=False, name="supportsIncremental"
    )
    supported_destination_sync_modes: list[str] | None = None


class ConnectionStatus(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a check ended."""

    status: Literal["SUCCEEDED", "FAILED"]
    message: str | None = None


class Stream(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A stream as its source describes it."""

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
    """A stream as somebody wants it synced.

    Attributes:
        minimum_generation_id: If it is that of this sync, nothing older is to stay.
    """

    stream: Stream
    sync_mode: str = "full_refresh"
    destination_sync_mode: str = "append"
    cursor_field: Path | None = None
    primary_key: list[Path] | None = None
    generation_id: int | None = None
    minimum_generation_id: int | None = None


class ConfiguredCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """All streams that are to be synced."""

    streams: list[ConfiguredStream]


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which stream is meant."""

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
    """What a source sent, its data not yet looked at."""

    stream: str
    data: msgspec.Raw
    namespace: str | None


class StreamState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How far a stream was read."""

    stream_descriptor: Descriptor
    stream_state: dict[str, Json] | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How many records a state stands for; with a decimal point, as Airbyte asks."""

    record_count: float = msgspec.field(name="recordCount")


class State(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The state of one stream, as these sources write it."""

    type: Literal["STREAM"]
    stream: StreamState
    source_stats: Stats | None = msgspec.field(default=None, name="sourceStats")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A line for the log."""

    level: str
    message: str


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a connector failed.

    Attributes:
        message: For the person who configured it.
        internal_message: For whoever mends the connector.
    """

    message: str
    failure_type: str
    internal_message: str | None = None
    stack_trace: str | None = None


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream fares."""

    stream_descriptor: Descriptor
    status: Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"]


class Trace(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """News about the sync itself.

    Attributes:
        emitted_at: Milliseconds since the epoch.
    """

    type: Literal["ERROR", "STREAM_STATUS"]
    emitted_at: float
    error: Failure | None = None
    stream_status: StreamStatus | None = None


def now() -> int:
    """Return the present moment in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def log(level: str, text: str) -> Message:
    """Return a line for the log."""
    return Message(type="LOG", log=Log(level=level, message=text))


def failed(failure: Failure) -> Message:
    """Return the message that a connector failed."""
    trace = Trace(type="ERROR", emitted_at=float(now()), error=failure)
    return Message(type="TRACE", trace=trace)


def stream_is(
    status: Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"], stream: Descriptor
) -> Message:
    """Return the message how a stream fares."""
    told = StreamStatus(stream_descriptor=stream, status=status)
    trace = Trace(type="STREAM_STATUS", emitted_at=float(now()), stream_status=told)
    return Message(type="TRACE", trace=trace)
