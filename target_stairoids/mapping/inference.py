"""Infer templates for the fields of a signal from the names of a stream's columns.

Columns of a company never fill the contact, and columns of a person never fill the
account. The names are in `column_names.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path as File
from typing import Any

import msgspec

from target_stairoids.mapping.expressions.template import path_text
from target_stairoids.mapping.schema import (
    StreamSchema,
    inner_properties,
    may_be_scalar,
)
from target_stairoids.mapping.signal import Origin

Path = tuple[str, ...]

#: The start of the fields that the columns of an owner may fill.
_GROUPS = {"person": "contact.", "company": "account.", "anyone": ""}
_FULL_NAME = "contact.name"
_DEEPEST = 3
#: Prefixes that flattening leaves: `property_email`, `properties__email`.
_PREFIX = re.compile(
    r"^(property|properties|attributes|fields|data)(?:__|_)(?=.)", re.IGNORECASE
)
#: Names of streams whose records are companies.
_COMPANIES = re.compile(
    r"(^|[-_.])(account|company|companies|organi[sz]ation|customer_account)s?$",
    re.IGNORECASE,
)


class _Field(msgspec.Struct, frozen=True):
    kind: str
    names: tuple[str, ...]
    filter: str | None = None
    usual: str | None = None


class _ColumnNames(msgspec.Struct, frozen=True):
    update_times: frozenset[str]
    objects: dict[str, tuple[str, ...]]
    fields: dict[str, _Field]


@cache
def _column_names() -> _ColumnNames:
    file = File(__file__).with_name("column_names.toml")
    return msgspec.toml.decode(file.read_bytes(), type=_ColumnNames)


def inferred_templates(schema: StreamSchema) -> dict[str, Origin]:
    """Return signal field -> the template that fills it.

    Fields for which the stream has no column are left out.
    """
    owner = "company" if _COMPANIES.search(schema.name) else "anyone"
    fields = _column_names().fields
    found = {field: list(_paths(field, schema.properties, owner)) for field in fields}
    full_names = found.pop(_FULL_NAME)
    has_person = found["contact.first_name"] or found["contact.last_name"]
    if owner == "company" and found["account.domain"] and not has_person:
        # The address of a company is not the address of a person.
        found["contact.email"] = [p for p in found["contact.email"] if len(p) > 1]
    origins = {
        field: _origin(paths, fields[field].kind, fields[field].filter)
        for field, paths in found.items()
        if paths
    }
    if full_names:
        for part in ("first_name", "last_name"):
            origin = _origin(full_names, fields[_FULL_NAME].kind, part)
            origins.setdefault(f"contact.{part}", origin)
    return origins


def update_time_columns(schema: StreamSchema) -> list[str]:
    """Return the columns that are named like the time of a row's last change."""
    names = _column_names().update_times
    return [
        name
        for name, schema in schema.properties.items()
        if _simple(name) in names and may_be_scalar(schema)
    ]


def _paths(
    field: str, properties: Mapping[str, Any], owner: str, depth: int = 1
) -> Iterator[Path]:
    """Yield the paths that may fill a signal's field, the best one first.

    Args:
        owner: The kind of thing that the properties describe.
    """
    if not properties:
        if usual := _column_names().fields[field].usual:
            yield (usual,)
        return
    yield from _matching(field, properties, owner)
    if depth == _DEEPEST:
        return
    by_simple_name = {_simple(name): name for name in properties}
    for inner_owner, objects in _column_names().objects.items():
        if not field.startswith(_GROUPS[inner_owner]):
            continue
        next_owner = owner if inner_owner == "anyone" else inner_owner
        for name in (by_simple_name[n] for n in objects if n in by_simple_name):
            inner = inner_properties(properties[name])
            if inner is not None:
                for path in _paths(field, inner, next_owner, depth + 1):
                    yield (name, *path)


def _matching(field: str, properties: Mapping[str, Any], owner: str) -> Iterator[Path]:
    """Yield the columns with a name for the field, the most specific first."""
    places: dict[str, Path] = {}
    for name, schema in properties.items():
        if may_be_scalar(schema):
            places[_simple(name)] = (name,)
        elif "value" in (inner_properties(schema) or ()):
            places.setdefault(_simple(name), (name, "value"))  # HubSpot's form
    names = _column_names().fields[field].names
    # A column called `name` holds the name of its owner.
    if owner != "anyone" and field == f"{_GROUPS[owner]}name":
        names = (*names, "name")
    yield from (places[name] for name in names if name in places)


def _simple(name: str) -> str:
    """Return a column's name without prefix, in lower case, letters and digits only."""
    return re.sub(r"[\W_]", "", _PREFIX.sub("", name)).lower()


def _origin(paths: Sequence[Path], kind: str, filter_name: str | None) -> Origin:
    """Return a template that takes the first path with a value."""
    suffix = f" | {filter_name}" if filter_name else ""
    template = "{{ " + " or ".join(path_text(p) + suffix for p in paths) + " }}"
    places = ", then ".join(f"`{'.'.join(path)}`" for path in paths)
    return Origin(template, f"named like {kind}: {places}")
