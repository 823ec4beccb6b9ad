"""Sinks: the SDK's view of a stream, which passes its records to the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from singer_sdk import Sink
from singer_sdk.mapper import SameRecordTransform, StreamMap
from typing_extensions import override

from stairoids_common.singer import failed_expression, misfit
from target_stairoids.exceptions import ConfigError, MessageError
from target_stairoids.mapping.schema import SOURCE_FIELD, StreamSchema, schema_from

if TYPE_CHECKING:
    from singer_sdk.sinks.core import BaseJSONSchemaValidator

    from target_stairoids.sending.record_processor import RecordProcessor
    from target_stairoids.sending.streams import Stream
    from target_stairoids.target import TargetStairoids


class SignalSink(Sink):
    """One stream.

    Records are not validated by the tap's schema, because real taps violate theirs. The
    signal is validated instead. The mappings of a changed SCHEMA are compiled when its
    first record comes. So a tap that adds a column with each SCHEMA costs little.
    """

    def __init__(
        self,
        target: TargetStairoids,
        stream_name: str,
        schema: dict[str, Any],
        key_properties: Sequence[str] | None,
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        self._records: RecordProcessor = target.run.records
        self._key = tuple(key_properties or ())
        self._schema: StreamSchema | None = None
        self._changed: dict[str, Any] | None = None  # a SCHEMA that is not compiled
        self._stream: Stream
        self._stream_map: StreamMap

    def follow(
        self, stream_map: StreamMap, bookmark: str | None, source: str | None
    ) -> None:
        """Use the stream map, bookmark and source of a SCHEMA message."""
        message = {
            "type": "SCHEMA",
            "stream": self.stream_name,
            "schema": self.original_schema,
            "key_properties": self._key,
            **({"bookmark_properties": [bookmark]} if bookmark else {}),
            SOURCE_FIELD: source,
        }
        self._stream_map = stream_map
        schema = schema_from(message)
        if schema != self._schema:
            self._schema, self._changed = schema, message
        if self._records.streams.opened(schema.name) is None:
            self._compile()  # finds a mistake in the config before any record

    def _compile(self) -> None:
        if self._changed is not None and self._schema is not None:
            self._stream = self._records.stream(self._schema, self._changed)
            self._changed = None

    @property
    def take(self) -> Callable[[Iterable[dict[str, Any] | msgspec.Raw]], None]:
        """The function that passes on records, as columns or JSON texts."""
        self._compile()
        if passes_unchanged(self._stream_map):
            return partial(self._records.take, self._stream)
        return partial(self._take_mapped, self._stream_map)

    @override
    def get_validator(self) -> BaseJSONSchemaValidator | None:
        return None

    def _take_mapped(
        self, stream_map: StreamMap, records: Iterable[dict[str, Any] | msgspec.Raw]
    ) -> None:
        """Pass on records as their stream map returns them."""
        for record in records:
            fields = self._stream.reader.read(record).fields
            try:
                transformed = stream_map.transform(dict(fields))
            except Exception as error:  # both fail for odd records in many ways
                if odd := misfit(self.stream_name, error):
                    raise MessageError(odd) from error
                msg = failed_expression(self.stream_name, error)
                raise ConfigError(msg) from None
            if transformed is None:
                self._records.outcomes.filtered(
                    self._stream, fields, "filtered by `stream_maps`"
                )
            else:
                self._records.take(self._stream, (_as_json(transformed),))

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        self._records.take(self._stream, (record,))

    @override
    def clean_up(self) -> None:
        if self._changed is None:
            counts = self._stream.counts  # those of all sinks of the stream
            self.record_counter_metric.increment(counts.taken - counts.in_metric)
            counts.in_metric = counts.taken
        super().clean_up()

    @override
    def process_batch(self, context: dict[str, Any]) -> None:
        """Do nothing, because `TargetStairoids` reads BATCH files."""


def _as_json(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the columns with JSON values. A stream map also makes dates and ids."""
    found: dict[str, Any] = msgspec.to_builtins(
        fields, builtin_types=(Decimal,), str_keys=True, enc_hook=str
    )
    return found


def passes_unchanged(stream_map: StreamMap) -> bool:
    """Return whether a stream map returns every record as it is."""
    is_plain = type(stream_map) is SameRecordTransform
    return is_plain and not stream_map.flattening_enabled
