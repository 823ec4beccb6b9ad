"""Selections: which of a record's fields become a signal's properties."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

Record = dict[str, Any]
Reader = Callable[[Record], Any]
Selection = Callable[[Record], dict[str, Any]]


def nothing(_record: Record) -> dict[str, Any]:
    """Select no properties."""
    return {}


def these(fields: Collection[str], computed: Mapping[str, Reader]) -> Selection:
    """Select fields as they are, and what the readers give."""
    if not computed:
        return lambda record: {name: record.get(name) for name in fields}
    return lambda record: (
        {name: record.get(name) for name in fields}
        | {name: read(record) for name, read in computed.items()}
    )


def all_but(hidden: frozenset[str], more: Selection) -> Selection:
    """Select all scalars but the hidden ones, and more."""
    return lambda record: _scalars(record, hidden) | more(record)


def _scalars(record: Record, hidden: frozenset[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if not isinstance(value, dict | list)
        and name not in hidden
        and name[:5] != "_sdc_"
    }
