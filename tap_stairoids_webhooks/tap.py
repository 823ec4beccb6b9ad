"""The tap: settings, streams, and the checks before a run."""

from __future__ import annotations

import difflib
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError
from typing_extensions import override

from tap_stairoids_webhooks.exceptions import (
    ConfigError,
    StoreResetError,
    WebhooksError,
)
from tap_stairoids_webhooks.messages import MessageWriter
from tap_stairoids_webhooks.settings import DEFAULT_STORE_URL, checked_secrets
from tap_stairoids_webhooks.snapshot import Snapshot
from tap_stairoids_webhooks.streams import (
    Choice,
    EventsStream,
    WebhookStream,
    all_streams,
)
from tap_stairoids_webhooks.timestamps import stamp_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    import click
    from singer_sdk import Stream


_EXAMPLES = """\b
Examples:
  tap-stairoids-webhooks --config tap.json | target-jsonl
  tap-stairoids-webhooks --config tap.json --discover > catalog.json
  tap-stairoids-webhooks --config tap.json --catalog catalog.json --state state.json
  TAP_STAIROIDS_WEBHOOKS_STORE_URL=... tap-stairoids-webhooks --config ENV
  tap-stairoids-webhooks --about --format=markdown

\b
Exit codes: 0 all emitted; 1 config, state or store at fault; 128 + n stopped by
signal n. The store is filled by `stairoids-webhooks serve`.
"""


