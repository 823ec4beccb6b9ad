"""200 messy leads, without a mapping, against the signals of a careful person.

`tests/data/messy_leads.md` describes the data.
"""

from __future__ import annotations

import csv
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.paths import DATA

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest

TEXT = {"type": ["null", "string"]}
PRIVATE = {"password_hash", "date_of_birth", "iban"}


def leads() -> list[dict[str, str]]:
    with (DATA / "messy_leads.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def expected() -> dict[str, dict[str, Any]]:
    text = (DATA / "messy_leads_expected.json").read_text(encoding="utf-8")
    return {row["id"]: row for row in json.loads(text)}


def in_short(signal: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the expected signals have, without null."""
    time = signal.get("occurred_at")
    parts = {
        name: {n: v for n, v in (signal.get(name) or {}).items() if v is not None}
        for name in ("contact", "account")
    }
    return {**parts, "occurred_at": datetime.fromisoformat(time) if time else None}


@pytest.mark.slow
def test_messy_leads_become_the_signals_of_a_careful_person(
    sandbox: Sandbox, target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    rows = leads()
    schema = {
        "type": "SCHEMA",
        "stream": "leads",
        "schema": {"type": "object", "properties": dict.fromkeys(rows[0], TEXT)},
        "key_properties": ["id"],
    }
    records = [{"type": "RECORD", "stream": "leads", "record": row} for row in rows]

    run = target.run(schema, *records)

    bodies = {
        signal.body["properties"]["id"]: signal.body for signal in sandbox.signals
    }
    due = {id_: row for id_, row in expected().items() if row["outcome"] == "accepted"}
    assert bodies.keys() == due.keys()
    assert {id_: in_short(body) for id_, body in bodies.items()} == {
        id_: in_short(row["signal"]) for id_, row in due.items()
    }
    outcomes = [row["outcome"] for row in expected().values()]
    assert run.outcomes == {name: outcomes.count(name) for name in set(outcomes)}
    for body in bodies.values():
        assert not PRIVATE & body["properties"].keys()
        assert all(value.strip() for value in body["properties"].values())
    for column in PRIVATE:
        assert f"`{column}`" in caplog.text


def test_decided_rows_are_open_and_have_a_reason() -> None:
    decided = [row for row in expected().values() if "decided_otherwise" in row]

    assert all(row["open"] and row["decided_otherwise"] for row in decided)
