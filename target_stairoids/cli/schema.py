"""`stairoids-signals schema`: print the JSON Schema of the target's config."""

from __future__ import annotations

import json
from typing import Any

import click

from stairoids_common.config_errors import repaired


@click.command()
def schema() -> None:
    """Print the JSON Schema of the target's config, for editors.

    An editor that knows the schema completes the names of settings, shows their
    descriptions and marks mistakes. Name the file as `$schema` in the config.

    \b
    Example:
      stairoids-signals schema > target-stairoids.schema.json
    """
    click.echo(json.dumps(editor_schema(), indent=2))


def editor_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file.

    No setting is required, because the environment may set the key. Null means not set.
    """
    from target_stairoids.target import TargetStairoids

    of_target = TargetStairoids.full_schema()
    settings = {n: _or_null(s) for n, s in of_target["properties"].items()}
    place = {"type": "string", "description": "The place of this schema, for editors."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of target-stairoids",
        "description": "Made by `stairoids-signals schema`.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"$schema": place, **repaired(settings)},
    }


def _or_null(spec: dict[str, Any]) -> dict[str, Any]:
    types = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    found = {name: value for name, value in spec.items() if name != "secret"}
    if "enum" in found:
        found["enum"] = [*found["enum"], None]
    return {**found, "type": list(dict.fromkeys([*types, "null"]))}
