"""Look up the states that the ledger knows, for a block of records at a time.

Statements that run for every record or signal are texts for the driver. SQLAlchemy
takes longer to make a statement than to execute it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import sqlalchemy as sa

from target_stairoids.dedup.duplicate_rules import (
    Key,
    Latest,
    Settled,
    Version,
    people_in,
)
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import schema
from target_stairoids.ledger.schema import latest, settled, streams
from target_stairoids.ledger.structs import Known, ListFacts

T = TypeVar("T")

#: Entity digest, and the text or state digest of a record.
Mark = tuple[bytes, bytes]

PARAMETERS = 32_766  # of one statement in SQLite
_LATEST = Latest.__struct_fields__
_RUN = _LATEST.index("run")
_SETTLED = Settled.__struct_fields__


def latest_of(connection: sa.Connection, keys: Collection[Key]) -> dict[Key, Latest]:
    """Return the last states of entities."""
    columns = ("entity", "mapping", *_LATEST)
    rows = rows_in(connection, latest.c.entity, columns, {key[0] for key in keys})
    return {(entity, mapping): Latest(*row) for entity, mapping, *row in rows}


def resolved(
    connection: sa.Connection, versions: Sequence[Version]
) -> tuple[dict[Key, Latest], list[Key]]:
    """Return the last states that belong to versions, and the key of each.

    A version whose key is shared in the meantime belongs to its person. Keys without a
    state are new.
    """
    keys = [version.key for version in versions]
    found = latest_of(connection, keys)
    for place, version in enumerate(versions):
        if (last := found.get(version.key)) is not None and last.is_shared:
            people = people_in(version, version.record_key)
            keys[place] = (people or [version.key])[0]
    moved = {*keys} - {version.key for version in versions}
    return found | latest_of(connection, moved), keys


def changed_entities(
    connection: sa.Connection, marks: Mapping[str, Sequence[Mark]]
) -> dict[Key, Latest | None]:
    """Return the entities whose last state is not the marked one: in most syncs few."""
    columns = ", ".join(f"l.{name}" for name in _LATEST)
    text = (
        f"SELECT a.column1, {columns} FROM (VALUES {{asked}}) AS a"  # noqa: S608 - names of our own tables
        f" LEFT JOIN {latest.name} AS l ON l.entity = a.column1"
        " AND l.mapping = ? WHERE l.content_digest IS NULL"
        " OR (l.state_digest <> a.column2 AND (l.text_digest IS NULL"
        " OR l.text_digest <> a.column2))"
    )
    return {
        # A LEFT JOIN without a row has no run.
        (entity, mapping): None if row[_RUN] is None else Latest(*row)
        for mapping, (entity, *row) in _rows_of(connection, text, marks)
    }


def people_known(
    connection: sa.Connection, marks: Mapping[str, Sequence[Mark]]
) -> dict[tuple[Key, bytes], Key]:
    """Return shared key and text digest -> the person whose last state has the text."""
    # CROSS, because SQLite makes an index for each query unless the order is given.
    text = (
        "SELECT a.column1, a.column2, p.entity FROM (VALUES {asked}) AS a"  # noqa: S608 - names of our own tables
        f" CROSS JOIN {latest.name} AS p WHERE p.record_entity = a.column1"
        " AND p.text_digest = a.column2 AND p.mapping = ?"
        " AND p.content_digest IS NOT NULL"
    )
    return {
        ((shared, mapping), mark): (person, mapping)
        for mapping, (shared, mark, person) in _rows_of(connection, text, marks)
    }


def states_of(
    connection: sa.Connection, versions: Collection[Version]
) -> dict[Key, list[Settled]]:
    """Return record key -> the outcomes of states with a version's state or content."""
    asked: defaultdict[str, list[tuple[bytes, ...]]] = defaultdict(list)
    for version in versions:
        entity, mapping = version.record_key
        digests = version.state_digest, version.content_digest or b""
        asked[mapping].append((entity, *digests))
    columns = ", ".join(f"s.{name}" for name in _SETTLED)
    text = (
        f"SELECT DISTINCT a.column1, {columns} FROM (VALUES {{asked}}) AS a"  # noqa: S608 - names of our own tables
        f" JOIN {settled.name} AS s ON s.entity = a.column1 AND s.mapping = ?"
        " AND (s.state_digest = a.column2 OR s.content_digest = a.column3)"
    )
    found: defaultdict[Key, list[Settled]] = defaultdict(list)
    for mapping, (entity, *row) in _rows_of(connection, text, asked):
        found[entity, mapping].append(Settled(*row))
    return found


