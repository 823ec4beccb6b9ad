"""Converts a plugin's settings to the specification of a connector.

Airbyte draws a form from it. Secrets have a keyword of their own, and a setting with
several types becomes a text field.
https://docs.airbyte.com/platform/connector-development/connector-specification-reference
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from stairoids_airbyte.protocol import Json, Message

_PROTOCOL = "0.2.0"
_NOT_AIRBYTES = {"secret", "writeOnly"}


def specification(
    schema: Mapping[str, Json],
    *,
    required: Sequence[str],
    changes: Mapping[str, Mapping[str, Json]],
    leave_out: Sequence[str] = (),
    destination_sync_modes: list[str] | None = None,
) -> Message:
    """Return the SPEC of a connector with a plugin's settings.

    `changes` are changed keywords by setting. None removes a keyword.
    """
    properties = {
        name: _setting(spec | changes.get(name, {}), order)
        for order, (name, spec) in enumerate(schema["properties"].items())
        if name not in leave_out
    }
    spec = {
        "connectionSpecification": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "required": required,
            # Airbyte adds settings of its own. The check finds misspelt ones.
            "additionalProperties": True,
            "properties": properties,
        },
        "protocol_version": _PROTOCOL,
        "supportsIncremental": True,
    }
    if destination_sync_modes is not None:
        spec["supported_destination_sync_modes"] = destination_sync_modes
    return {"type": "SPEC", "spec": spec}


def problem_of_place(setting: str, url: str) -> str:
    """Return the problem of an SQLite file in the working directory; "" if none.

    It is lost with the container.
    """
    scheme, _, place = url.partition(":///")
    if not scheme.strip().lower().startswith("sqlite") or place.startswith(("/", "~")):
        return ""
    noun = setting.removesuffix("_url")
    return (
        f"`{setting}` must name PostgreSQL, or SQLite by an absolute path such as "
        f"sqlite:////local/stairoids/{noun}.db. A relative path is lost with the "
        "container."
    )


def _setting(spec: Mapping[str, Json], order: int) -> dict[str, Json]:
    """Return the schema of a setting in the form that Airbyte supports."""
    kept = {
        name: deepcopy(value)
        for name, value in spec.items()
        if name not in _NOT_AIRBYTES and value is not None
    }
    kept["type"] = _one_type(kept["type"])
    if "items" in kept:
        kept["items"]["type"] = _one_type(kept["items"]["type"])
    if spec.get("secret"):
        kept.get("items", kept)["airbyte_secret"] = True
    return {**kept, "order": order}


def _one_type(types: str | list[str]) -> str:
    """Return the only type that is not null."""
    given = [types] if isinstance(types, str) else types
    (found,) = [name for name in given if name != "null"]
    return found
