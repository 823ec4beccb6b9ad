"""Mappings: under which names something was said of a stream's entities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from target_stairoids.ledger.schema import latest

if TYPE_CHECKING:
    from sqlalchemy import Column, Select

    from target_stairoids.ledger.ledger import Ledger


def has_said(ledger: Ledger, stream: int, mapping: str) -> bool:
    """Say whether a mapping has said anything of a stream."""
    query = _said(latest.c.stream, stream).where(latest.c.mapping == mapping)
    with ledger.reading() as connection:
        return connection.scalar(query.limit(1)) is not None


def mappings_of(ledger: Ledger, stream: int) -> set[str]:
    """Return the mappings that have said something of a stream; reads all of it."""
    query = _said(latest.c.mapping, stream).distinct()
    with ledger.reading() as connection:
        return set(connection.scalars(query))


def _said(column: Column[Any], stream: int) -> Select[Any]:
    """Select of what was said: what was rejected only has no content."""
    return select(column).where(
        latest.c.stream == stream, latest.c.content.is_not(None)
    )