def _rows_of(
    connection: sa.Connection,
    text: str,
    asked: Mapping[str, Sequence[tuple[bytes, ...]]],
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield mapping and row of a SELECT about the digests of a block of records.

    The text has `{asked}` for digests, and `?` behind it for the mapping.
    """
    for mapping, listed in asked.items():
        marks = ", ".join(f"({', '.join('?' * len(row))})" for row in listed)
        values = (*chain.from_iterable(listed), mapping)
        for row in execute(connection, text.format(asked=marks), values).all():
            yield mapping, row


def facts(connection: sa.Connection, scope: str, ids: Collection[str]) -> ListFacts:
    """Return the facts about Stairoids' signals with some ids."""

    def among(column: sa.Column[Any], ids: Collection[str]) -> set[str]:
        query = _at_origin(scope, column).where(column.in_(ids))
        return set(connection.scalars(query))

    table = schema.known_signals
    rows = connection.execute(sa.select(table).where(table.c.scope == scope))
    return ListFacts(
        own=among(settled.c.signal_id, ids),
        known={(r.source, r.type): Known(r.known_until, r.signal_id) for r in rows},
        unclear=partial(_unclear_signals, connection, scope),
        sent=partial(among, schema.signals.c.signal_id),
    )


def _unclear_signals(connection: sa.Connection, scope: str) -> list[bytes]:
    table = schema.dead_letters
    unknown = _at_origin(scope, table.c.signal).where(
        table.c.outcome == Outcome.UNKNOWN
    )
    claimed = _at_origin(scope, schema.claims.c.signal)
    return [text for text in connection.scalars(sa.union_all(claimed, unknown)) if text]


def _at_origin(scope: str, column: sa.Column[Any]) -> sa.Select[Any]:
    """Return the query for a column's values at one API, in each namespace."""
    joined = streams.c.stream == column.table.c.stream
    return sa.select(column).join(streams, joined).where(at_origin(scope))


def at_origin(scope: str) -> sa.ColumnElement[bool]:
    """Return the condition that a stream is of the same API, in any namespace."""
    origin = scope.partition(" ")[0]
    is_its = streams.c.scope.startswith(f"{origin} ", autoescape=True)
    return (streams.c.scope == origin) | is_its


def in_scope(scope: str, table: sa.Table, *columns: Any) -> sa.Select[Any]:
    """Return the query for columns of the rows of a scope's streams."""
    joined = streams.c.stream == table.c.stream
    query = sa.select(*columns).join_from(table, streams, joined)
    return query.where(streams.c.scope == scope)


def is_used(of_streams: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that anything was ever settled or claimed of streams."""
    of_settled, of_claims = (
        sa.select(table.c.stream)
        .join(streams, streams.c.stream == table.c.stream)
        .where(of_streams)
        .exists()
        for table in (settled, schema.claims)
    )
    return of_settled | of_claims


def rows_in(
    connection: sa.Connection,
    key: sa.Column[Any],
    columns: tuple[str, ...],
    values: Collection[bytes],
) -> Iterator[Sequence[Any]]:
    """Yield columns of the rows whose key is one of the values."""
    names, table = ", ".join(columns), key.table.name
    for block in blocks(values):
        marks = ", ".join("?" * len(block))
        text = f"SELECT {names} FROM {table} WHERE {key.name} IN ({marks})"  # noqa: S608 - names of our own tables
        yield from execute(connection, text, block).all()


def execute(
    connection: sa.Connection,
    text: str,
    parameters: Any,  # noqa: ANN401 - a row or several
) -> sa.CursorResult[Any]:
    """Execute a statement by the driver. It is written for SQLite, and without `%`."""
    if connection.dialect.name != "sqlite":
        text = text.replace("IS ?", "IS NOT DISTINCT FROM ?").replace("?", "%s")
    return connection.exec_driver_sql(text, parameters)


def blocks(items: Collection[T]) -> list[tuple[T, ...]]:
    """Return items in blocks that a statement takes twice, beside other parameters."""
    listed, size = tuple(items), PARAMETERS // 3
    return [listed[start : start + size] for start in range(0, len(listed), size)]


def insert_text(table: sa.Table, columns: Sequence[str], count: int = 1) -> str:
    """Return the INSERT of some rows."""
    rows = ", ".join([f"({', '.join('?' * len(columns))})"] * count)
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {rows}"  # noqa: S608 - names of our own table


def upsert_text(
    table: sa.Table,
    columns: Sequence[str] = (),
    key: Sequence[str] = (),
    **changes: str,
) -> str:
    """Return the INSERT of a row that replaces the one with its key, if there is one.

    By default, of all columns and the primary key. `changes` has the SQL of columns
    that do not just get their new value.
    """
    columns = columns or table.c.keys()
    key = key or table.primary_key.columns.keys()
    new = {name: f"excluded.{name}" for name in columns if name not in key} | changes
    assigned = ", ".join(f"{name} = {value}" for name, value in new.items())
    action = f"UPDATE SET {assigned}" if assigned else "NOTHING"
    insert = insert_text(table, columns)
    return f"{insert} ON CONFLICT ({', '.join(key)}) DO {action}"
