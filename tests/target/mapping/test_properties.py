"""Mappings: the properties of a signal, and null values."""

from __future__ import annotations

from typing import Any

import pytest

from target_stairoids.exceptions import ConfigError
from tests.support.mapping_builders import (
    TEXT,
    a_map,
    a_shape,
    properties_of,
)

RECORD = {
    "trial_id": 1,
    "email": "jane@acme.com",
    "company_website": "acme.com",
    "company_name": "Acme",
    "plan": "pro",
    "seats": 5,
    "user": {"id": 1, "tags": ["a"]},
    "updated_at": "2024-06-15T14:23:00Z",
    "_sdc_deleted_at": None,
}


NO_TIME = {"skip": ["updated_at"]}


@pytest.mark.parametrize(
    ("item", "properties"),
    [
        ({"skip": ["updated_at", "plan"]}, {"trial_id": 1, "seats": 5}),
        (NO_TIME, {"trial_id": 1, "plan": "pro", "seats": 5}),
        (
            {**NO_TIME, "properties": "*", "account": {"domain": None, "name": None}},
            {
                "trial_id": 1,
                "plan": "pro",
                "seats": 5,
                "company_website": "acme.com",
                "company_name": "Acme",
            },
        ),
        (
            {**NO_TIME, "properties": "*", "contact": {"last_name": "{{ plan }}"}},
            {"trial_id": 1, "seats": 5},
        ),
        ({"properties": None}, {}),
        ({"properties": ["plan", "seats"]}, {"plan": "pro", "seats": 5}),
        ({"properties": ["email"]}, {"email": "jane@acme.com"}),
        ({"properties": ["user"]}, {"user.id": 1, "user.tags": '["a"]'}),
        (
            {"properties": ["plan", {"n": "{{ seats }}", "m": "{{ user.id }}"}]},
            {"plan": "pro", "n": 5, "m": 1},
        ),
        ({"properties": [{"a": 1}, {"b": "x"}]}, {"a": 1, "b": "x"}),
        (
            {"properties": {"a": {"b": "{{ seats }}", "c": {"d": "x{{ plan }}"}}}},
            {"a.b": 5, "a.c.d": "xpro"},
        ),
        (
            {"properties": {"a": ["{{ seats }}", {"b": "{{ plan }}"}]}},
            {"a": '[5,{"b":"pro"}]'},
        ),
        ({"properties": {"on": True, "n": 1.5, "no": None}}, {"on": True, "n": 1.5}),
        ({"properties": {"o": {"p": 1}}}, {"o.p": 1}),
    ],
)
def test_properties_are_all_some_computed_or_no_columns(
    item: dict[str, Any], properties: dict[str, Any]
) -> None:
    assert properties_of(RECORD, **item) == properties


def test_all_properties_are_scalars_without_columns_of_the_sdk() -> None:
    record = {"plan": "pro", "_sdc_batched_at": "x", "user": {"a": 1}, "list": [1]}

    assert properties_of(record, properties="*") == {"plan": "pro"}


@pytest.mark.parametrize(
    ("item", "account", "contact"),
    [
        ({"account": None}, {}, {"email": "jane@acme.com"}),
        (
            {"account": {"name": None}},
            {"domain": "acme.com"},
            {"email": "jane@acme.com"},
        ),
        ({"contact": None}, {"domain": "acme.com", "name": "Acme"}, {}),
        (
            {"contact": {"email": None}, "account": {"name": None}},
            {"domain": "acme.com"},
            {},
        ),
    ],
)
def test_null_leaves_a_field_out(
    item: dict[str, Any], account: dict[str, str], contact: dict[str, str]
) -> None:
    signal = a_map(**item).signal_from(RECORD)

    assert signal.account == account
    assert signal.contact == contact


def test_null_leaves_the_time_out() -> None:
    schema = a_shape(properties={"email": TEXT, "occurred_at": TEXT}, key=())
    record = {"email": "jane@acme.com", "occurred_at": "2024-06-15T14:23:00Z"}

    assert a_map(schema).signal_from(record).occurred_at == "2024-06-15T14:23:00Z"
    assert a_map(schema, occurred_at=None).signal_from(record).occurred_at is None


def test_mistake_inside_an_object_of_properties_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"`properties.a.b` .* did you mean `plan`"):
        a_map(properties={"a": {"b": "{{ plna }}"}})
