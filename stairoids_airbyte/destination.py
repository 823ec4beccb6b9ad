"""Checks and writes: the work of `destination-stairoids`.

Records have the same mapping, ledger, rate limit and outcomes as those of a Singer tap.
Each function raises `ConnectorError` if the sync cannot begin, or is incomplete.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import IO, Any

import msgspec
from msgspec.structs import replace

from stairoids_airbyte.catalog import items_for, messages_of
from stairoids_airbyte.destination_settings import settings_from
from stairoids_airbyte.exceptions import converted_errors
from stairoids_airbyte.output import write, write_line
from stairoids_airbyte.protocol import (
    ConfiguredCatalog,
    Descriptor,
    Json,
    SentRecord,
    Status,
    status_message,
)
from target_stairoids.api.access_check import check_key
from target_stairoids.dedup.record import json_text
from target_stairoids.exceptions import (
    AccessRefusedError,
    ConfigError,
    IncompleteError,
    InterruptedRunError,
    LostLedgerError,
    MessageError,
)
from target_stairoids.input import read_messages
from target_stairoids.ledger.maintenance import writable_ledger
from target_stairoids.mapping.config import check_items
from target_stairoids.mapping.schema import schema_from
from target_stairoids.reporting.progress import LogProgress
from target_stairoids.sending.observer import Observer
from target_stairoids.sending.run import Run
from target_stairoids.sending.streams import Stream
from target_stairoids.settings import Settings

_converted_errors = partial(
    converted_errors,
    wrong=(ConfigError, AccessRefusedError),
    unfinished=(IncompleteError, InterruptedRunError, LostLedgerError),
)
_Key = tuple[str, str]  # namespace and name of a stream
_decoder = msgspec.json.Decoder(SentRecord)


def check(config: Mapping[str, Json]) -> str:
    """Return a sentence about the ledger and one about the key. No signal is sent."""
    with _converted_errors():
        settings = settings_from(config)
        check_items(settings.signals)
        ledger = writable_ledger(settings.ledger_url, settings.scope)
        return f"The ledger {ledger} can be written. {check_key(settings)}"


def write_records(
    config: Mapping[str, Json], catalog: ConfiguredCatalog, source: IO[Any]
) -> None:
    """Send the records of a source. A state returns after the outcomes before it."""
    with _converted_errors():
        settings, messages = settings_from(config), messages_of(catalog)
        items = items_for(settings.signals, messages)
        _Sync(replace(settings, signals=items), messages).run(source)


class _Sync:
    """One run of `write`."""

    def __init__(
        self, settings: Settings, messages: Mapping[Descriptor, dict[str, Json]]
    ) -> None:
        self._run = Run(
            settings,
            write_state=lambda line: write_line(line.encode()),
            emits_each_state=True,
            # No samples of a dry run, because the platform keeps its logs.
            observer=Observer() if settings.dry_run else None,
            progress=LogProgress(),
        )
        self._messages = messages
        self._streams: dict[_Key, Stream] = {}
        self._counts: Counter[_Key] = Counter()  # since a state
        self._source_status: dict[_Key, Json] = {}  # the last of each
        self._has_failed = False

    def run(self, source: IO[Any]) -> None:
        """Read to the end of the input, and wait for all outcomes."""
        takers = {
            "RECORD": self._record,
            "STATE": self._state,
            "TRACE": self._trace,
        }
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _frame: self._run.interrupt(n))
        try:
            counts = read_messages(
                source,
                self._run,
                takers,
                otherwise=lambda _message: None,
                begin=self._begin,
            )
            self._has_failed |= not counts
            self._run.finish(cut=self._cut_streams())
        except Exception:
            self._write_statuses("INCOMPLETE")
            raise
        self._write_statuses("COMPLETE")

    def _begin(self) -> None:
        """Compile each stream's mapping, so that errors come before any record."""
        for descriptor, message in self._messages.items():
            stream = self._run.records.stream(schema_from(message), message)
            self._streams[_key_of(descriptor.name, descriptor.namespace)] = stream
        self._write_statuses("STARTED")

    def _record(self, message: dict[str, Json]) -> None:
        records = message.get("record")
        for one in records if isinstance(records, Iterator) else (records,):
            self._take(_object_in(one))

    def _take(self, record: Mapping[str, Json]) -> None:
        name, data = record.get("stream"), record.get("data")
        if not isinstance(name, str) or not isinstance(data, (dict, msgspec.Raw)):
            raise MessageError("A RECORD message lacks its `stream` or its `data`.")
        key = _key_of(name, record.get("namespace"))
        if key not in self._streams:
            msg = f"A RECORD message has the stream `{name}`, not in the catalog."
            raise MessageError(msg)
        self._run.records.take(self._streams[key], (data,))
        self._counts[key] += 1

    def _state(self, message: dict[str, Json]) -> None:
        try:
            line = self._with_count(message)
        except (AttributeError, KeyError, TypeError) as error:
            msg = "A STATE message lacks its state, or the name of its stream."
            raise MessageError(msg) from error
        self._run.records.state(line)

    def _trace(self, message: dict[str, Json]) -> None:
        """Note how far the source has read a stream, or that it has failed."""
        trace = _part(message, "trace")
        if status := _part(trace, "stream_status"):
            descriptor = _part(status, "stream_descriptor")
            key = _key_of(descriptor.get("name"), descriptor.get("namespace"))
            self._source_status[key] = status.get("status")
        self._has_failed |= trace.get("type") == "ERROR"

    def _cut_streams(self) -> list[str]:
        """Return the streams that the source did not read to their end.

        A source that tells nothing about any stream, as old ones do, has read them all.
        """
        if not (self._source_status or self._has_failed):
            return []
        return [
            stream.schema.name
            for key, stream in self._streams.items()
            if self._source_status.get(key) != "COMPLETE"
        ]

    def _with_count(self, message: dict[str, Json]) -> str:
        """Return a STATE as JSON with the number of records since the last one.

        The state of a stream counts the records of that stream. A global or a legacy
        state counts the records of all streams.
        """
        state = message["state"]
        if state.get("type") == "STREAM":
            stream = state["stream"]["stream_descriptor"]
            key = _key_of(stream["name"], stream.get("namespace"))
            count = self._counts.pop(key, 0)
        else:
            count = self._counts.total()
            self._counts.clear()
        stats = {**(state.get("destinationStats") or {}), "recordCount": float(count)}
        fields = {name: value for name, value in message.items() if value is not None}
        echo = {**fields, "state": {**state, "destinationStats": stats}}
        return json_text(echo).decode()

    def _write_statuses(self, status: Status) -> None:
        for descriptor in self._messages:
            write(status_message(status, descriptor))


def _key_of(name: object, namespace: object) -> _Key:
    """Return the key of a stream. An empty namespace is none."""
    return str(namespace or ""), str(name)


def _object_in(record: object) -> Mapping[str, Json]:
    """Return a record of Airbyte, given as an object or its JSON text."""
    if isinstance(record, msgspec.Raw):
        try:
            return _decoder.decode(record)
        except msgspec.DecodeError:
            return {}
    return record if isinstance(record, dict) else {}


def _part(message: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """Return an object in a message; an empty one if it is none."""
    part = message.get(name)
    return part if isinstance(part, dict) else {}
