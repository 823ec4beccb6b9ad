"""The shape of a stream: what its SCHEMA message says its records hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Any  # what JSON can hold; narrowed where it is read
#: Key of a SCHEMA message: by which `source` its records were sent before.
SOURCE_FIELD = "stairoids_source"
#: Column of a record that was deleted at its source.
DELETED_AT = "_sdc_deleted_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSchema:
    """What a SCHEMA message says about a stream.

    Attributes:
        properties: The schema's `properties`; empty for an open schema.
        key_properties: Fields, or paths into objects as `user.email`.
        bookmark: The one bookmark column, if there is exactly one.
        allows_more: Whether the schema says `additionalProperties`.
        source: The default source of the run that kept these records, if they come
            from the ledger and not from a tap.
    """

    name: str
    properties: Mapping[str, Json]
    key_properties: tuple[str, ...]
    bookmark: str | None = None
    allows_more: bool = False
    source: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether records may hold fields the schema does not name."""
        return self.allows_more or not self.properties

    def lack_of(self, record: Mapping[str, Json]) -> str:
        """Say in a sentence which parts of the key a record lacks; "" for none."""
        missing = [n for n in self.key_properties if not _holds(record, n)]
        names = ", ".join(f"`{name}`" for name in missing)
        return f"A record of stream `{self.name}` lacks the key {names}." * bool(names)

    def as_message(self, schema: Mapping[str, Json]) -> dict[str, Json]:
        """Return the SCHEMA message that says the same, for whoever reads records."""
        return {
            "type": "SCHEMA",
            "stream": self.name,
            "schema": schema,
            "key_properties": list(self.key_properties),
            **({"bookmark_properties": [self.bookmark]} if self.bookmark else {}),
        }


def _holds(record: Mapping[str, Json], path: str) -> bool:
    """Say whether a record has a field, or a path into its objects, if only null."""
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
    """Return the one bookmark column that says how new a record's state is."""
    if len(bookmarks) != 1 or bookmarks[0] in keys or bookmarks[0].startswith("_sdc_"):
        return None
    return bookmarks[0]


def types_of(schema: Json) -> set[str]:
    """Return the JSON types a property may have; empty if its schema names none."""
    if not isinstance(schema, Mapping):
        return set()
    given = schema.get("type", ())
    types = {given} if isinstance(given, str) else set(given)
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, ()):
            types |= types_of(part)
    return types


def may_be_scalar(schema: Json) -> bool:
    """Say whether a property may hold a text, a number or a boolean."""
    types = types_of(schema)
    return not types & {"object", "array"} or bool(types & {"string", "number"})


def inner_properties(schema: Json) -> Mapping[str, Json] | None:
    """Return the properties of a property that may hold an object.

    Returns:
        An empty mapping if the object's properties are not known; None if it holds
        no object.
    """
    types = types_of(schema)
    if types and "object" not in types:
        return None
    found: dict[str, Json] = {}
    if isinstance(schema, Mapping):
        for word in ("anyOf", "oneOf", "allOf"):
            for part in schema.get(word, ()):
                found.update(inner_properties(part) or {})
        found.update(schema.get("properties") or {})
    return found
