"""The specification: a plugin's settings as Airbyte draws and checks them.

Airbyte's form knows less of JSON Schema than we use: secrets are marked by a word of
its own, and where several types are allowed it draws a field for text.
https://docs.airbyte.com/platform/connector-development/connector-specification-reference
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from stairoids_airbyte.protocol import Message, Specification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = Any  # what JSON can hold; narrowed where it is read

_PROTOCOL = "0.2.0"
_OURS = {"secret", "writeOnly"}


def specification(
    schema: Mapping[str, Json],
    *,
    required: Sequence[str],
    instead: Mapping[str, Mapping[str, Json]],
    leave_out: Sequence[str] = (),
    destination_sync_modes: list[str] | None = None,
) -> Message:
    """Return the SPEC of a connector that takes a plugin's settings.

    Args:
        schema: The plugin's own.
        required: Settings that have no default here; the form asks for them.
        instead: Setting -> what is different about it here; None takes a word away.
        leave_out: Settings that make no sense here.
    """
    properties = {
        name: _setting(spec | instead.get(name, {}), order)
        for order, (name, spec) in enumerate(schema["properties"].items())
        if name not in leave_out
    }
    return Message(
        type="SPEC",
        spec=Specification(
            connection_specification={
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "required": list(required),
                # What is misspelt, the check names; Airbyte adds settings of its own.
                "additionalProperties": True,
                "properties": properties,
            },
            protocol_version=_PROTOCOL,
            supports_incremental=True,
            supported_destination_sync_modes=destination_sync_modes,
        ),
    )


def _setting(spec: Mapping[str, Json], order: int) -> dict[str, Json]:
    """Return a setting as Airbyte has it."""
    kept = {
        name: deepcopy(value)
        for name, value in spec.items()
        if name not in _OURS and value is not None
    }
    kept["type"] = _one_type(kept["type"])
    if "items" in kept:
        kept["items"]["type"] = _one_type(kept["items"]["type"])
    if spec.get("secret"):
        kept.get("items", kept)["airbyte_secret"] = True
    return {**kept, "order": order}


def _one_type(types: str | list[str]) -> str:
    """Return the type a setting has when it is there; what is not, is left out."""
    given = [types] if isinstance(types, str) else types
    (found,) = [name for name in given if name != "null"]
    return found
