"""Filters: the result for good values, null for others, and never an error."""

from __future__ import annotations

import hashlib
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.mapping.expressions.filters import FILTERS

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("domain", "https://www.Acme.com/x", "acme.com"),
        ("domain", "jane@gmail.com", "gmail.com"),
        ("domain", "n/a", None),
        ("domain", "10.0.0.1", None),
        ("domain", "bücher.example", "xn--bcher-kva.example"),
        ("company_domain", "jane@gmail.com", None),
        ("company_domain", "jane@googlemail.com", None),
        ("company_domain", "jane@acme.com", "acme.com"),
        ("email", " mailto:Jane@ACME.com ", "Jane@acme.com"),
        ("email", "unknown", None),
        ("first_name", "Ada Lovelace", "Ada"),
        ("first_name", "Ada", "Ada"),
        ("first_name", "Lovelace, Ada King", "Ada King"),
        ("first_name", "  ", None),
        ("last_name", "Ada King Lovelace", "King Lovelace"),
        ("last_name", "Lovelace, Ada", "Lovelace"),
        ("last_name", "Ada", None),
        ("last_name", ", Ada", None),
        ("iso8601", "2024-06-15 14:23:00+02:00", "2024-06-15T12:23:00Z"),
        ("iso8601", "2024-06-15 14:23:00 UTC", "2024-06-15T14:23:00Z"),
        ("iso8601", "1718461380", "2024-06-15T14:23:00Z"),
        ("iso8601", 1718461380000, "2024-06-15T14:23:00Z"),
        ("iso8601", "soon", None),
        ("slug", "Größe & Höhe!", "grosse-hohe"),
        ("slug", "Café au Lait", "cafe-au-lait"),
        ("slug", "!!!", None),
        ("sha256", "a", hashlib.sha256(b"a").hexdigest()),
        ("sha256", "", None),
        ("float", "1.50", 1.5),
        ("float", Decimal("1.10"), Decimal("1.1")),
        ("float", "", None),
        ("float", "1e999", None),
        ("float", "1.8e308", None),
        ("float", "NaN", None),
        ("float", "1,234.56", Decimal("1234.56")),
        ("float", "1.234,56 \u20ac", Decimal("1234.56")),
        ("float", "$1,234.5", Decimal("1234.5")),
        ("float", "EUR 1.234.567", 1234567),
        ("float", "1\xa0234,5", Decimal("1234.5")),
        ("float", "-0,5", Decimal("-0.5")),
        ("float", "12,50", 12.5),
        ("float", "$12.50", 12.5),
        ("int", "1'234", 1234),
        ("float", "1,234", None),
        ("float", "$1.234", None),
        ("float", "1 2345", None),
        ("float", "12,34.5", None),
        ("float", "12\u20ac50", None),
        ("float", "-$5.25", -5.25),
        ("float", "50%", None),
        ("float", "+1 555 123", None),
        ("int", "18446744073709551615", 18446744073709551615),
        ("int", "12.9", 12),
        ("int", -1.5, -1),
        ("int", "twelve", None),
        ("int", "1e9999999", None),
        ("default", None, ""),
        ("default", 0, 0),
    ],
)  # fmt: skip
def test_filter(name: str, value: object, found: object) -> None:
    assert FILTERS[name](value) == found


@pytest.mark.parametrize(
    ("name", "value", "arguments", "found"),
    [
        ("iso8601", "15.06.2024 14:23", ["%d.%m.%Y %H:%M"], "2024-06-15T14:23:00Z"),
        ("iso8601", "06/15/2024", ["%m/%d/%Y"], "2024-06-15T00:00:00Z"),
        ("iso8601", "2024", ["%m/%d/%Y"], None),
        ("iso8601", "15.06.2024 utc", ["%d.%m.%Y %Z"], "2024-06-15T00:00:00Z"),
        ("iso8601", "15.06.2024UTC", ["%d.%m.%Y%Z"], "2024-06-15T00:00:00Z"),
        ("float", "n/a", [0], 0),
        ("int", None, [7], 7),
        ("default", None, ["free"], "free"),
        ("default", "", ["free"], ""),
        ("default", "", ["free", True], "free"),
    ],
)
def test_filter_with_arguments(
    name: str, value: object, arguments: list[Any], found: object
) -> None:
    assert FILTERS[name](value, *arguments) == found


def test_zone_of_the_machine_is_not_read_as_utc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert FILTERS["iso8601"]("15.06.2024 CET", "%d.%m.%Y %Z") is None
    time.tzset()


@pytest.mark.slow
@settings(deadline=None)
@given(name=st.sampled_from(sorted(FILTERS)), value=anything)
def test_no_value_makes_a_filter_fail(name: str, value: object) -> None:
    FILTERS[name](value)
