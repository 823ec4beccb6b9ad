"""Look up which versions the ledger knows, for a block of records at a time.

The statements are texts for the driver, because they run for every record and
SQLAlchemy takes twice as long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from target_stairoids.dedup.rules import Key, Known, Latest, Settled
from target_stairoids.ledger.schema import latest, settled

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection

T = TypeVar("T")

#: Entity digest, and the text or state digest of a record.
Mark = tuple[bytes, bytes]

_PARAMETERS = 999  # the limit of SQLite builds that are still in use
_SETTLED = ("state_digest", "mapping", "outcome", "run", "mapping_digest")
_LATEST = (
    "state_digest",
    "content_digest",
    "bookmark_value",
    "done",
    "source_digest",
    "text_digest",
)


def known_versions(
    connection: Connection, states: Collection[bytes], entities: Collection[bytes]
) -> Known:
    """Return the outcomes of states and the latest versions of entities."""
    outcomes = rows_in(connection, settled.c.state_digest, _SETTLED, states)
    newest = rows_in(
        connection, latest.c.entity, ("entity", "mapping", *_LATEST), entities
    )
    return Known(
        {
            (state, mapping): Settled(outcome, run, mapping_digest)
            for state, mapping, outcome, run, mapping_digest in outcomes
        },
        {(entity, mapping): _latest_from(row) for entity, mapping, *row in newest},
    )


def changed_entities(
    connection: Connection, marks: Mapping[str, Sequence[Mark]]
) -> dict[Key, Latest | None]:
    """Return the entities whose latest version is not the marked one.

    In most syncs that is a small part, so most records cost no result row at all.
    `Ledger.changed_entities` describes the values.
    """
    found: dict[Key, Latest | None] = {}
    style = connection.dialect.paramstyle
    for mapping, asked in marks.items():
        for block in _blocks(asked, (_PARAMETERS - 1) // 2):
            values = (*chain.from_iterable(block), mapping)
            text = _select_changed(len(block), style)
            for entity, *row in connection.exec_driver_sql(text, values).all():
                newest = None if row[0] is None else _latest_from(row)
                found[entity, mapping] = newest
    return found


def rows_in(
    connection: Connection,
    key: Column[Any],
    columns: tuple[str, ...],
    values: Collection[bytes],
) -> Iterator[Sequence[Any]]:
    """Yield columns of the rows whose key is one of the values."""
    style = connection.dialect.paramstyle
    for block in _blocks(values, _PARAMETERS):
        text = _select(key, columns, len(block), style)
        yield from connection.exec_driver_sql(text, block).all()


def _latest_from(row: Sequence[Any]) -> Latest:
    state, content, bookmark, done, source, text = row
    return Latest(state, content, bookmark, bool(done), source, text)


def _blocks(items: Collection[T], size: int) -> Iterator[tuple[T, ...]]:
    listed = tuple(items)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


@lru_cache(maxsize=64)
def _select(
    key: Column[Any], columns: tuple[str, ...], count: int, paramstyle: str
) -> str:
    """Return a SELECT of the rows whose key is one of so many parameters."""
    marks = ", ".join(["?" if paramstyle == "qmark" else "%s"] * count)
    return (
        f"SELECT {', '.join(columns)} FROM {key.table.name}"  # noqa: S608 - names of our own tables
        f" WHERE {key.name} IN ({marks})"
    )


@lru_cache(maxsize=64)
def _select_changed(count: int, paramstyle: str) -> str:
    """Return a SELECT with so many pairs of entity and mark, then the mapping."""
    mark = "?" if paramstyle == "qmark" else "%s"
    pairs = ", ".join([f"({mark}, {mark})"] * count)
    columns = ", ".join(f"l.{name}" for name in _LATEST)
    return (
        f"SELECT a.column1, {columns} FROM (VALUES {pairs}) AS a"  # noqa: S608 - names of our own tables
        f" LEFT JOIN {latest.name} AS l ON l.entity = a.column1 AND l.mapping = {mark}"
        " WHERE l.content_digest IS NULL OR (l.state_digest <> a.column2"
        " AND (l.text_digest IS NULL OR l.text_digest <> a.column2))"
    )
