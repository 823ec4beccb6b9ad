"""The destination's settings: the target's own, but for what a container changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stairoids_airbyte.specification import specification
from stairoids_airbyte.written_streams import SYNC_MODES
from stairoids_common.config_errors import config_errors
from target_stairoids.exceptions import ConfigError
from target_stairoids.settings import Settings, config_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_airbyte.protocol import Message

Json = Any  # what JSON can hold; narrowed where it is read

_SOURCE = "airbyte"
# A sync that leaves something must fail: Airbyte then tries again by itself.
_LEFT_OUT = ["on_incomplete"]


def spec() -> Message:
    """Return what the destination is to be told."""
    schema = config_schema()
    return specification(
        schema,
        required=["api_key", "ledger_url"],
        leave_out=_LEFT_OUT,
        destination_sync_modes=SYNC_MODES,
        instead={
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
                "description": "Where the ledger of sent signals lives. It must "
                "outlive the container, or signals may be sent again: PostgreSQL, or "
                "SQLite by an absolute path on a volume.",
            },
            "signals": {"items": _as_drawn(schema["properties"]["signals"]["items"])},
        },
    )


def _as_drawn(item: Mapping[str, Json]) -> dict[str, Json]:
    """Return a mapping's schema as far as a form can draw it."""
    drawn = {
        "type": ["array", "object", "string", "null"],
        "title": "Properties",
        "description": "Which fields become properties: `*`, or a list as JSON, such "
        'as ["plan", {"mrr": "{{ mrr | float }}"}].',
    }
    return {**item, "properties": {**item["properties"], "properties": drawn}}


def settings_from(config: Mapping[str, Json]) -> Settings:
    """Return the config as the target's code uses it.

    Raises:
        ConfigError: A setting is wrong; no value is repeated.
    """
    schema = config_schema()
    for name in _LEFT_OUT:
        del schema["properties"][name]
    schema["required"] = ["api_key", "ledger_url"]
    completed = {"source": _SOURCE, **config}
    if isinstance(config.get("signals"), list):
        completed["signals"] = [_with_properties_read(i) for i in config["signals"]]
    if errors := config_errors(completed, schema):
        raise ConfigError("; ".join(errors))
    _check_place(config["ledger_url"])
    return Settings.from_config(completed)


def _with_properties_read(item: Json) -> Json:
    """Read `properties` where a form could hold nothing but text."""
    match item:
        case {"properties": str(text)} if text.strip()[:1] in ("[", "{"):
            try:
                return {**item, "properties": json.loads(text)}
            except ValueError:
                return item  # and so is found to be wrong
        case _:
            return item


def _check_place(ledger_url: str) -> None:
    """Refuse a ledger that would go with the container's working directory."""
    scheme, _, place = ledger_url.partition(":///")
    if scheme.startswith("sqlite") and not place.startswith(("/", "~")):
        msg = (
            "`ledger_url` must name PostgreSQL, or SQLite by an absolute path such as "
            "sqlite:////local/stairoids/ledger.db: what lies relative to the working "
            "directory goes with the container, and then signals may be sent again."
        )
        raise ConfigError(msg)
