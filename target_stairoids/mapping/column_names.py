"""The names of columns by which inference finds people and companies."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Field(msgspec.Struct, frozen=True):
    """A field of a signal, and the columns that fill it."""

    kind: str
    names: tuple[str, ...] = ()
    usual: str | None = None


class Rule(msgspec.Struct, frozen=True):
    """A column of a person, and the values by which a record is filtered."""

    columns: tuple[str, ...]
    spelt: str = ".*"
    values: list[str] = []
    filter: str | None = None
    role: str | None = None
    beside: frozenset[str] = frozenset()
    streams: str | None = None


class ColumnNames(msgspec.Struct, frozen=True):
    """The tables of `column_names.toml`, which describes them."""

    update_times: frozenset[str]
    prefixes: tuple[str, ...]
    streams: dict[str, str]
    staff_prefixes: tuple[str, ...]
    staff: tuple[str, ...]
    staff_columns: tuple[frozenset[str], ...]
    webhooks: frozenset[str]
    loader_times: str
    loaders: tuple[str, ...]
    parts: frozenset[str]
    people: tuple[tuple[str, ...], ...]
    companies: frozenset[str]
    values: frozenset[str]
    types: frozenset[str]
    filters: tuple[Rule, ...]
    fields: dict[str, Field]


_FILE = Path(__file__).with_name("column_names.toml")
NAMES = msgspec.toml.decode(_FILE.read_bytes(), type=ColumnNames)
