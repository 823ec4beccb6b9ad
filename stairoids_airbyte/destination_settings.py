"""The settings of the destination: those of the target, with a few changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stairoids_airbyte.catalog import SYNC_MODES
from stairoids_airbyte.specification import specification
from stairoids_common.config import understood
from stairoids_common.config_errors import config_errors
from target_stairoids.exceptions import ConfigError
from target_stairoids.settings import Settings, config_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_airbyte.protocol import Json, Message

_SOURCE = "airbyte"
# An incomplete sync must fail, so that Airbyte tries again.
_LEFT_OUT = ["on_incomplete"]


def spec() -> Message:
    """Return the specification of the destination."""
    schema = config_schema()
    return specification(
        schema,
        required=["api_key", "ledger_url"],
        leave_out=_LEFT_OUT,
        destination_sync_modes=SYNC_MODES,
        changes={
            "source": {
                "default": _SOURCE,
                "description": "The `source` of every signal whose mapping names none.",
            },
            "ledger_url": {
                "default": None,
                "examples": [
                    "postgresql://user:password@host/ledger",
                    "sqlite:////local/stairoids/ledger.db",
                ],
                "description": "The database of the ledger, which lists the sent "
                "signals: PostgreSQL, or SQLite by an absolute path on a volume. If it "
                "is lost with the container, signals may be sent again.",
            },
            "signals": {"items": _as_drawn(schema["properties"]["signals"]["items"])},
        },
    )


def _as_drawn(item: Mapping[str, Json]) -> dict[str, Json]:
    """Return the schema of a mapping with `properties` as a text field."""
    drawn = {
        "type": ["array", "object", "string", "null"],
        "title": "Properties",
        "description": "Which fields become properties: `*`, or a list as JSON, such "
        'as ["plan", {"mrr": "{{ mrr | float }}"}].',
    }
    return {**item, "properties": {**item["properties"], "properties": drawn}}


def settings_from(config: Mapping[str, Json]) -> Settings:
    """Return the settings of the target.

    Raises:
        ConfigError: A setting is wrong. The message has no values.
    """
    schema = config_schema()
    for name in _LEFT_OUT:
        del schema["properties"][name]
    schema["required"] = ["api_key", "ledger_url"]
    completed = {"source": _SOURCE, **understood(config, schema)}
    if isinstance(items := completed.get("signals"), list):
        completed["signals"] = [_with_properties_read(item) for item in items]
    if errors := config_errors(completed, schema):
        raise ConfigError("; ".join(errors))
    _check_place(completed["ledger_url"])
    return Settings.from_config(completed)


def _with_properties_read(item: Json) -> Json:
    """Parse `properties` of a mapping if it is JSON in a text field."""
    match item:
        case {"properties": str(text)} if text.strip()[:1] in ("[", "{"):
            try:
                return {**item, "properties": json.loads(text)}
            except ValueError:
                return item  # the check of the settings finds the error
        case _:
            return item


def _check_place(ledger_url: str) -> None:
    """Refuse a ledger in the working directory, which is lost with the container."""
    scheme, _, place = ledger_url.partition(":///")
    if scheme.startswith("sqlite") and not place.startswith(("/", "~")):
        msg = (
            "`ledger_url` must name PostgreSQL, or SQLite by an absolute path such as "
            "sqlite:////local/stairoids/ledger.db. A relative path is lost with the "
            "container, and then signals may be sent again."
        )
        raise ConfigError(msg)
