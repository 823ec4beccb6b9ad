"""Selections: which of a record's fields become a signal's properties."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

Fields = dict[str, Any]
Reader = Callable[[Fields], Any]
Selection = Callable[[Fields], dict[str, Any]]


def nothing(_record: Fields) -> dict[str, Any]:
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


def all_but(hidden: frozenset[str], more: Selection | None = None) -> Selection:
    """Select all scalars but the hidden ones, and more."""
    if more is None:
        return lambda record: _scalars(record, hidden)
    return lambda record: _scalars(record, hidden) | more(record)


_NESTED = frozenset({dict, list})


def _scalars(record: Fields, hidden: frozenset[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if name not in hidden and type(value) not in _NESTED and name[:5] != "_sdc_"
    }
