"""The key of a dead letter: by which a person finds its row at the source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from target_stairoids.dedup.digests import value_at
from target_stairoids.mapping.config import glob_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from target_stairoids.mapping.item import MappingItem


def key_of(
    letter: Any,  # noqa: ANN401 - a row of the ledger, whose database is not known here
    items: Sequence[MappingItem],
) -> dict[str, Any]:
    """Return the names that a dead letter's key is made of, with its record's values.

    Empty if neither its mapping nor its stream names a key, or its record was not kept.

    Args:
        items: The setting `signals`: an item's `key` comes before the stream's.
    """
    of_stream = json.loads(letter.schema or "{}").get("key_properties") or []
    glob = glob_of(letter.stream_name, items)
    of_item = (
        item.key
        for item in items
        if item.stream == glob and item.key and item.name in (None, letter.mapping)
    )
    record = json.loads(letter.record or b"null")
    if record is None:
        return {}
    return {name: value_at(record, name) for name in next(of_item, of_stream)}


def key_text(key: Mapping[str, Any]) -> str:
    """Return `trial_id=3, region=eu`."""
    return ", ".join(_pairs(key))


def _pairs(key: Mapping[str, Any]) -> Iterable[str]:
    for name, value in key.items():
        # What a terminal would obey, and not show, is escaped.
        is_plain = isinstance(value, str) and value.isprintable()
        yield f"{name}={value if is_plain else json.dumps(value)}"
