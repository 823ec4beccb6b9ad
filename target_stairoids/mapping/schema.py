"""The SCHEMA message of a stream: which columns its records may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Any  # any JSON value; narrowed where it is read
#: Key of a SCHEMA message from the ledger: the `source` its records were sent with.
SOURCE_FIELD = "stairoids_source"
#: Column of a record that was deleted at its source.
DELETED_AT = "_sdc_deleted_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSchema:
    """The parts of a SCHEMA message that the target uses.

    Attributes:
        properties: The schema's `properties`; empty for an open schema.
        key_properties: Columns, or paths into objects such as `user.email`.
        bookmark: The bookmark column, if there is exactly one.
        allows_more: Whether the schema has `additionalProperties`.
        source: The `source` of an earlier run, if the records come from the ledger.
    """

    name: str
    properties: Mapping[str, Json]
    key_properties: tuple[str, ...]
    bookmark: str | None = None
    allows_more: bool = False
    source: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether records may have columns that the schema does not list."""
        return self.allows_more or not self.properties

    def lack_of(self, record: Mapping[str, Json]) -> str:
        """Return a sentence about the key columns a record lacks; "" if it has all."""
        missing = [n for n in self.key_properties if not _holds(record, n)]
        names = ", ".join(f"`{name}`" for name in missing)
        return f"A record of stream `{self.name}` lacks the key {names}." * bool(names)

    def as_message(self, schema: Mapping[str, Json]) -> dict[str, Json]:
        """Return the SCHEMA message with these parts and a JSON Schema."""
        return {
            "type": "SCHEMA",
            "stream": self.name,
            "schema": schema,
            "key_properties": list(self.key_properties),
            **({"bookmark_properties": [self.bookmark]} if self.bookmark else {}),
        }


def _holds(record: Mapping[str, Json], path: str) -> bool:
    """Return whether a record has a column, or a path into objects; null counts."""
    if path in record:
        return True
    first, _, rest = path.partition(".")
    inner = record.get(first)
    return bool(rest) and isinstance(inner, Mapping) and _holds(inner, rest)


def source_in(message: Mapping[str, Json]) -> str | None:
    """Return the source that a SCHEMA message from the ledger names; None if none."""
    found = message.get(SOURCE_FIELD)
    return found if isinstance(found, str) and found else None


def bookmark_column(bookmarks: Sequence[str], keys: Sequence[str]) -> str | None:
    """Return the bookmark column that orders the states of an entity; None if none."""
    if len(bookmarks) != 1 or bookmarks[0] in keys or bookmarks[0].startswith("_sdc_"):
        return None
    return bookmarks[0]


def types_of(schema: Json) -> set[str]:
    """Return the JSON types that a column may have; empty if its schema has none."""
    types: set[str] = set()
    for part in _parts_of(schema):
        given = part.get("type", ())
        types |= {given} if isinstance(given, str) else set(given)
    return types


def may_be_scalar(schema: Json) -> bool:
    """Return whether a column may hold a text, a number or a boolean."""
    types = types_of(schema)
    return not types & {"object", "array"} or bool(types & {"string", "number"})


def inner_properties(schema: Json) -> Mapping[str, Json] | None:
    """Return the properties of an object, empty if unknown; None for other columns."""
    types = types_of(schema)
    if types and "object" not in types:
        return None
    parts = _parts_of(schema)
    return {n: v for p in parts for n, v in (p.get("properties") or {}).items()}


def _parts_of(schema: Json) -> list[Mapping[str, Json]]:
    """Return a column's schema after the alternatives of `anyOf`, `oneOf`, `allOf`."""
    if not isinstance(schema, Mapping):
        return []
    words = ("anyOf", "oneOf", "allOf")
    parts = [p for w in words for s in schema.get(w, ()) for p in _parts_of(s)]
    return [*parts, schema]
