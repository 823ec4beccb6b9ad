"""Values of a tap in the forms that the API accepts."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.signal import flat_properties
from target_stairoids.mapping.values import text_from

HALF_A_PAIR = "\ud83d"


def nested(depth: int, *, in_lists: bool) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if in_lists else {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" Acme ", "Acme"),
        (7, "7"),
        (1.5, "1.5"),
        (Decimal("1.10"), "1.10"),
        (18446744073709551615, "18446744073709551615"),
        ("", None),
        (" \t\n", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (Decimal("Infinity"), None),
        (["Acme"], None),
        ({}, None),
    ],
)
def test_text_is_trimmed_and_numbers_become_text(
    value: object, text: str | None
) -> None:
    assert text_from(value) == text


@pytest.mark.parametrize(
    ("given_properties", "flat"),
    [
        ({"a": "x", "b": 1, "c": True, "d": False}, None),
        ({"a": Decimal("1.10"), "b": Decimal("1e-38")}, None),
        ({"a": 18446744073709551615, "b": -1}, None),
        ({"a": None, "b": "", "c": " \t"}, {}),
        ({"a": {"b": {"c": 1}, "d": None}}, {"a.b.c": 1}),
        ({"a": {}}, {}),
        ({"a": []}, {"a": "[]"}),
        ({"a": [1, "x", None, {"z": 1, "b": [True]}]},
         {"a": '[1,"x",null,{"b":[true],"z":1}]'}),
        ({"a": [Decimal("1.10")]}, {"a": "[1.10]"}),
        ({"ключ": "знач", "a b": "é"}, None),
        ({"a.b": 1, "🚀": "🚀", 'with "quotes"': 2}, None),
        ({"a.b": 1, "a": {"c": 2}}, {"a.b": 1, "a.c": 2}),
        ({"a.b": 1, "a": {"b": 1}}, {"a.b": 1}),
        ({"a.b": None, "a": {"b": 1}}, {"a.b": 1}),
    ],
)  # fmt: skip
def test_properties_are_flat_scalars(
    given_properties: dict[str, Any], flat: dict[str, Any] | None
) -> None:
    expected = given_properties if flat is None else flat

    assert flat_properties(given_properties) == expected


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (float("nan"), "properties.a"),
        (float("inf"), "properties.a"),
        (Decimal("-Infinity"), "properties.a"),
        (Decimal("sNaN"), "properties.a"),
        (Decimal("1e400"), "properties.a"),
        (-(10**309), "properties.a"),
        ([Decimal("1e400")], "properties.a"),
        ({"b": float("nan")}, "properties.a.b"),
        ([float("nan")], "properties.a"),
        ([[{"x": float("inf")}]], "properties.a"),
    ],
)
def test_number_that_no_double_holds_is_refused_at_any_depth(
    value: object, field: str
) -> None:
    with pytest.raises(InvalidSignalError) as refused:
        flat_properties({"a": value})

    assert refused.value.reason == f"{field}: not a number that a double holds"


@pytest.mark.parametrize(
    "properties",
    [
        {"a.b": 1, "a": {"b": 2}},
        {"a": {"b": 2}, "a.b": "2"},
        {"a": {"b.c": [1], "b": {"c": [2]}}, "d": 1},
    ],
)
def test_two_values_with_one_name_are_refused(properties: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignalError) as refused:
        flat_properties(properties)

    assert re.fullmatch(
        r"properties\.a\.b(\.c)?: two values have this name", refused.value.reason
    )


@pytest.mark.parametrize("in_lists", [True, False])
def test_200_levels_of_nesting_are_flattened(*, in_lists: bool) -> None:
    flat = flat_properties({"p": nested(200, in_lists=in_lists)})

    if in_lists:
        assert flat == {"p": "[" * 200 + "1" + "]" * 200}
    else:
        assert flat == {"p" + ".a" * 200: 1}


@pytest.mark.parametrize("in_lists", [True, False])
def test_100000_levels_of_nesting_are_refused(*, in_lists: bool) -> None:
    with pytest.raises(InvalidSignalError, match="properties: nested too deeply"):
        flat_properties({"p": nested(100_000, in_lists=in_lists)})
