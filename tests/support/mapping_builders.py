"""Builders of schemas and compiled mappings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.mapping.signals_setting import MappingItem

if TYPE_CHECKING:
    from target_stairoids.mapping.signal import CompiledMapping

TEXT = {"type": ["null", "string"]}
TRIALS = dict.fromkeys(
    ["trial_id", "email", "company_website", "company_name", "plan", "seats"], TEXT
) | {"user": {"type": "object"}, "updated_at": TEXT, "_sdc_deleted_at": TEXT}


def a_shape(
    name: str = "public-trials",
    properties: dict[str, Any] = TRIALS,
    key: tuple[str, ...] = ("trial_id",),
) -> StreamSchema:
    return StreamSchema(name=name, properties=properties, key_properties=key)


def items_of(*items: dict[str, Any]) -> tuple[MappingItem, ...]:
    return msgspec.convert(items, tuple[MappingItem, ...])


def a_map(schema: StreamSchema | None = None, **item: Any) -> CompiledMapping:
    found = mappings_for(
        schema or a_shape(), items_of({"stream": "*", **item}), "tests"
    )
    assert len(found) == 1
    return found[0]


def properties_of(record: dict[str, Any], **item: Any) -> dict[str, Any]:
    return dict(a_map(**item).signal_from(record).properties)
