"""`tap-stairoids-signals`: the Singer tap of the sync log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta
from singer_sdk import Stream
from singer_sdk.helpers.types import Context
from typing_extensions import override

from stairoids_common.plugin import EXIT_CODES, StairoidsStream, StairoidsTap, run
from stairoids_common.settings import SECRET, config_schema_of, settings_from
from target_stairoids.exceptions import StairoidsError
from target_stairoids.settings import LEDGER_URL
from target_stairoids.sync_log.reading import SEQUENCE, LogStream, SyncLog

_EXAMPLES = f"""\b
Examples:
  tap-stairoids-signals --config tap.json | target-jsonl
  tap-stairoids-signals --config tap.json --discover > catalog.json
  tap-stairoids-signals --config tap.json --catalog catalog.json --state state.json
  TAP_STAIROIDS_SIGNALS_LEDGER_URL=... tap-stairoids-signals --config ENV
  tap-stairoids-signals --about --format=markdown

{EXIT_CODES}
`target-stairoids` fills the ledger.
"""


class TapSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the tap.

    Attributes:
        ledger_url: The ledger that `target-stairoids` fills.
    """

    ledger_url: Annotated[str, Meta(title="Ledger URL", extra_json_schema=SECRET)] = (
        LEDGER_URL
    )


class SyncLogStream(StairoidsStream):
    """One stream of the sync log."""

    is_sorted = True

    def __init__(self, tap: TapStairoidsSignals, log: LogStream) -> None:
        super().__init__(tap, name=log.name, schema=log.schema)
        self.primary_keys = log.key
        self.replication_key = SEQUENCE if log.is_incremental else None
        self._log = log

    @override
    def get_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        bookmark = self.get_starting_replication_key_value(context)
        return self._log.after(bookmark or 0)


class TapStairoidsSignals(StairoidsTap):
    """Singer tap for the signals that the target sent, which reads its ledger."""

    name = "tap-stairoids-signals"
    summary = "Emit sent signals, runs and dead letters, as Singer streams."
    examples = _EXAMPLES
    for_word = "A command is `stairoids-signals {0}`."
    expected_errors = (StairoidsError,)

    config_jsonschema: ClassVar[dict[str, Any]] = config_schema_of(TapSettings)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        streams = self.source.streams.values()
        return [SyncLogStream(self, stream) for stream in streams]

    @cached_property
    @override
    def source(self) -> SyncLog:
        log = SyncLog(settings_from(TapSettings, self.config).ledger_url)
        self._at_exit.callback(log.close)
        return log

    @override
    def _set_compatible_replication_methods(self) -> None:
        """Open the ledger before any SCHEMA, at which targets may empty a table."""
        super()._set_compatible_replication_methods()
        _ = self.source.ledger


def main() -> None:
    """Run the tap."""
    run(TapStairoidsSignals)
