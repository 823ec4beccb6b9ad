"""The ledger's sql that every signal needs, made once.

To make a statement costs SQLAlchemy more than to execute it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, make_url, update
from sqlalchemy.dialects import sqlite

from target_stairoids.ledger.schema import claims, dead_letters, latest, settled

if TYPE_CHECKING:
    from sqlalchemy import Column, Table
    from sqlalchemy.sql.dml import Delete, Insert, Update

SETTLED = (
    settled.c.version,
    settled.c.mapping,
    settled.c.outcome,
    settled.c.run,
    settled.c.fingerprint,
)
LATEST = (
    latest.c.entity,
    latest.c.mapping,
    latest.c.version,
    latest.c.content,
    latest.c.position,
    latest.c.done,
    latest.c.basis,
    latest.c.spelling,
)

#: A driver's URL, and how it takes parameters in the order of the columns.
_DRIVERS = {
    "sqlite": ("sqlite://", "qmark"),
    "postgresql": ("postgresql+psycopg://", "format"),
}

#: Takes `key_entity`, `key_mapping` and `key_run`.
UNCLAIM: Delete = delete(claims).where(
    claims.c.entity == bindparam("key_entity"),
    claims.c.mapping == bindparam("key_mapping"),
    claims.c.run == bindparam("key_run"),
)

#: Takes `key_entity`, `key_mapping`, `key_run` and the columns to set.
CLAIM_AGAIN: Update = (
    update(claims)
    .where(
        claims.c.entity == bindparam("key_entity"),
        claims.c.mapping == bindparam("key_mapping"),
        claims.c.run == bindparam("key_run"),
    )
    .values(attempts=bindparam("attempts"), attempted_at=bindparam("attempted_at"))
)

#: Takes `key_version` and `key_mapping`.
UNBURY: Delete = delete(dead_letters).where(
    dead_letters.c.version == bindparam("key_version"),
    dead_letters.c.mapping == bindparam("key_mapping"),
)


@lru_cache(maxsize=64)
def select_by(
    key: Column[Any], columns: tuple[Column[Any], ...], count: int, paramstyle: str
) -> str:
    """Return a SELECT of the rows whose key is one of so many parameters.

    It is in the driver's own spelling, and so are the rows: this is asked of every
    record, and SQLAlchemy's way of asking takes twice as long.
    """
    names = ", ".join(column.name for column in columns)
    marks = ", ".join(["?" if paramstyle == "qmark" else "%s"] * count)
    return f"SELECT {names} FROM {key.table.name} WHERE {key.name} IN ({marks})"  # noqa: S608 - names of our own tables


@lru_cache(maxsize=64)
def select_said_otherwise(count: int, paramstyle: str) -> str:
    """Return a SELECT of what was said last of entities, where it is something else.

    It takes so many pairs of an entity and a mark, and then the mapping's name. Marks
    are versions or spellings, which no chance makes equal. Most entities have said just
    that, and so most of a repeated sync is answered with no row at all.
    """
    mark = "?" if paramstyle == "qmark" else "%s"
    pairs = ", ".join([f"({mark}, {mark})"] * count)
    columns = ", ".join(f"l.{column.name}" for column in LATEST[2:])
    return (
        f"SELECT a.column1, {columns} FROM (VALUES {pairs}) AS a"  # noqa: S608 - names of our own tables
        f" LEFT JOIN {latest.name} AS l ON l.entity = a.column1 AND l.mapping = {mark}"
        " WHERE l.content IS NULL OR (l.version <> a.column2"
        " AND (l.spelling IS NULL OR l.spelling <> a.column2))"
    )


@cache
def move_on(dialect: str) -> str:
    """Return an UPDATE that puts a version in the place of the latest one.

    It takes `version`, `position`, `spelling`, `run`; `entity`, `mapping` and the
    version in whose place it comes, and does nothing where another one is the latest.
    """
    mark = "?" if _DRIVERS[dialect][1] == "qmark" else "%s"
    what = ", ".join(
        f"{n} = {mark}" for n in ("version", "position", "spelling", "run")
    )
    where = " AND ".join(f"{n} = {mark}" for n in ("entity", "mapping", "version"))
    return f"UPDATE {latest.name} SET {what} WHERE {where}"  # noqa: S608 - names of our own table


def insert_into(dialect: str, table: Table) -> Any:  # noqa: ANN401 - of either dialect
    """Return an INSERT that knows the dialect's ON CONFLICT."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    # Late: it takes a tenth of a second that most ledgers need not wait for.
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415

    return postgresql.insert(table)


@cache
def claim(dialect: str) -> Insert:
    """Return the INSERT of claims; it returns the keys of those that are new."""
    statement: Insert = (
        insert_into(dialect, claims)
        .on_conflict_do_nothing()
        .returning(claims.c.entity, claims.c.mapping)
    )
    return statement


@cache
def upsert(dialect: str, table: Table, *key: str) -> str:
    """Return an INSERT of whole rows that replaces those with the same key.

    It takes rows as tuples in the order of the table's columns, and is text for the
    driver as that of `select_by` is.
    """
    statement = insert_into(dialect, table)
    others: dict[str, Any] = {
        c.name: statement.excluded[c.name] for c in table.c if c.name not in key
    }
    if table is settled:  # an id that is known stays known
        old, new = settled.c.signal_id, statement.excluded.signal_id
        others["signal_id"] = func.coalesce(new, old)
    replaced = statement.on_conflict_do_update(index_elements=list(key), set_=others)
    return _spelt(dialect, table, replaced)


@cache
def add(dialect: str, table: Table) -> str:
    """Return an INSERT of whole rows that leaves those that are there as they are."""
    statement = insert_into(dialect, table).on_conflict_do_nothing()
    return _spelt(dialect, table, statement)


def _spelt(dialect: str, table: Table, statement: Any) -> str:  # noqa: ANN401 - of either dialect
    url, style = _DRIVERS[dialect]
    spelling: Any = make_url(url).get_dialect()
    return str(
        statement.compile(
            dialect=spelling(paramstyle=style), column_keys=table.c.keys()
        )
    )


@cache
def bury(dialect: str) -> Insert:
    """Return the INSERT of a dead letter; a second one of a version counts up."""
    statement = insert_into(dialect, dead_letters)
    new = statement.excluded
    replaced = ("outcome", "reason", "request_id", "last_at", "signal", "record")
    buried: Insert = statement.on_conflict_do_update(
        index_elements=["version", "mapping"],
        set_={
            **{name: new[name] for name in replaced},
            "attempts": dead_letters.c.attempts + new.attempts,
        },
    )
    return buried
