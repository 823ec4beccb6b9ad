"""Digests compare values, not their spelling."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.dedup.digests import (
    bookmark_value,
    content_digest,
    entity_digest,
    is_before,
    same_value,
    state_digest,
)
from target_stairoids.mapping.signal import Signal

SCOPE = "https://api.stairoids.com"
HALF_A_PAIR = "\ud83d"


def an_entity(
    key_value: object = 1, *, scope: str = SCOPE, stream: str = "trials"
) -> bytes:
    return entity_digest(scope, stream, {"id": key_value}, ["id"])


def a_state(**record: Any) -> bytes:
    return state_digest(b"entity", record)


def a_content(ignored: frozenset[str] = frozenset(), **more: Any) -> bytes:
    fields: dict[str, Any] = {
        "type": "trial",
        "source": "tests",
        "account": {"domain": "acme.com"},
        "contact": {"email": "jane@acme.com"},
        "properties": {"plan": "pro"},
        "occurred_at": "2024-06-15T14:23:00Z",
    }
    return content_digest(Signal(**fields | more), ignored)


EQUAL = [
    (1, 1.0),
    (1, Decimal("1.0")),
    (1, Decimal("1E+0")),
    (100, Decimal("1E+2")),
    (0, Decimal("-0.0")),
    (0, -0.0),
    (0.1, Decimal("0.10")),
    (1e22, Decimal("1E+22")),
    (10**50, Decimal("1E+50")),
    (1e300, Decimal("1E+300")),
    (Decimal("1E-38"), Decimal("0." + "0" * 37 + "1")),
    (Decimal("1E+9999"), Decimal("10E+9998")),
    (18446744073709551615, Decimal("18446744073709551615.0")),
    ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}),
    ({"a": HALF_A_PAIR, "b": 1}, {"b": 1.0, "a": HALF_A_PAIR}),
]
DIFFERENT = [
    1,
    "1",
    "1.0",
    True,
    "true",
    None,
    "null",
    "",
    0,
    False,
    -1,
    1.5,
    Decimal("1.50000000000000000000000000000000000000000000000001"),
    "1.5",
    10**50,
    "1E+50",
    Decimal("1E+9999"),
    Decimal("-1E+9999"),
    "1E+9999",
    float("nan"),
    "NaN",
    [],
    {},
    [1],
    [1, 2],
    [2, 1],
    "[1]",
    {"a": 1},
    {"a": "1"},
    HALF_A_PAIR,
    "\\ud83d",
    "é",
    "e\u0301",
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_one_digest(one: object, other: object) -> None:
    assert an_entity(one) == an_entity(other)
    assert a_state(x=one) == a_state(x=other)
    assert a_state(x=[{"y": one}]) == a_state(x=[{"y": other}])
    assert same_value(one, other)


def test_different_values_have_different_digests() -> None:
    count = len(DIFFERENT)

    assert len({an_entity(value) for value in DIFFERENT}) == count
    assert len({a_state(x=value) for value in DIFFERENT}) == count
    assert len({a_state(x=[value]) for value in DIFFERENT}) == count
    pairs = itertools.combinations(DIFFERENT, 2)
    assert not any(same_value(one, other) for one, other in pairs)


def test_entity_digest_depends_on_scope_stream_and_key() -> None:
    entities = {
        an_entity(),
        an_entity(2),
        an_entity(scope="http://127.0.0.1:8080"),
        an_entity(stream="other"),
        entity_digest(SCOPE, "trials", {"a": 1, "b": 2}, ["a", "b"]),
        entity_digest(SCOPE, "trials", {"a": 1, "b": 2}, ["b", "a"]),
        entity_digest(SCOPE, "trials", {"a": "1\x00", "b": "2"}, ["a", "b"]),
        entity_digest(SCOPE, "trials", {"a": "1", "b": "\x002"}, ["a", "b"]),
    }

    assert len(entities) == 8


def test_entity_digest_does_not_depend_on_other_columns() -> None:
    one = entity_digest(SCOPE, "trials", {"id": 1, "plan": "free"}, ["id"])
    other = entity_digest(SCOPE, "trials", {"plan": "pro", "id": 1}, ["id"])

    assert one == other


def test_missing_key_counts_as_null() -> None:
    assert entity_digest(SCOPE, "s", {}, ["id"]) == entity_digest(
        SCOPE, "s", {"id": None}, ["id"]
    )


def test_record_without_a_key_is_its_own_entity() -> None:
    def entity(stream: str = "s", **record: Any) -> bytes:
        return entity_digest(SCOPE, stream, record, [])

    assert entity(a=1, b=2) == entity(b=2.0, a=1)
    assert entity(a=1, _sdc_batched_at="now") == entity(a=1)
    assert entity(a=1) != entity(a=2)
    assert entity(a=1) != entity("other", a=1)


def test_state_digest_depends_on_the_entity() -> None:
    assert state_digest(an_entity(1), {"a": 1}) != state_digest(an_entity(2), {"a": 1})


@pytest.mark.parametrize("name", ["_sdc_batched_at", "_sdc_deleted_at", "_sdc_"])
def test_columns_of_the_sdk_are_not_part_of_the_state(name: str) -> None:
    assert a_state(a=1, **{name: "2024"}) == a_state(a=1)


def test_columns_similar_to_those_of_the_sdk_are_part_of_the_state() -> None:
    assert a_state(a=1, _sd="x") != a_state(a=1)
    assert a_state(a={"_sdc_x": 1}) != a_state(a={})


def test_null_differs_from_missing() -> None:
    assert a_state(a=None) != a_state()


def test_digests_are_16_bytes_and_the_same_in_every_process() -> None:
    """The ledger keeps them, so a change here needs a new version of its schema."""
    entity = an_entity()

    assert entity.hex() == "a06abfa76f7477870ff37ed16a12cd9c"
    assert (
        state_digest(entity, {"id": 1, "plan": "pro", "mrr": 1.5}).hex()
        == "e855a753a2c6f4b5e10066ca45e8cf24"
    )
    assert a_content().hex() == "31233aba32b3c61cd8ae4491c1403494"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def _respelled(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the JSON value with its keys reversed and whole numbers as 1.00."""
    match value:
        case bool():
            return value
        case int():
            return Decimal(f"{value}.00")
        case dict():
            return {k: _respelled(v) for k, v in reversed(value.items())}
        case list():
            return list(map(_respelled, value))
        case _:
            return value


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6))
def test_digest_does_not_depend_on_the_spelling(record: dict[str, Any]) -> None:
    respelled = _respelled(record)

    assert state_digest(b"e", record) == state_digest(b"e", respelled)
    assert entity_digest(SCOPE, "s", record, []) == entity_digest(
        SCOPE, "s", respelled, []
    )


