"""Settings that are declared once, as the fields of a struct.

A field with a title is a setting. The JSON Schema of the config comes from its type,
default, title and bounds. The descriptions come from the section `Attributes:` of the
struct's docstring. Fields without a title hold derived values.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

Json = Any  # any JSON value; narrowed where it is read
_Settings = TypeVar("_Settings", bound=msgspec.Struct)

#: `Meta(extra_json_schema=SECRET)` marks a secret for the Singer SDK and for forms.
SECRET: dict[str, Json] = {"secret": True, "writeOnly": True}


def config_schema_of(settings: type[msgspec.Struct]) -> dict[str, Json]:
    """Return the JSON Schema of a config: new, because the Singer SDK adds settings."""
    return copy.deepcopy(_schema_of(settings))


@cache
def _schema_of(settings: type[msgspec.Struct]) -> dict[str, Json]:
    schema = struct_schema(settings)
    properties = {
        n: spec for n, spec in schema["properties"].items() if "title" in spec
    }
    return {
        "type": "object",
        "required": schema["required"],
        "additionalProperties": False,
        "properties": properties,
    }


def struct_schema(struct: type[msgspec.Struct]) -> dict[str, Json]:
    """Return the JSON Schema of a struct, without references and with descriptions."""
    _, structs = msgspec.json.schema_components([struct], ref_template="{name}")
    found: dict[str, Json] = _inlined({"$ref": struct.__name__}, structs)
    return found


def settings_from(settings: type[_Settings], config: Mapping[str, Json]) -> _Settings:
    """Return the values of a config in which `config_errors` found no mistake."""
    known = _schema_of(settings)["properties"].keys()
    given = {
        # JSON Schema takes 8.0 for an integer.
        n: int(v) if isinstance(v, float) and v.is_integer() else v
        for n, v in config.items()
        if n in known and v is not None
    }
    return msgspec.convert(given, settings, strict=False)


def _inlined(schema: Json, structs: Mapping[str, Json]) -> Json:
    """Return a part of the schema with structs in place of references to them."""
    if isinstance(schema, list):
        return [_inlined(part, structs) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _inlined(part, structs) for name, part in schema.items()}
    if isinstance(reference := found.pop("$ref", None), str):
        found = {**_struct_schema(structs[reference], structs), **found}
    if "enum" in found:
        found["type"] = "string"
    match found:
        case {"anyOf": [value, {"type": "null"}], "default": None}:
            found = {**value, **found}
            del found["anyOf"]
        case {"anyOf": [value, {"type": "null"}]}:
            found = {**value, **found, "type": [value["type"], "null"]}
            del found["anyOf"]
    if found.get("default", "") in (None, [], ()):
        del found["default"]
    return found


def _struct_schema(schema: Json, structs: Mapping[str, Json]) -> dict[str, Json]:
    """Return the schema of a struct, with descriptions from the struct's docstring."""
    descriptions = _descriptions_in(schema.get("description", ""))
    properties = {
        name: {
            **({"description": descriptions[name]} if name in descriptions else {}),
            **_inlined(part, structs),
        }
        for name, part in schema["properties"].items()
    }
    kept = {n: v for n, v in schema.items() if n not in {"title", "description"}}
    return {**kept, "properties": properties}


def _descriptions_in(docstring: str) -> dict[str, str]:
    """Return field -> description from a docstring in Google's style."""
    _, _, section = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    entries = re.split(r"^    (?=\w)", section.partition("\n\n")[0], flags=re.MULTILINE)
    pairs = (entry.partition(": ") for entry in entries)
    return {name: " ".join(text.split()) for name, _, text in pairs if name}
