"""The tap's config: its settings declared once, and what may be wrong with them."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.settings import DEFAULT_STORE_URL, checked_secrets
from tap_stairoids_webhooks.timestamps import stamp_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Json = Any  # what JSON can hold; narrowed where it is read

_TEXTS = {"type": ["array", "null"], "items": {"type": ["string"]}}
_PROPERTIES: dict[str, dict[str, Json]] = {
    "store_url": {
        "type": ["string", "null"],
        "title": "Store URL",
        "default": DEFAULT_STORE_URL,
        "description": "The store that `stairoids-webhooks serve` fills.",
    },
    "secrets": {
        **_TEXTS,
        "title": "Webhook secrets",
        "description": (
            "If given, signatures are checked again on reading, and events that"
            " none of these secrets signed are counted, logged and not emitted."
        ),
        "secret": True,
        "writeOnly": True,
    },
    "on_store_reset": {
        "type": ["string", "null"],
        "enum": ["fail", "resync"],
        "title": "On store reset",
        "default": "fail",
        "description": (
            "What to do if the state belongs to another store, or to a later"
            " point than the store has reached: `fail`, or `resync` (read"
            " everything anew)."
        ),
    },
    "event_types": {
        **_TEXTS,
        "title": "Event types",
        "description": (
            "Only events of these types, in every stream; bodies without a type"
            " stay in `malformed_events`. Default: all."
        ),
    },
    "since": {
        "type": ["string", "null"],
        "title": "Since",
        "description": (
            "Only events received at this time or later, such as `2026-01-31` or"
            " `2026-01-31T12:00:00Z`; without an offset it is UTC."
        ),
    },
    "consumer": {
        "type": ["string", "null"],
        "title": "Consumer",
        "description": (
            "A name for whoever gets these events. A run then tells the store what"
            " its incoming state proves to have arrived, and `stairoids-webhooks"
            " prune` keeps the rest. Without it a run acknowledges nothing."
        ),
    },
}


def config_schema() -> dict[str, Json]:
    """Return the config's JSON Schema, a fresh one for every caller.

    The SDK writes its built-in settings into the schema it is given.
    """
    return {
        "type": "object",
        "properties": {name: dict(spec) for name, spec in _PROPERTIES.items()},
        "additionalProperties": False,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }


def check_config_file(path: str) -> None:
    """Make sure that a config file can be read and is JSON.

    Raises:
        ConfigError: It names the file and the place, and quotes nothing.
    """
    try:
        json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: {(error.strerror or 'it cannot be read').lower()}"
        raise ConfigError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"{path}, line {error.lineno}, column {error.colno}: not JSON"
        raise ConfigError(msg) from None  # the cause holds the whole text
    except (ValueError, RecursionError):
        msg = f"{path}: not JSON"
        raise ConfigError(msg) from None


def problems_in(config: Mapping[str, Json], *, known: Iterable[str]) -> list[str]:
    """Say what is wrong with a config without repeating a value: it may be a secret."""
    problems = []
    names = list(known)
    for name in sorted(set(config) - set(names)):
        similar = difflib.get_close_matches(name, names, n=1)
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
