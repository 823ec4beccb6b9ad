"""Read the settings of a plugin from environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

Json = Any  # any JSON value

_BOOLEANS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("", "0", "false", "no", "off"), False
)


def environment_config(schema: Mapping[str, Json], prefix: str) -> dict[str, Json]:
    """Return the settings in the environment, without `.env` files.

    Texts are converted as the Singer SDK does. A text that cannot be converted is kept,
    so that the validation of the config names the setting. The SDK takes any text that
    it does not know as false: a misspelt `dry_run` would send.

    Args:
        schema: JSON Schema of the config.
        prefix: Start of the variables, such as `TARGET_STAIROIDS_`.
    """
    return {
        name: _value_of(os.environ[variable], spec)
        for name, spec in schema["properties"].items()
        if (variable := prefix + name.upper().replace("-", "_")) in os.environ
    }


def _value_of(text: str, spec: Mapping[str, Json]) -> Json:
    kinds = spec.get("type", "string")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if "boolean" in kinds:
        return _BOOLEANS.get(text.strip().lower(), text)
    if kinds & {"integer", "number", "array", "object"}:
        try:
            return json.loads(text)
        except ValueError:
            is_list = "array" in kinds and not text.strip().startswith("[")
            return text.split(",") if is_list else text
    return text
