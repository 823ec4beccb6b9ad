"""The SCHEMA message of a stream: which columns its records may have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from stairoids_common.config_errors import nearest, suggestion
from target_stairoids.exceptions import MessageError
from target_stairoids.mapping.column_names import NAMES

_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
Json = Any  # any JSON value; narrowed where it is read
#: Key of a SCHEMA message from the ledger: the `source` its records were sent with.
SOURCE_FIELD = "stairoids_source"
#: Columns of a record that was deleted at its source: Singer's and Airbyte's.
DELETED_AT = ("_sdc_deleted_at", "_ab_cdc_deleted_at")
#: Field of a SCHEMA message in the ledger: no item of `signals` is about the stream.
INFERRED_FIELD = "stairoids_inferred"
#: Columns of loaders and of applications that mark a row as deleted.
DELETED_COLUMNS = (
    *DELETED_AT,
    "_fivetran_deleted",
    "__deleted",
    "deleted_at",
    "is_deleted",
    "deleted",
)

_LOADERS = re.compile(
    "|".join(NAMES.loaders).replace("{time}", NAMES.loader_times), re.IGNORECASE
)
#: Columns with a position in a database's log, and the column of the log file's name.
#: They are those of tap-postgres (PipelineWise and MeltanoLabs), tap-mysql, tap-mssql
#: (wintersrd), tap-oracle, and of Airbyte's CDC sources.
LOG_POSITIONS: Mapping[str, str | None] = {
    "_sdc_lsn": None,
    "_sdc_lsn_value": None,
    "_sdc_scn": None,
    "_sdc_log_pos": "_sdc_log_file",
    "_ab_cdc_lsn": None,
    "_ab_cdc_log_pos": "_ab_cdc_log_file",
    "_ab_cdc_cursor": None,
}
#: All of these columns.
LOG_COLUMNS = frozenset(LOG_POSITIONS) | {f for f in LOG_POSITIONS.values() if f}


@dataclass(frozen=True, kw_only=True)
class StreamSchema:
    """The parts of a SCHEMA message that the target uses.

    Attributes:
        properties: Empty for an open schema.
        key_properties: Columns, or paths into objects such as `user.email`.
        source: The `source` of an earlier run, if the records come from the ledger.
    """

    name: str
    properties: Mapping[str, Json]
    key_properties: tuple[str, ...]
    bookmark: str | None = None
    allows_more: bool = False
    source: str | None = None
    log_columns: frozenset[str] = frozenset()

    @property
    def order_columns(self) -> list[str]:
        """The columns that order the states of an entity."""
        return [*self.log_columns, *filter(None, [self.bookmark])]

    @property
    def is_open(self) -> bool:
        """Whether records may have columns that the schema does not list."""
        return self.allows_more or not self.properties

    def lack_of(self, record: Mapping[str, Json]) -> str:
        """Return a sentence about the key columns a record lacks; "" if it has all."""
        missing = [f"`{n}`" for n in self.key_properties if not _holds(record, n)]
        if not missing:
            return ""
        return f"A record of stream `{self.name}` lacks the key {', '.join(missing)}."


class ColumnSet(msgspec.Struct, frozen=True, cache_hash=True):
    """Some columns, with all columns of loaders that a mapping does not use.

    A record may have columns of loaders that its SCHEMA does not list.
    """

    names: frozenset[str]
    used: frozenset[str]

    def __contains__(self, name: str) -> bool:
        """Return whether a column is one of them."""
        return name in self.names or (name not in self.used and is_loaders(name))


@lru_cache(maxsize=1024)
def chosen(columns: ColumnSet, names: tuple[str, ...]) -> frozenset[str]:
    """Return the names that are in a set of columns. Most records have the same."""
    return frozenset(name for name in names if name in columns)


@lru_cache(maxsize=4096)
def is_loaders(column: str) -> bool:
    """Return whether a column is one of those that loaders write at every sync.

    Unless a mapping names it, it is no part of a record's state or content.
    """
    return _LOADERS.fullmatch(column) is not None


def _holds(record: Mapping[str, Json], path: str) -> bool:
    """Return whether a record has a column, or a path into objects; null counts."""
    if path in record:
        return True
    first, _, rest = path.partition(".")
    inner = record.get(first)
    return bool(rest) and isinstance(inner, Mapping) and _holds(inner, rest)


def check_message(message: Mapping[str, Json]) -> None:
    """Refuse a SCHEMA message that is not as the Singer specification has it."""
    stream, schema = message["stream"], message["schema"]
    if not _is_text(stream) or not stream.strip() or "\0" in stream:
        raise MessageError("The `stream` of a SCHEMA message is not a text.")
    if not isinstance(schema, Mapping):
        raise MessageError(f"The SCHEMA of stream `{stream}` is not an object.")
    keys, bookmarks = message.get("key_properties"), message.get("bookmark_properties")
    if "properties" not in schema and not keys:
        raise MessageError(
            f"The SCHEMA of stream `{stream}` has neither properties nor key."
        )
    problem = _odd_part(schema, "")
    if not _are_texts(keys or []):
        problem = "`key_properties` is not a list of texts"
    elif not isinstance(bookmarks, list | None) or not _are_texts(
        [name for name in bookmarks or () if name is not None]
    ):
        problem = "`bookmark_properties` is not a list of texts"
    if problem := problem or _unknown_key(schema, keys or []):
        raise MessageError(f"The SCHEMA of stream `{stream}` is wrong: {problem}.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _odd_part(schema: Json, place: str) -> str:
    """Return the first part of a JSON Schema that has the wrong form; "" if none."""
    if isinstance(schema, bool) and place:  # `true` allows any value, as `{}` does
        return ""
    if not isinstance(schema, Mapping):
        return f"`{place[:-1]}` is not an object"
    types, properties = schema.get("type", []), schema.get("properties", {})
    if not isinstance(types, str) and not _are_texts(types):
        return f"`{place}type` is neither a text nor a list of texts"
    if not isinstance(properties, Mapping):
        return f"`{place}properties` is not an object"
    if not all(map(_is_text, properties)):
        return f"`{place}properties` has a name that is not Unicode"
    parts = [(f"{place}properties.{n}.", part) for n, part in properties.items()]
    for word in _ALTERNATIVES:
        if not isinstance(inner := schema.get(word, []), list):
            return f"`{place}{word}` is not a list"
        parts += [(f"{place}{word}.", part) for part in inner]
    if isinstance(items := schema.get("items"), Mapping):
        parts.append((f"{place}items.", items))
    return next(filter(None, (_odd_part(part, name) for name, part in parts)), "")


def _unknown_key(schema: Mapping[str, Json], keys: Sequence[str]) -> str:
    """Return why a key column is not a property; "" if all are or may be."""
    known = schema.get("properties") or {}
    for key in keys if known else ():
        if key in known or key.partition(".")[0] in known:
            continue
        simple = key.strip("\ufeff ").casefold()
        near = [n for n in known if n.strip("\ufeff ").casefold() == simple]
        if near or not _allows_more(schema):
            alike = nearest(key, near)
            hint = f"; did you mean `{alike}`?" if alike else suggestion(key, known)
            problem = f"its key `{key}` is not one of its properties{hint}"
            return problem.replace("\ufeff", "\\ufeff").rstrip("?")
    return ""


def _allows_more(schema: Mapping[str, Json]) -> bool:
    """Return whether records may have more columns. `{}` allows any, as `true` does."""
    return schema.get("additionalProperties") not in (None, False)


def schema_from(message: Mapping[str, Json]) -> StreamSchema:
    """Return the parts of a SCHEMA message, from a tap or from the ledger."""
    schema = message.get("schema") or {}
    keys = tuple(message.get("key_properties") or ())
    properties = schema.get("properties") or {}
    allows_more = _allows_more(schema)
    is_open = allows_more or not properties
    source = message.get(SOURCE_FIELD)
    return StreamSchema(
        name=message.get("stream", ""),
        properties=properties,
        key_properties=keys,
        bookmark=bookmark_column(message.get("bookmark_properties") or (), keys),
        allows_more=allows_more,
        source=source if isinstance(source, str) and source else None,
        log_columns=LOG_COLUMNS if is_open else LOG_COLUMNS & properties.keys(),
    )


def bookmark_column(bookmarks: Sequence[str], keys: Sequence[str]) -> str | None:
    """Return the bookmark column that orders the states of an entity; None if none."""
    match [name for name in bookmarks if name]:
        case [str(name)] if name not in keys and not name.startswith("_sdc_"):
            return name
    return None


def types_of(schema: Json) -> set[str]:
    """Return the JSON types that a column may have; empty if its schema has none."""
    types: set[str] = set()
    for part in _parts_of(schema):
        given = part.get("type", ())
        types.update([given] if isinstance(given, str) else given)
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
    words = [word for word in _ALTERNATIVES if word in schema]
    return [*(p for w in words for s in schema[w] for p in _parts_of(s)), schema]
