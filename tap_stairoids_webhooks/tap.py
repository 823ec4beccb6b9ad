"""The Singer tap: its streams and checks before a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from singer_sdk import Stream
from typing_extensions import override

from stairoids_common.plugin import EXIT_CODES, StairoidsTap, run
from stairoids_common.settings import config_schema_of
from tap_stairoids_webhooks.config import TapConfig, problems_in
from tap_stairoids_webhooks.exceptions import WebhooksError
from tap_stairoids_webhooks.messages import MessageWriter
from tap_stairoids_webhooks.reading.bookmarks import Reading
from tap_stairoids_webhooks.streams import WebhookStream

_EXAMPLES = f"""\b
Examples:
  tap-stairoids-webhooks --config tap.json | target-jsonl
  tap-stairoids-webhooks --config tap.json --discover > catalog.json
  tap-stairoids-webhooks --config tap.json --catalog catalog.json --state state.json
  TAP_STAIROIDS_WEBHOOKS_STORE_URL=... tap-stairoids-webhooks --config ENV
  tap-stairoids-webhooks --about --format=markdown

{EXIT_CODES}
The receiver, `stairoids-webhooks serve`, fills the store.
"""


class TapStairoidsWebhooks(StairoidsTap):
    """Singer tap for Stairoids webhooks, which reads the store of the receiver."""

    name = "tap-stairoids-webhooks"
    summary = "Emit the webhooks that Stairoids sent, as Singer streams."
    examples = _EXAMPLES
    for_word = "A command is `stairoids-webhooks {0}`."
    expected_errors = (WebhooksError,)
    message_writer_class = MessageWriter

    config_jsonschema: ClassVar[dict[str, Any]] = config_schema_of(TapConfig)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        streams = self.source.streams.values()
        return [WebhookStream(self, records) for records in streams]

    @cached_property
    @override
    def source(self) -> Reading:
        reading = Reading(self.config)
        self._at_exit.callback(reading.snapshot.close)
        return reading

    @override
    def _set_compatible_replication_methods(self) -> None:
        """Acknowledge at the start of a run; the SDK does not call this for --test."""
        super()._set_compatible_replication_methods()
        bookmarks = self.state.get("bookmarks", {})
        self.source.acknowledge(
            {
                name: bookmarks.get(name, {}).get("replication_key_value", 0)
                for name, stream in self.streams.items()
                if stream.selected
            }
        )

    @classmethod
    @override
    def problems_in(cls, config: dict[str, Any], schema: dict[str, Any]) -> list[str]:
        return problems_in(config, schema)


def main() -> None:
    """Run the tap."""
    run(TapStairoidsWebhooks)
