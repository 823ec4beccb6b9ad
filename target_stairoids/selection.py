"""Selections: which of a record's fields become a signal's properties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Record = dict[str, Any]
Reader = Callable[[Record], Any]
Selection = Callable[[Record], dict[str, Any]]


def nothing(_record: Record) -> dict[str, Any]:
    """Select no properties."""
    return {}


def these(readers: Mapping[str, Reader]) -> Selection:
    """Select what the readers give."""
    items = tuple(readers.items())
    return lambda record: {name: read(record) for name, read in items}


def all_but(hidden: frozenset[str], readers: Mapping[str, Reader]) -> Selection:
    """Select all scalars but the hidden ones, and what the readers give."""
    if not readers:
        return lambda record: _scalars(record, hidden)
    computed = these(readers)
    return lambda record: _scalars(record, hidden) | computed(record)


def _scalars(record: Record, hidden: frozenset[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if not isinstance(value, dict | list)
        and name not in hidden
        and name[:5] != "_sdc_"
    }
