"""The destination: what `destination-stairoids` does, the command line aside.

Records go the way that those of a Singer tap go: the same mapping, ledger, pace, dead
letters and outcomes. Here is only what Airbyte says otherwise.
"""

from __future__ import annotations

import logging
import signal
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from stairoids_airbyte.destination_settings import settings_from
from stairoids_airbyte.exceptions import (
    BrokenError,
    ConnectorError,
    UnfinishedError,
    WrongConfigError,
)
from stairoids_airbyte.output import write, write_line
from stairoids_airbyte.protocol import SentRecord, stream_is
from stairoids_airbyte.states import States
from stairoids_airbyte.written_streams import descriptor_of, shapes_of
from target_stairoids.api.access_check import check_key
from target_stairoids.exceptions import (
    AccessRefusedError,
    ConfigError,
    IncompleteError,
    InterruptedRunError,
    MessageError,
    StairoidsError,
)
from target_stairoids.ledger.maintenance import writable_ledger
from target_stairoids.reporting.progress import LogProgress
from target_stairoids.sending.input import read_messages
from target_stairoids.sending.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stairoids_airbyte.protocol import ConfiguredCatalog, Descriptor
    from target_stairoids.mapping.schema import StreamSchema
    from target_stairoids.sending.streams import Stream
    from target_stairoids.settings import Settings

Json = Any  # what JSON can hold; narrowed where it is read

logger = logging.getLogger(__name__)

_decoder = msgspec.json.Decoder(SentRecord)


def check(config: Mapping[str, Json]) -> str:
    """See whether a sync could begin. Nothing is sent; one signal is asked for.

    Returns:
        What was seen, in a sentence or two.

    Raises:
        ConnectorError: It could not; the message says why.
    """
    with _faults():
        settings = settings_from(config)
        ledger = writable_ledger(settings.ledger_url, settings.scope)
        return f"The ledger {ledger} can be written. {check_key(settings)}"


def write_records(
    config: Mapping[str, Json], catalog: ConfiguredCatalog, source: IO[Any]
) -> None:
    """Send what a source says, each signal once, and echo states that are settled.

    Raises:
        ConnectorError: Something is left, or nothing could begin.
    """
    with _faults():
        settings = settings_from(config)
        shapes = shapes_of(catalog)
        _Sync(settings, catalog, shapes).run(source)


class _Sync:
    """One run of `write`."""

    def __init__(
        self,
        settings: Settings,
        catalog: ConfiguredCatalog,
        shapes: Mapping[Descriptor, StreamSchema],
    ) -> None:
        self._run = Run.on_ledger(
            settings,
            write_state=lambda line: write_line(line.encode()),
            emits_each_state=True,
            progress=LogProgress(),
        )
        self._schemas = {
            descriptor_of(c): c.stream.json_schema for c in catalog.streams
        }
        self._shapes = shapes
        self._streams: dict[tuple[str | None, str], tuple[Descriptor, Stream]] = {}
        self._states = States()

    def run(self, source: IO[Any]) -> None:
        """Read to the input's end and settle it."""
        takers = {"RECORD": self._record, "STATE": self._state}
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _frame: self._run.interrupt(n))
        try:
            read_messages(
                source, self._run, takers, otherwise=_ignore, begin=self._begin
            )
            self._run.finish()
        except Exception:
            self._tell("INCOMPLETE")
            raise
        self._tell("COMPLETE")

    def _begin(self) -> None:
        """Find each stream's mapping, so that a mistake is told before any record."""
        for descriptor, shape in self._shapes.items():
            schema = {"properties": {}, **self._schemas[descriptor]}
            stream = self._run.records.stream(shape, shape.as_message(schema))
            key = (descriptor.namespace, descriptor.name)
            self._streams[key] = (descriptor, stream)
        self._tell("STARTED")

    def _record(self, message: dict[str, Json]) -> None:
        record = _record_of(message)
        name, data = record.get("stream"), record.get("data")
        if not isinstance(name, str) or not isinstance(data, (dict, msgspec.Raw)):
            msg = "A RECORD message lacks its `stream` or its `data`."
            raise MessageError(msg)
        found = self._streams.get((record.get("namespace"), name))
        if found is None:
            msg = (
                f"A RECORD message is of stream `{name}`, which is not in the catalog."
            )
            raise MessageError(msg)
        descriptor, stream = found
        self._run.records.take(stream, data)
        self._states.record(descriptor)

    def _state(self, message: dict[str, Json]) -> None:
        try:
            line = self._states.line(message)
        except (AttributeError, KeyError, TypeError) as error:
            msg = "A STATE message holds no state, or that of a stream without name."
            raise MessageError(msg) from error
        self._run.records.state(line)

    def _tell(self, status: Literal["STARTED", "COMPLETE", "INCOMPLETE"]) -> None:
        for descriptor in self._shapes:
            write(stream_is(status, descriptor))


def _record_of(message: dict[str, Json]) -> Mapping[str, Json]:
    record = message.get("record")
    if isinstance(record, msgspec.Raw):
        try:
            return _decoder.decode(record)
        except msgspec.DecodeError:
            return {}
    return record if isinstance(record, dict) else {}


def _ignore(message: dict[str, Json]) -> None:
    """Leave a LOG, TRACE, CONTROL or whatever comes one day to whoever needs it."""


@contextmanager
def _faults() -> Iterator[None]:
    """Transaction the target's errors into what Airbyte is told."""
    try:
        yield
    except StairoidsError as error:
        raise _fault_of(error) from error


def _fault_of(error: StairoidsError) -> ConnectorError:
    fault: type[ConnectorError] = BrokenError
    if isinstance(error, (ConfigError, AccessRefusedError)):
        fault = WrongConfigError
    elif isinstance(error, (IncompleteError, InterruptedRunError)):
        fault = UnfinishedError
    return fault(str(error), exit_code=error.exit_code)