@settings(max_examples=30, deadline=None)
@given(json_values, json_values)
def test_digests_are_equal_if_the_values_are(one: object, other: object) -> None:
    are_equal = same_value(one, other)

    assert (a_state(x=one) == a_state(x=other)) is are_equal
    assert same_value(one, _respelled(one))


@pytest.mark.parametrize(
    "change",
    [
        {"type": "other"},
        {"source": "other"},
        {"account": {"domain": "other.com"}},
        {"account": {"domain": "acme.com", "name": "Acme"}},
        {"contact": {}},
        {"properties": {}},
        {"properties": {"plan": "free"}},
        {"properties": {"plan": "pro", "seats": 1}},
        {"properties": {"Plan": "pro"}},
    ],
)
def test_content_digest_depends_on_each_part_of_the_signal(
    change: dict[str, Any],
) -> None:
    assert a_content(**change) != a_content()


def test_content_digest_does_not_depend_on_occurred_at() -> None:
    assert a_content(occurred_at=None) == a_content()
    assert a_content(occurred_at="2030-01-01T00:00:00Z") == a_content()


@pytest.mark.parametrize(
    ("ignored", "properties"),
    [
        ({"updated_at"}, {"plan": "pro", "updated_at": "2024"}),
        ({"seen"}, {"seen": 1, "plan": "pro"}),
        ({"usage"}, {"plan": "pro", "usage.clicks": 1, "usage.by.day": 2}),
        ({"usage.clicks"}, {"plan": "pro", "usage.clicks": 1}),
    ],
)
def test_ignored_property_is_not_part_of_the_content(
    ignored: set[str], properties: dict[str, Any]
) -> None:
    assert a_content(frozenset(ignored), properties=properties) == a_content()


