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
Message = dict[str, Json]  # one to write, as JSON
Path = list[str]
Status = Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as its source declares it."""

    name: str
    json_schema: dict[str, Json]
    source_defined_cursor: bool | None = None
    default_cursor_field: Path | None = None
    source_defined_primary_key: list[Path] | None = None
    namespace: str | None = None


class ConfiguredStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream and the way in which it is synced."""

    stream: Stream
    sync_mode: Literal["full_refresh", "incremental"] = "full_refresh"
    destination_sync_mode: str = "append"
    cursor_field: Path | None = None
    primary_key: list[Path] | None = None


class ConfiguredCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """All streams of a sync."""

    streams: list[ConfiguredStream]


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The name of a stream."""

    name: str
    namespace: str | None = None


class SentRecord(TypedDict, total=False):
    """A record that a source sent. Its data is not parsed."""

    stream: str
    data: msgspec.Raw
    namespace: str | None


def now() -> int:
    """Return the current time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def status_message(status: Status, stream: Descriptor) -> Message:
    """Return the message for the status of a stream."""
    found = {"stream_descriptor": stream, "status": status}
    return trace_message("STREAM_STATUS", stream_status=found)


def trace_message(kind: str, **content: Json) -> Message:
    """Return a message about a status or a failure."""
    trace = {"type": kind, "emitted_at": float(now()), **content}
    return {"type": "TRACE", "trace": trace}
