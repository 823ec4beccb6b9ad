"""Sinks: the SDK's view of a stream, which passes its records to the run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from singer_sdk import Sink
from singer_sdk.exceptions import MapExpressionError, MissingKeyPropertiesError
from singer_sdk.mapper import SameRecordTransform
from typing_extensions import override

from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.schema import StreamSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec
    from singer_sdk.mapper import StreamMap
    from singer_sdk.sinks.core import BaseJSONSchemaValidator

    from target_stairoids.dedup.record import Record
    from target_stairoids.sending.record_processor import RecordProcessor
    from target_stairoids.sending.streams import Stream
    from target_stairoids.target import TargetStairoids


_COUNTED_AT_ONCE = 1000  # records


class SignalSink(Sink):
    """One stream.

    Records are not validated by the tap's schema, because real taps violate theirs. The
    signal is validated instead.
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
        stream_schema = StreamSchema(
            name=stream_name,
            properties=self.original_schema["properties"],
            key_properties=tuple(key_properties or ()),
            bookmark=target.bookmark_of_schema(),
            allows_more=bool(self.original_schema.get("additionalProperties")),
            source=target.source_of_schema(),
        )
        self._stream_schema = stream_schema
        self._stream: Stream = self._open(stream_schema)
        self._keys = frozenset(stream_schema.key_properties)
        self._uncounted = 0

    def _open(self, stream_schema: StreamSchema) -> Stream:
        return self._records.stream(
            stream_schema, stream_schema.as_message(self.original_schema)
        )

    def follow(
        self, stream_map: StreamMap, bookmark: str | None, source: str | None
    ) -> None:
        """Use the stream map, bookmark and source of a SCHEMA message."""
        self._stream_map = stream_map
        self._takes_as_sent = passes_unchanged(stream_map)
        stream_schema = self._stream.schema
        if (bookmark, source) != (stream_schema.bookmark, stream_schema.source):
            self._stream = self._open(
                replace(stream_schema, bookmark=bookmark, source=source)
            )

    @override
    def get_validator(self) -> BaseJSONSchemaValidator | None:
        return None

    @property
    @override
    def current_size(self) -> int:
        return 0  # no record waits here, so the SDK has nothing to drain

    def take(self, sent: dict[str, Any] | msgspec.Raw) -> None:
        """Take one record from the tap, before stream maps.

        Args:
            sent: Its columns, or their JSON text.

        Raises:
            MessageError: It is no object.
            MissingKeyPropertiesError: It lacks a key property.
            ConfigError: A stream map cannot be applied to it.
        """
        record = self._stream.reader.read(sent)
        if self._takes_as_sent:
            self._hand_in(record)
            return
        try:
            transformed = self._stream_map.transform(dict(record.fields))
        except MapExpressionError as error:
            msg = (
                f"Stream `{self.stream_name}`: an expression of its `stream_maps` "
                f"fails for a record ({type(error.__cause__).__name__}); guard it, as "
                "in `email.lower() if email else None`."
            )
            raise ConfigError(msg) from None
        if transformed is None:
            self._records.filtered(
                self._stream, record.fields, "filtered by `stream_maps`"
            )
            return
        self.process_record(transformed, {})

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        self._hand_in(self._stream.reader.read(record))

    def _hand_in(self, record: Record) -> None:
        key = record.key
        if not self._keys <= key.keys() and (lack := self._stream_schema.lack_of(key)):
            raise MissingKeyPropertiesError(lack)
        self._records.take(self._stream, record)
        self._uncounted += 1
        if self._uncounted == _COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        """Update the SDK's metric, which reads the clock each time."""
        self.record_counter_metric.increment(self._uncounted)
        self._uncounted = 0

    @override
    def clean_up(self) -> None:
        self._count()
        super().clean_up()

    @override
    def process_batch(self, context: dict[str, Any]) -> None:
        for record in context.get("records", ()):
            self.take(record)

    @override
    def activate_version(self, new_version: int) -> None:
        """Do nothing, because sent signals cannot be taken back."""


def passes_unchanged(stream_map: StreamMap) -> bool:
    """Return whether a stream map returns every record as it is."""
    is_plain = type(stream_map) is SameRecordTransform
    return is_plain and not stream_map.flattening_enabled
