"""Writes the inputs: outputs of taps in the sizes of the benchmarks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERS = dict.fromkeys(("id", "seats"), "integer") | {"mrr": "number"}
_TEXTS = ("email", "company", "website", "stage", "plan", "city", "updated_at")


def write_contacts(path: Path, count: int, *, month: int = 1, people: int = 1) -> None:
    """Write ten-field CRM records, with a STATE after each 10,000.

    Args:
        month: The month of `updated_at`, the bookmark. Another month touches each
            record.
        people: How many records share each key.
    """
    properties = {
        name: {"type": ["null", _NUMBERS.get(name, "string")]}
        for name in ("id", *_TEXTS, "seats", "mrr")
    }
    schema = {
        "type": "SCHEMA",
        "stream": "crm-contacts",
        "schema": {"type": "object", "properties": properties},
        "key_properties": ["id"],
        "bookmark_properties": ["updated_at"],
    }
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(schema) + "\n")
        for n in range(1, count + 1):
            record = {**_contact(n, month), "id": n // people}
            line = {"type": "RECORD", "stream": "crm-contacts", "record": record}
            file.write(json.dumps(line) + "\n")
            if n % 10_000 == 0:
                file.write(json.dumps({"type": "STATE", "value": {"at": n}}) + "\n")


def _contact(n: int, month: int) -> dict[str, Any]:
    return {
        "id": n,
        "email": f"user.{n}@company{n % 997}.example.com",
        "company": f"Company {n % 997}",
        "website": f"https://www.company{n % 997}.example.com/",
        "stage": ("lead", "qualified", "customer")[n % 3],
        "plan": ("free", "pro", "team")[n % 3],
        "city": "Rotterdam",
        "updated_at": f"2026-{month:02}-{n % 28 + 1:02}T00:00:00Z",
        "seats": n % 50,
        "mrr": n % 1000 + 0.25,
    }


def write_trials(path: Path, count: int) -> None:
    """Write small records, each with its own person."""
    types = {"id": "integer", "email": "string", "plan": "string"}
    properties = {name: {"type": kind} for name, kind in types.items()}
    schema = {
        "type": "SCHEMA",
        "stream": "trials",
        "schema": {"properties": properties},
        "key_properties": ["id"],
    }
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(schema) + "\n")
        for n in range(1, count + 1):
            record = {"id": n, "email": f"u{n}@c{n}.example.com", "plan": "pro"}
            line = {"type": "RECORD", "stream": "trials", "record": record}
            file.write(json.dumps(line) + "\n")
