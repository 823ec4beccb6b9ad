"""The settings of the destination: those of the target, with a few changes."""

from __future__ import annotations

from collections.abc import Mapping

from stairoids_airbyte.catalog import SYNC_MODES
from stairoids_airbyte.protocol import Json, Message
from stairoids_airbyte.specification import problem_of_place, specification
from stairoids_common.config import understood
from stairoids_common.config_errors import config_errors, json_of, one_a_line
from target_stairoids.exceptions import ConfigError
from target_stairoids.settings import Settings, config_schema

_SOURCE = "airbyte"
# An incomplete sync must fail, so that Airbyte tries again.
_LEFT_OUT = ["on_incomplete"]
_JSON_FIELDS = {"account", "contact", "properties"}


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
    """Return the schema of a mapping as a form can draw it.

    `properties` is a text field, `account` and `contact` are objects with text fields.
    """
    fields = item["properties"]
    drawn = {
        "type": ["array", "object", "string", "null"],
        "title": "Properties",
        "description": "Which fields become properties: `*`, or a list as JSON, such "
        'as ["plan", {"mrr": "{{ mrr | float }}"}].',
    }
    objects = {
        name: {
            **fields[name],
            "type": "object",
            "properties": {
                inner: {**spec, "type": "string"}
                for inner, spec in fields[name]["properties"].items()
            },
        }
        for name in ("account", "contact")
    }
    return {**item, "properties": {**fields, **objects, "properties": drawn}}


def settings_from(config: Mapping[str, Json]) -> Settings:
    """Return the settings of the target; `ConfigError` has no values."""
    schema = config_schema()
    for name in _LEFT_OUT:
        del schema["properties"][name]
    schema["required"] = ["api_key", "ledger_url"]
    completed = {"source": _SOURCE, **understood(config, schema)}
    if isinstance(items := completed.get("signals"), list):
        completed["signals"] = [_with_texts_read(item) for item in items]
    if errors := config_errors(completed, schema):
        raise ConfigError(one_a_line(errors))
    if problem := problem_of_place("ledger_url", completed["ledger_url"]):
        raise ConfigError(problem)
    return Settings.from_config(completed)


def _with_texts_read(item: Json) -> Json:
    """Parse the fields of a mapping that are JSON in a text field."""
    if not isinstance(item, dict):
        return item
    return {
        name: _read(value) if name in _JSON_FIELDS else value
        for name, value in item.items()
        if name not in _JSON_FIELDS or value != ""
    }


def _read(value: Json) -> Json:
    text = value.strip() if isinstance(value, str) else ""
    if text != "null" and text[:1] not in {"[", "{"}:
        return value
    try:
        return json_of(text)
    except ValueError:
        return value  # the check of the settings finds the error
