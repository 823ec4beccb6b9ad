"""Streams of the Singer tap, over the records that `reading` makes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import Tap
from singer_sdk.helpers._util import utc_now
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.helpers.types import Context
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib import RecordMessage
from typing_extensions import override

from stairoids_common.plugin import StairoidsStream
from tap_stairoids_webhooks.exceptions import UnverifiedEventError
from tap_stairoids_webhooks.reading.records import SEQUENCE, Records

if TYPE_CHECKING:
    from tap_stairoids_webhooks.messages import MessageWriter


class WebhookStream(StairoidsStream):
    """A stream that is incremental on `sequence`."""

    primary_keys: ClassVar[tuple[str, ...]] = (SEQUENCE,)
    replication_key = SEQUENCE
    is_sorted = True
    # The records fit their schemas already; see reading/payload_schemas.py.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: Tap, records: Records) -> None:
        super().__init__(tap, name=records.name, schema=records.schema)
        self._records = records

    @override
    def get_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        """Yield the records after the bookmark. An error comes after a STATE."""
        start = self.get_starting_replication_key_value(context) or 0
        through = self.stream_state.get("read_through")
        if isinstance(through, int):  # also of a stream that has had no record
            self._records.read_through = through
        try:
            yield from self._records.after(start, as_is=self.emits_as_is)
        except UnverifiedEventError:
            self._write_state_message()
            raise

    @override
    def _write_state_message(self) -> None:
        super()._write_state_message()
        # The SDK writes no state twice, and its end would leave records in the buffer.
        cast("MessageWriter", self._tap.message_writer).flush()

    @cached_property
    def emits_as_is(self) -> bool:
        """True if neither the catalog nor stream maps change the records."""
        if self.config.get("flattening_enabled") or not all(self.mask.values()):
            return False
        return all(
            type(stream_map) is SameRecordTransform for stream_map in self.stream_maps
        )

    @override
    def _generate_record_messages(
        self, record: dict[str, Any]
    ) -> Generator[RecordMessage, None, None]:
        """Skip the SDK's walk through all fields for records that do not change."""
        if not self.emits_as_is:
            yield from super()._generate_record_messages(record)
            return
        yield RecordMessage(
            stream=self.name,
            record=record,
            version=self._stream_version,
            time_extracted=utc_now(),
        )
