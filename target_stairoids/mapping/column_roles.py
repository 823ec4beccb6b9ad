"""The parts that columns play when records are compared: state, content, identity."""

from __future__ import annotations

from typing import Any

import msgspec

from target_stairoids.mapping.expressions.template import Fields
from target_stairoids.mapping.item import MappingItem
from target_stairoids.mapping.privacy import HiddenColumns
from target_stairoids.mapping.schema import StreamSchema

_NESTED = frozenset({dict, list})


class ColumnUse(msgspec.Struct, frozen=True):
    """How a mapping uses the columns of a stream.

    Attributes:
        read: Columns that its templates read.
        content: Those that are read for more than `occurred_at`.
        named: Columns that its properties name.
        takes_all: Whether its properties select all other columns.
        reads_record: Whether a template reads the whole record.
    """

    read: frozenset[str]
    content: frozenset[str]
    named: frozenset[str]
    takes_all: bool
    reads_record: bool


class ColumnRoles(msgspec.Struct, frozen=True):
    """The columns of a stream by their part in the digests of its records.

    Attributes:
        loaders: Columns that a loader writes at every sync, and that the mapping does
            not read. They are no part of a record's state.
        ignored: Columns that have no part in a signal's content.
        knows_content: Whether these are all such columns.
        touched: Columns that change while a record without a key stays the same one.
    """

    use: ColumnUse
    hidden: HiddenColumns
    loaders: frozenset[str]
    ignored: frozenset[str]
    knows_content: bool
    touched: frozenset[str]

    def identifies(self, name: str) -> bool:
        """Return whether a column is part of a record's identity without a key."""
        use = self.use
        if name in self.touched:
            return False
        is_used = name in use.read or name in use.named
        return use.reads_record or is_used or (use.takes_all and not self.hidden[name])

    def identity_of(self, record: Fields) -> dict[str, Any]:
        """Return the part of a record that identifies it if it has no key.

        It is the part that the mapping uses. Null and blank values are no part of it.
        """
        return {
            name: value
            for name, value in record.items()
            if value not in (None, "")
            and self.identifies(name)
            and (type(value) not in _NESTED or name in self.use.read)
        }


def column_roles(
    schema: StreamSchema,
    item: MappingItem,
    use: ColumnUse,
    ignore_changes: frozenset[str],
    loaders: frozenset[str],
    update_times: frozenset[str],
    hidden: HiddenColumns,
) -> ColumnRoles:
    """Return the roles of a stream's columns under one mapping.

    Singer's own columns have no part in a record's digests. The content is unknown if
    the mapping reads one of them.
    """
    bookmark = {schema.bookmark} if schema.bookmark else set()
    ignored = ignore_changes | loaders | bookmark
    if item.send != "on_change":
        ignored |= update_times
    reads_sdc = any(name[:5] == "_sdc_" for name in use.content)
    touched = (ignore_changes | loaders | update_times) - use.content
    return ColumnRoles(
        use=use,
        hidden=hidden,
        loaders=loaders,
        ignored=frozenset() if use.reads_record else frozenset(ignored - use.content),
        knows_content=item.send == "on_change" and not reads_sdc,
        touched=touched | (frozenset(item.skip) - use.read),
    )
