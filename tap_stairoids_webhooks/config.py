"""Settings of the tap, declared once: the fields of `TapConfig`.

The JSON Schema, the defaults, the table in README.md and `meltano.yml` come from them.
The Airbyte source has the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stairoids_common.config_errors import config_errors
from stairoids_common.environment import secret_error
from stairoids_common.settings import SECRET
from stairoids_common.time import parse_time, timestamp
from tap_stairoids_webhooks.environment import DEFAULT_STORE_URL
from tap_stairoids_webhooks.store.event_filter import EventFilter

Json = Any  # any JSON value; narrowed where it is read
_Name = Annotated[str, Meta(pattern=r"\S")]
_Names = Annotated[tuple[_Name, ...], Meta(min_length=1)]


class TapConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The config of one run.

    Attributes:
        store_url: The store that `stairoids-webhooks serve` fills.
        secrets: If given, signatures are verified again on reading.
        on_unverified: The reaction to an event that none of `secrets` signed: `fail`
            (stop before it), or `skip` (count it, log a warning, go on).
        on_store_reset: The reaction to a state of another store, or of a later point
            than this store has reached: `fail`, or `resync` (read everything again).
        event_types: Only events of these types. Bodies without a type stay in
            `malformed_events`, and `erasures` has erased events of every type. Default:
            all.
        since: Only events received at this time or later, such as `2026-01-31` or
            `2026-01-31T12:00:00Z`. Without an offset it is UTC. `erasures` has earlier
            events too.
        consumer: A name for the consumer of these events, which no other tap or
            connection has. With it a run stores which events have arrived, as its
            incoming state proves, and `stairoids-webhooks prune` keeps the others.
            Without it a run acknowledges nothing.
    """

    store_url: Annotated[str, Meta(title="Store URL", extra_json_schema=SECRET)] = (
        DEFAULT_STORE_URL
    )
    secrets: Annotated[
        _Names | None, Meta(title="Webhook secrets", extra_json_schema=SECRET)
    ] = None
    on_unverified: Annotated[
        Literal["fail", "skip"], Meta(title="On unverified event")
    ] = "fail"
    on_store_reset: Annotated[
        Literal["fail", "resync"], Meta(title="On store reset")
    ] = "fail"
    event_types: Annotated[_Names | None, Meta(title="Event types")] = None
    since: Annotated[str | None, Meta(title="Since")] = None
    consumer: Annotated[_Name | None, Meta(title="Consumer")] = None

    @property
    def event_filter(self) -> EventFilter:
        """The events that the settings select."""
        return EventFilter(
            types=None if self.event_types is None else frozenset(self.event_types),
            since=timestamp(parse_time(self.since)) if self.since else None,
        )


def problems_in(config: Mapping[str, Json], schema: Mapping[str, Json]) -> list[str]:
    """Return one sentence for each mistake; no sentence repeats a value."""
    problems = config_errors(config, schema)
    secrets = config.get("secrets")
    for secret in secrets if isinstance(secrets, list) else ():
        if isinstance(secret, str) and (found := secret_error("secrets", secret)):
            problems.append(found)
    since = config.get("since")
    if since and isinstance(since, str):
        try:
            parse_time(since)
        except ValueError as error:
            problems.append(f"`since` is {error}")
    return problems