def test_ignored_property_does_not_hide_a_longer_name() -> None:
    properties = {"plan": "pro", "usages": 1}

    assert a_content(frozenset({"usage"}), properties=properties) != a_content()


def test_numbers_in_the_content_are_compared_by_value() -> None:
    one = a_content(properties={"mrr": Decimal("1.50"), "seats": Decimal("2.0")})
    other = a_content(properties={"seats": 2, "mrr": 1.5})

    assert one == other


@pytest.mark.parametrize(
    "values",
    [
        [-1, 0, 0.5, Decimal("0.75"), 1, 9, 10, Decimal("1e3"), 10**40],
        ["1", "2", "9", "10", "11", "100"],
        [9, "10", 11],
        ["2024-01-01", "2024-01-01T00:00:01", "2024-01-01T00:00:01.5Z", "2024-01-02"],
        ["2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00-02:00"],
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
    ],
)
def test_bookmark_values_have_an_order(values: list[object]) -> None:
    found = [bookmark_value(value) or "" for value in values]

    for i, one in enumerate(found):
        for j, other in enumerate(found):
            assert is_before(one, other) is (i < j)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, "1"),
        (Decimal("1.10"), 1.1),
        ("2024-01-01", "2024-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00Z", "2024-01-01 02:00:00+02:00"),
        (1, "2024-01-01"),
        (1, "text"),
        ("2024-01-01", "text"),
        ("0001-01-01T00:00:00+14:00", "2024-01-01"),
    ],
)
def test_bookmark_values_that_are_equal_or_of_different_kinds_have_no_order(
    one: object, other: object
) -> None:
    first, second = bookmark_value(one) or "", bookmark_value(other) or ""

    assert not is_before(first, second)
    assert not is_before(second, first)


@pytest.mark.parametrize(
    "value",
    [None, True, False, [], [1], {}, {"a": 1}, float("nan"), Decimal("Infinity")],
)
def test_value_without_an_order_is_no_bookmark_value(value: object) -> None:
    assert bookmark_value(value) is None


def test_bookmark_values_that_are_plain_texts_have_no_order() -> None:
    """A wrong guess about "v10" and "v9" would lose a state."""
    one, other = bookmark_value("v10"), bookmark_value("v9")

    assert one
    assert other
    assert not is_before(one, other)
    assert not is_before(other, one)


def test_deep_value_does_not_hide_the_other_columns() -> None:
    deep: object = 1
    for _ in range(900):
        deep = {"x": deep}

    assert state_digest(b"e", {"id": 1, "a": deep}) != state_digest(
        b"e", {"id": 2, "a": deep}
    )


def test_key_may_be_inside_an_object() -> None:
    def entity(record: dict[str, Any], name: str = "user.email") -> bytes:
        return entity_digest("scope", "stream", record, [name])

    one = entity({"user": {"email": "a@acme.com", "plan": "pro"}})
    same = entity({"user": {"email": "a@acme.com", "plan": "free"}})
    other = entity({"user": {"email": "b@acme.com", "plan": "pro"}})

    assert one == same != other
    assert entity({"user.email": "a@acme.com"}) == one
    assert entity({"user": "text"}) == entity({})