class TapStairoidsWebhooks(Tap):
    """Singer tap for the webhooks of Stairoids, read from the receiver's store."""

    name = "tap-stairoids-webhooks"
    package_name = "singer-stairoids"
    message_writer_class = MessageWriter

    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property(
            "store_url",
            th.StringType(nullable=False),
            default=DEFAULT_STORE_URL,
            title="Store URL",
            description="The store that `stairoids-webhooks serve` fills.",
        ),
        th.Property(
            "secrets",
            th.ArrayType(th.StringType),
            secret=True,
            title="Webhook secrets",
            description=(
                "If given, signatures are checked again on reading, and events that"
                " none of these secrets signed are counted, logged and not emitted."
            ),
        ),
        th.Property(
            "on_store_reset",
            th.StringType(nullable=False, allowed_values=["fail", "resync"]),
            default="fail",
            title="On store reset",
            description=(
                "What to do if the state belongs to another store, or to a later"
                " point than the store has reached: `fail`, or `resync` (read"
                " everything anew)."
            ),
        ),
        th.Property(
            "event_types",
            th.ArrayType(th.StringType(nullable=False)),
            title="Event types",
            description=(
                "Only events of these types, in every stream; bodies without a type"
                " stay in `malformed_events`. Default: all."
            ),
        ),
        th.Property(
            "since",
            th.StringType,
            title="Since",
            description=(
                "Only events received at this time or later, such as `2026-01-31` or"
                " `2026-01-31T12:00:00Z`; without an offset it is UTC."
            ),
        ),
        th.Property(
            "consumer",
            th.StringType,
            title="Consumer",
            description=(
                "A name for whoever gets these events. A run then tells the store what"
                " its incoming state proves to have arrived, and `stairoids-webhooks"
                " prune` keeps the rest. Without it a run acknowledges nothing."
            ),
        ),
        additional_properties=False,
    ).to_dict()

    stopped_by: ClassVar[int | None] = None

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.help = "Emit the webhooks that Stairoids sent, as Singer streams."
        command.epilog = _EXAMPLES
        return command

    @override
    def discover_streams(self) -> Sequence[Stream]:
        return all_streams(self, self._snapshot, self._choice)

    @property
    def _choice(self) -> Choice:
        events, since = self.config.get("event_types"), self.config.get("since")
        return Choice(
            events=None if events is None else frozenset(events),
            since=stamp_from(since) if since else None,
        )

    @property
    def _snapshot(self) -> Snapshot:
        """The one snapshot of this run."""
        if "_shared_snapshot" not in self.__dict__:
            self._shared_snapshot = Snapshot(
                self.config["store_url"], secrets=self.config.get("secrets") or ()
            )
        return self._shared_snapshot

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        """Take a state over once it is known to belong to this store."""
        super().load_state(state)
        for name, bookmark in self.state.get("bookmarks", {}).items():
            if name not in self.streams or "replication_key_value" not in bookmark:
                continue
            value = bookmark["replication_key_value"]
            if not isinstance(value, int):
                msg = f"state: the bookmark of {name} is not a whole number"
                raise ConfigError(msg)
            try:
                self._snapshot.check_bookmark(
                    value, store_id=bookmark.get("store_id"), name=name
                )
            except StoreResetError as error:
                if self.config["on_store_reset"] == "fail":
                    raise
                self.logger.warning("Reading %s anew: %s", name, error)
                bookmark.clear()
            else:
                self._warn_of_pruning(name, value)

    def _warn_of_pruning(self, name: str, value: int) -> None:
        """Tell what nobody can read any more; only `events` holds every sequence."""
        if name != EventsStream.name or self._choice != Choice():
            return
        if through := self._snapshot.pruned_after(value):
            self.logger.warning(
                "Events after %d and up to %d were pruned before this state had them;"
                " the setting consumer prevents that",
                value,
                through,
            )

    @override
    def _set_compatible_replication_methods(self) -> None:
        """Acknowledge at the start of a run; the SDK calls this in no test run."""
        super()._set_compatible_replication_methods()
        if consumer := self.config.get("consumer"):
            self._acknowledge(consumer)

    def _acknowledge(self, consumer: str) -> None:
        """Tell the store what the state proves to have arrived."""
        bookmarks = self.state.get("bookmarks", {})
        upto: dict[str, int] = {}
        for stream in self.streams.values():
            if not isinstance(stream, WebhookStream) or not stream.selected:
                continue
            bookmark = bookmarks.get(stream.name, {}).get("replication_key_value", 0)
            for kind in stream.wants:
                upto[kind] = min(bookmark, upto.get(kind, bookmark))
        if upto:
            self._snapshot.acknowledge(consumer, upto)
            self.logger.info("Acknowledged as %s: %s", consumer, upto)

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Find mistakes without repeating a value, because it may be a secret."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        errors = _problems_in(self._config, known=list(schema["properties"]))
        if not errors:
            return super()._validate_config(raise_errors=raise_errors)
        if raise_errors:
            msg = "Config validation failed"
            raise ConfigValidationError(msg, errors=errors, schema=schema)
        return errors

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """End after the current record, with a STATE message that is true.

        The SDK writes its STATE from within the signal handler, which may have
        interrupted the writing of another message. A second signal does not wait.
        """
        if self._snapshot.stopped:
            sys.exit(128 + signum)
        type(self).stopped_by = signum
        self._snapshot.stopped = True

    @classmethod
    @override
    def invoke(cls, **kwargs: Any) -> None:
        with cls._clear_errors():
            super().invoke(**kwargs)
        if cls.stopped_by is not None:
            cls.logger.info("Stopped by %s", signal.Signals(cls.stopped_by).name)
            sys.exit(128 + cls.stopped_by)

    @classmethod
    @override
    def cb_discover(cls, ctx: click.Context, param: click.Option, value: bool) -> None:
        with cls._clear_errors():
            super().cb_discover(ctx, param, value)

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        with cls._clear_errors():
            super().cb_test(ctx, param, value)

    @classmethod
    @contextmanager
    def _clear_errors(cls) -> Iterator[None]:
        """Turn what the user can mend into one line each and exit code 1."""
        try:
            yield
        except ConfigValidationError as error:
            for problem in error.errors:
                cls.logger.error("%s", problem)  # noqa: TRY400 -- a traceback helps nobody here
            sys.exit(1)
        except WebhooksError as error:
            cls.logger.error("%s", error)  # noqa: TRY400 -- same
            sys.exit(1)


def _problems_in(config: dict[str, Any], *, known: list[str]) -> list[str]:
    problems = []
    for name in sorted(set(config) - set(known)):
        similar = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        problems.append(f"unknown setting {name!r}{hint}")
    if not isinstance(config.get("store_url", ""), str):
        problems.append("store_url must be a string")
    if since := config.get("since"):
        try:
            stamp_from(since)
        except (TypeError, ValueError) as error:
            problems.append(f"since: {error}")
    events = config.get("event_types")
    if events is not None and events == []:
        problems.append("event_types must name at least one type; leave it out for all")
    if "consumer" in config and not (
        isinstance(config["consumer"], str) and config["consumer"]
    ):
        problems.append("consumer must be a name")
    if config.get("secrets") is not None:
        try:
            checked_secrets(config["secrets"], name="secrets")
        except ConfigError as error:
            problems.append(str(error))
    return problems
