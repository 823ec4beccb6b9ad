"""Mapping: from a parsed record to digests and a normalised signal.

The record has ten fields. The mapping names bare paths. The baseline is `json.loads` of
the record's line. Two more figures are the extra time of a template with a filter and
of a template that Jinja evaluates.
"""

from __future__ import annotations

import json
import statistics
import time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.figures import Figure, in_turn, median_ratio
from target_stairoids.dedup.record import Record, content_digest, entity_digest
from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.mapping.signals_setting import MappingItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures import Scope

RECORD: dict[str, Any] = {
    "id": 12345,
    "email": "jane.doe@acme.com",
    "full_name": "Jane Doe",
    "company": "Acme Corp",
    "website": "https://www.acme.com/",
    "plan": "pro",
    "seats": 5,
    "mrr": Decimal("99.50"),
    "is_active": True,
    "updated_at": "2026-01-01T02:00:00.002Z",
}
LINE = json.dumps({"type": "RECORD", "stream": "crm", "record": RECORD}, default=float)
ITEM: dict[str, Any] = {
    "stream": "crm",
    "type": "contact",
    "source": "crm",
    "account": {"domain": "{{ website }}", "name": "{{ company }}"},
    "contact": {"email": "{{ email }}", "first_name": None, "last_name": None},
    "occurred_at": "{{ updated_at }}",
    "properties": ["plan", "seats", "mrr", "is_active"],
}
WITH_FILTER = {**ITEM, "account": {"domain": "{{ website | domain }}", "name": None}}
WITHOUT = {**ITEM, "account": {"domain": "{{ website }}", "name": None}}
BY_JINJA = {**ITEM, "account": {"domain": "{{ website ~ '' }}", "name": None}}


def mapped(item: dict[str, Any]) -> Callable[[], object]:
    """Return the work of a mapping for one record."""
    shape = StreamSchema(
        name="crm",
        properties={name: {} for name in RECORD},
        key_properties=("id",),
        bookmark="updated_at",
    )
    (compiled_mapping,) = mappings_for(
        shape, [msgspec.convert(item, MappingItem)], "crm"
    )
    silent = {"updated_at"}

    def run() -> object:
        entity = entity_digest("scope", "crm", [RECORD["id"]])
        version = Record(None, RECORD).state_digest(
            entity, compiled_mapping.columns.loaders
        )
        return version, content_digest(compiled_mapping.signal_from(RECORD), silent)

    return run


def microseconds(run: Callable[[], object], times: int) -> float:
    """Return the microseconds of one call."""
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times * 1e6


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield the time of a record, and the extra time of templates."""
    times = scope.number(10_000)
    runs: dict[str, Callable[[], object]] = {
        "json.loads": lambda: json.loads(LINE),
        "mapping": mapped(ITEM),
        "without": mapped(WITHOUT),
        "filter": mapped(WITH_FILTER),
        "jinja": mapped(BY_JINJA),
    }
    measures = {n: partial(microseconds, run, times) for n, run in runs.items()}
    found = in_turn(measures, scope.rounds * 5)
    medians = {name: statistics.median(values) for name, values in found.items()}
    yield Figure(
        path="mapping a record, with its digests",
        value=medians["mapping"],
        unit="us",
        at_most=15,
    )
    yield Figure(
        path="the same",
        value=medians["mapping"],
        unit="us",
        beside=f"`json.loads` of its line, {medians['json.loads']:.1f} us",
        ratio=median_ratio(found["mapping"], found["json.loads"]),
        at_most=5,
    )
    for name, path in (("filter", "a filter"), ("jinja", "an expression by Jinja")):
        yield Figure(
            path=f"mapping: {path} more",
            value=medians[name] - medians["without"],
            unit="us",
            at_most=10,
        )
