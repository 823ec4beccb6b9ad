"""Any payload becomes a record that fits its schema."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from tap_stairoids_webhooks.reading.payload_schemas import KNOWN_EVENTS, conform

CREATED = KNOWN_EVENTS["signal.created"]
ACTION = KNOWN_EVENTS["automation.action_triggered"]
VALIDATORS = {
    event: Draft202012Validator(schema, format_checker=FormatChecker())
    for event, schema in KNOWN_EVENTS.items()
}


def objects_of(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    names = ["data", "account", "contact", "signal", "score", "created_at", "id", "x"]
    return st.dictionaries(st.sampled_from(names), inner, max_size=5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | objects_of(inner),
    max_leaves=20,
)


def test_documented_payload_passes_unchanged() -> None:
    payload = {
        "automation_id": "auto_1",
        "automation_name": "High-intent trial → notify sales",
        "triggered_at": "2024-09-01T14:32:05Z",
        "account": {"id": "a", "name": "n", "domain": "d"},
        "contact": {
            "id": "c",
            "email": "e",
            "name": "f l",
            "first_name": "f",
            "last_name": "l",
        },
        "signal": {
            "id": "s",
            "type": "t",
            "source": "x",
            "properties": {"a": [1, {"b": None}]},
            "created_at": "2024-09-01T14:32:05.123+02:00",
        },
    }

    assert conform(payload, ACTION) == payload


@pytest.mark.parametrize("name", ["account", "contact", "signal"])
def test_account_contact_and_signal_may_be_missing(name: str) -> None:
    assert conform({}, ACTION)[name] is None  # type: ignore[index]  # not None here


def test_unknown_fields_are_kept() -> None:
    record = conform({"new": 1, "data": {"new": {"x": 2}}}, CREATED)

    assert record is not None
    assert record["new"] == 1
    assert record["data"]["new"] == {"x": 2}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"score": 72}, {"score": 72}),
        ({"score": Decimal("72.5")}, {"score": Decimal("72.5")}),
        ({"score": "high"}, {"score": None}),
        ({"score": True}, {"score": None}),
        ({"type": 7}, {"type": "7"}),
        ({"type": Decimal("7.50")}, {"type": "7.50"}),
        ({"type": {"a": 1}}, {"type": '{"a": 1}'}),
        ({"type": [{"a": Decimal("1.5")}]}, {"type": '[{"a": 1.5}]'}),
        (
            {"created_at": "2024-10-15T09:30:00Z"},
            {"created_at": "2024-10-15T09:30:00Z"},
        ),
        ({"created_at": "yesterday"}, {"created_at": None}),
        ({"created_at": "2024-10-15T09:30:00"}, {"created_at": None}),
        ({"created_at": 1728984600}, {"created_at": None}),
        ({"account": "acme.test"}, {"account": {"value": "acme.test"}}),
        ({"properties": [1]}, {"properties": {"value": [1]}}),
    ],
)
def test_unexpected_value_fits_the_schema(
    sent: dict[str, object], kept: dict[str, object]
) -> None:
    record = conform({"data": sent}, CREATED)

    assert record is not None
    assert kept.items() <= record["data"].items()


@pytest.mark.slow
@given(event=st.sampled_from(sorted(KNOWN_EVENTS)), payload=json_values)
@settings(deadline=None, max_examples=150)
def test_arbitrary_payload_fits_its_schema(event: str, payload: object) -> None:
    shape = KNOWN_EVENTS[event]

    record = json.loads(json.dumps(conform(payload, shape)))

    assert VALIDATORS[event].is_valid(record)
