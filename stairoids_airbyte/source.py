"""Checks, discovers and reads: the work of `source-stairoids-webhooks`.

Streams, records and the checks of bookmarks are those of the taps. Each function raises
`ConnectorError` if the sync cannot begin, or is incomplete.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from operator import index
from types import FrameType

from stairoids_airbyte.exceptions import (
    UnfinishedError,
    WrongConfigError,
    converted_errors,
)
from stairoids_airbyte.output import write
from stairoids_airbyte.protocol import (
    ConfiguredCatalog,
    Descriptor,
    Json,
    Message,
    now,
    status_message,
)
from stairoids_airbyte.source_settings import checked_config
from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreForbiddenError,
    StoreMissingError,
    StoreResetError,
    StoreUnavailableError,
    StoreVersionError,
    UnverifiedEventError,
    WebhooksError,
)
from tap_stairoids_webhooks.reading.bookmarks import Reading
from tap_stairoids_webhooks.reading.records import SEQUENCE, Records
from target_stairoids.exceptions import LostLedgerError, StairoidsError
from target_stairoids.sync_log.reading import LogStream, SyncLog

_RECORDS = 1_000  # between two states; a stopped sync repeats at most so many
_converted_errors = partial(
    converted_errors,
    wrong=(
        ConfigError,
        StoreForbiddenError,
        StoreMissingError,
        StoreResetError,
        StoreVersionError,
        UnverifiedEventError,
        StairoidsError,
    ),
    unfinished=(StoreUnavailableError, LostLedgerError),
)


def check(config: Mapping[str, Json]) -> str:
    """Return a sentence about the store, if a sync could begin."""
    with _converted_errors():
        config = checked_config(config)
        reading = Reading(config)
        with closing(reading.snapshot) as snapshot:
            found = f"The store can be read. Its last event is number {snapshot.upper}."
        reading.check_consumer()
        for log in _logs_of(config):
            found += f" The ledger {log.ledger.name} can be read."
        return found


def discover(config: Mapping[str, Json]) -> Message:
    """Return the catalog with all streams."""
    with _converted_errors():
        config = checked_config(config)
        streams = [
            _described(records, [SEQUENCE], is_incremental=True)
            for records in Reading(config).streams.values()
        ]
        for log in _logs_of(config):
            streams += [
                _described(stream, stream.key, is_incremental=stream.is_incremental)
                for stream in log.streams.values()
            ]
        return {"type": "CATALOG", "catalog": {"streams": streams}}


def read(
    config: Mapping[str, Json], catalog: ConfiguredCatalog, state: Json = None
) -> None:
    """Write the events after the given states, up to now, with new states.

    Airbyte gives a state for a full refresh only to resume it.
    """
    with _converted_errors():
        config = checked_config(config)
        bookmarks = _bookmarks_in(state)
        _Sync(Reading(config), _logs_of(config), catalog, bookmarks).run()


def _logs_of(config: Mapping[str, Json]) -> list[SyncLog]:
    """Return the sync log, if the config names a ledger."""
    return [SyncLog(config["ledger_url"])] if "ledger_url" in config else []


def _described(
    stream: Records | LogStream, key: Sequence[str], *, is_incremental: bool
) -> Json:
    """Return a stream as `AirbyteStream` has it."""
    modes = ["full_refresh", "incremental"] if is_incremental else ["full_refresh"]
    cursor = {"default_cursor_field": [SEQUENCE]} if is_incremental else {}
    return {
        "name": stream.name,
        "json_schema": stream.schema,
        "supported_sync_modes": modes,
        "source_defined_cursor": is_incremental,
        **cursor,
        "source_defined_primary_key": [[column] for column in key],
        "is_resumable": is_incremental,
    }


def _bookmarks_in(state: Json) -> dict[str, dict[str, Json]]:
    """Return the state of each stream that has one."""
    if not state:
        return {}
    states = [state] if isinstance(state, dict) else state
    try:
        inner = [s["stream"] for s in states]
        return {
            s["stream_descriptor"]["name"]: _marks_in(s.get("stream_state"))
            for s in inner
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = "The state is not a list of states of streams, which this source writes."
        raise WrongConfigError(msg) from error


def _marks_in(state: Json) -> dict[str, Json]:
    """Return the state of one stream. `TypeError` or `KeyError` if it has no number."""
    if state is None or state == {}:
        return {}
    index(state[SEQUENCE])
    return dict(state)


class _Sync:
    """One run of `read`."""

    def __init__(
        self,
        reading: Reading,
        logs: Sequence[SyncLog],
        catalog: ConfiguredCatalog,
        states: Mapping[str, dict[str, Json]],
    ) -> None:
        self._reading = reading
        self._sources: list[Reading | SyncLog] = [reading, *logs]
        by_name = {n: each for s in self._sources for n, each in s.streams.items()}
        self._source_of = {name: s for s in self._sources for name in s.streams}
        names = [configured.stream.name for configured in catalog.streams]
        if unknown := [name for name in names if name not in by_name]:
            msg = f"The catalog names streams that do not exist: {', '.join(unknown)}."
            raise WrongConfigError(msg)
        if twice := [name for name, number in Counter(names).items() if number > 1]:
            msg = f"The catalog has a stream twice: {', '.join(twice)}."
            raise WrongConfigError(msg)
        self._streams = [by_name[name] for name in names]
        self._earlier = dict(states)
        self._starts = {name: self._start_of(name) for name in names}
        self._stopped_by: int | None = None

    def _start_of(self, name: str) -> int:
        if not (state := self._earlier.get(name)):
            return 0
        sequence: int = state[SEQUENCE]
        if self._source_of[name].resumes(name, sequence, state):
            return sequence
        del self._earlier[name]
        return 0

    def run(self) -> None:
        """Write one stream after the other."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._reading.acknowledge(self._starts)
        for records in self._streams:
            self._write(records)
            if self._stopped_by is not None:
                name = signal.Signals(self._stopped_by).name
                msg = f"Stopped by {name}. The next sync resumes."
                raise UnfinishedError(msg, exit_code=128 + self._stopped_by)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Stop after the current record. Called in a signal handler."""
        self._stopped_by = number
        for source in self._sources:
            source.stop()

    def _write(self, records: Records | LogStream) -> None:
        stream = Descriptor(records.name)
        sequence, count = self._starts[records.name], 0
        error: WebhooksError | StairoidsError | None = None
        write(status_message("STARTED", stream))
        try:
            for record in records.after(sequence):
                if count == 0:
                    write(status_message("RUNNING", stream))
                data = {"stream": records.name, "data": record, "emitted_at": now()}
                write({"type": "RECORD", "record": data}, flush=False)
                sequence = record.get(SEQUENCE, 0)
                count += 1
                if count % _RECORDS == 0:  # before the next record changes the marks
                    self._write_state(records.name, sequence, _RECORDS)
        except (WebhooksError, StairoidsError) as failure:
            error = failure
        if (rest := count % _RECORDS) or (not count and error is None):
            self._write_state(records.name, sequence, rest)
        is_cut = error is not None or self._stopped_by is not None
        write(status_message("INCOMPLETE" if is_cut else "COMPLETE", stream))
        if error is not None:
            raise error

    def _write_state(self, name: str, sequence: int, count: int) -> None:
        earlier = self._earlier.get(name, {})
        marks = self._source_of[name].marks_of(name)
        stream = {
            "stream_descriptor": Descriptor(name),
            "stream_state": {**earlier, SEQUENCE: sequence, **marks},
        }
        # Airbyte requires a float.
        counts = {"recordCount": float(count)}
        state = {"type": "STREAM", "stream": stream, "sourceStats": counts}
        write({"type": "STATE", "state": state})
