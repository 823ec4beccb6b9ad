"""Digests compare values, not their spelling."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.dedup.order import (
    are_ordered,
    bookmark_value,
    is_before,
    is_log_position,
    log_position,
)
from target_stairoids.dedup.record import (
    canonical_fields,
    content_digest,
    entity_digest,
    is_null_key,
    keyed_digest,
    keyless_digest,
    person_digest,
    same_value,
    value_at,
)
from target_stairoids.mapping.signal import Signal
from tests.support.ledger_builders import MONDAY

SCOPE = "https://api.stairoids.com"
HALF_A_PAIR = "\ud83d"


def an_entity(
    key_value: object = 1, *, scope: str = SCOPE, stream: str = "trials"
) -> bytes:
    return entity_digest(scope, stream, [key_value])


def state_digest(entity: bytes, record: dict[str, Any]) -> bytes:
    return keyed_digest(entity, canonical_fields(record))


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
    ("2001-02-03T11:53:10Z", "2001-02-03T11:53:10"),
    ("2001-02-03T11:53:10Z", "2001-02-03 12:53:10.000+01"),
    ("2001-02-03T11:53:10Z", "2001-02-03T06:23:10-0530"),
    ("2001-02-03T11:53:00Z", "2001-02-03 11:53"),
    ("2001-02-03T11:53:10.123456Z", "2001-02-03 11:53:10.123456000+00:00"),
    ([HALF_A_PAIR, "2001-02-03T11:53:10Z"], [HALF_A_PAIR, "2001-02-03 11:53:10"]),
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
    "2001-02-03T11:53:10Z",
    "2001-02-03T11:53:10.5Z",
    "2001-02-03T11:53:10.123456Z",
    "2001-02-03T11:53:10.123456001Z",
    "2001-02-03T11:53:10.123456002Z",
    "2001-02-03T11:53:10+02:00",
    "2001-02-03T11:53:60Z",
    "2001-13-03T11:53:10Z",
    "0001-01-01T00:00:00+01:00",
    "2001-02-03",
    "2001-02-03T00:00:00 ",
    "20010203T115310Z",
    "20010203115310",
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_one_digest(one: object, other: object) -> None:
    assert an_entity(one) == an_entity(other)
    assert a_state(x=one) == a_state(x=other)
    assert a_state(x=[{"y": one}]) == a_state(x=[{"y": other}])
    assert same_value(one, other)


#: Each row is one key.
ONE_KEY = [(1, 1.0, Decimal("1.0"), "1"), (-1, "-1"), (10**50, Decimal("1E+50"))]
DIFFERENT_KEYS = [
    1,
    "01",
    "1.0",
    "+1",
    " 1",
    True,
    "true",
    0,
    False,
    None,
    "null",
    1.5,
    "1.5",
    Decimal("1E+9999"),
    "1E+9999",
    [],
    {},
    [1],
    ["1"],
    {"a": 1},
    HALF_A_PAIR,
    "é",
    "e\u0301",
]


@pytest.mark.parametrize("spellings", ONE_KEY)
def test_whole_number_and_its_text_are_one_key(spellings: tuple[object, ...]) -> None:
    assert len({an_entity(value) for value in spellings}) == 1


def test_other_values_are_different_keys() -> None:
    assert len({an_entity(value) for value in DIFFERENT_KEYS}) == len(DIFFERENT_KEYS)


@pytest.mark.parametrize(
    ("key", "is_null"),
    [
        ([1], False),
        ([0], False),
        ([False], False),
        (["a", 1], False),
        ([None], True),
        ([""], True),
        ([" \t"], True),
        ([[]], True),
        ([{}], True),
        ([1, None], True),
        (["", "a"], True),
    ],
)
def test_key_with_a_null_or_empty_part_identifies_nothing(
    key: list[object], *, is_null: bool
) -> None:
    assert is_null_key(key) is is_null


def test_digest_of_a_person_depends_on_the_ledger_and_not_on_the_case() -> None:
    digest = person_digest(b"secret", "Jo@Acme.com")

    assert digest == person_digest(b"secret", "jo@acme.com")
    assert digest != person_digest(b"another", "jo@acme.com")
    assert digest != person_digest(b"secret", "bo@acme.com")
    assert person_digest(b"secret", "") is person_digest(b"secret", None) is None


def test_different_values_have_different_digests() -> None:
    count = len(DIFFERENT)

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
        entity_digest(SCOPE, "trials", [1, 2]),
        entity_digest(SCOPE, "trials", [2, 1]),
        entity_digest(SCOPE, "trials", ["1\x00", "2"]),
        entity_digest(SCOPE, "trials", ["1", "\x002"]),
    }

    assert len(entities) == 8


def test_record_without_a_key_is_its_own_entity() -> None:
    def entity(stream: str = "s", **used: Any) -> bytes:
        return keyless_digest(SCOPE, stream, used)

    assert entity(a=1, b=2) == entity(b=2.0, a=1)
    assert entity(a=1) != entity(a=2)
    assert entity(a=1) != entity("other", a=1)
    assert keyless_digest(SCOPE, "s", [1]) != entity_digest(SCOPE, "s", [1])
    assert keyless_digest("other", "s", [1]) != keyless_digest(SCOPE, "s", [1])


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

    assert entity.hex() == "4c678b7d4537fe0a79536ee50ba18a13"
    assert (
        state_digest(entity, {"id": 1, "plan": "pro", "mrr": 1.5}).hex()
        == "054e7e58eed5b7c8098b53a1c45f638a"
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


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6))
def test_digest_does_not_depend_on_the_spelling(record: dict[str, Any]) -> None:
    respelled = _respelled(record)

    assert state_digest(b"e", record) == state_digest(b"e", respelled)
    assert entity_digest(SCOPE, "s", [record]) == entity_digest(SCOPE, "s", [respelled])


@settings(max_examples=30)
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


@pytest.mark.parametrize("value", ["x\0", "\ud83d", "é"])
def test_every_bookmark_value_can_be_stored(value: str) -> None:
    assert (bookmark_value(value) or "").isprintable()


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
    record = {"user": {"email": "a@acme.com"}, "x.y": 1, "x": {"y": 2}, "text": "t"}

    assert value_at(record, "user.email") == "a@acme.com"
    assert value_at(record, "x.y") == 1
    assert value_at({"x.y": None, "x": {"y": 2}}, "x.y") is None
    assert value_at(record, "text.email") is value_at(record, "missing") is None


@pytest.mark.parametrize(
    "records",
    [
        [{"_sdc_lsn": 9}, {"_sdc_lsn": "10"}, {"_sdc_lsn": Decimal(11)}],
        [{"_sdc_lsn": "0/FFFFFFFF"}, {"_sdc_lsn": "1/0"}, {"_sdc_lsn": "16/B374D848"}],
        [{"_sdc_lsn_value": 1}, {"_sdc_lsn_value": 2}],
        [{"_sdc_scn": 99}, {"_sdc_scn": 100}],
        [{"_ab_cdc_lsn": 99.0}, {"_ab_cdc_lsn": 100.0}],
        [{"_ab_cdc_lsn": "9:1A8:2"}, {"_ab_cdc_lsn": "2A:1A8:2"}],
        [{"_ab_cdc_cursor": 99}, {"_ab_cdc_cursor": 100}],
        [
            {"_sdc_log_file": "bin.000009", "_sdc_log_pos": 500},
            {"_sdc_log_file": "bin.000010", "_sdc_log_pos": 4},
            {"_sdc_log_file": "bin.000010", "_sdc_log_pos": 5},
        ],
        [
            {"_ab_cdc_log_file": "bin.999999", "_ab_cdc_log_pos": 5},
            {"_ab_cdc_log_file": "bin.1000000", "_ab_cdc_log_pos": 4},
        ],
        [{"_sdc_lsn": "0x9"}, {"_sdc_lsn": "0xA"}],
    ],
)
def test_log_positions_have_an_order(records: list[dict[str, Any]]) -> None:
    found = [log_position(record) for record in records]

    assert all(is_log_position(place) for place in found)
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            assert are_ordered(one, other)
            assert is_before(one, other) is (i < j)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"id": 1, "updated_at": "2024-01-01"},
        {"_sdc_lsn": None},
        {"_sdc_lsn": True},
        {"_sdc_lsn": -1},
        {"_sdc_lsn": float("nan")},
        {"_sdc_lsn": "text"},
        {"_sdc_lsn": ""},
        {"_sdc_lsn": [1]},
        {"_sdc_log_pos": 4},
        {"_sdc_log_file": "no number", "_sdc_log_pos": 4},
        {"_sdc_log_file": None, "_sdc_log_pos": 4},
        {"_sdc_log_file": "bin.000010"},
    ],
)
def test_record_without_a_log_position(record: dict[str, Any]) -> None:
    assert log_position(record) is None


def test_next_column_has_the_log_position_if_the_first_has_none() -> None:
    assert log_position({"_sdc_lsn": None, "_sdc_scn": 5}) == log_position(
        {"_sdc_scn": 5}
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"_sdc_lsn": 1}, {"_sdc_scn": 2}),
        ({"_sdc_lsn": 1}, {"_sdc_lsn": "0/2"}),
        ({"_sdc_lsn": 1}, {}),
    ],
    ids=["of two databases", "of two spellings", "without one"],
)
def test_log_positions_of_two_kinds_have_no_order(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = log_position(one), log_position(other)

    assert not are_ordered(first, second)
    assert not is_before(first, second)
    assert not is_before(second, first)


@pytest.mark.parametrize(
    ("one", "other", "ordered"),
    [
        ("n1", "n1", True),
        ("n1", "n2", True),
        (MONDAY, MONDAY, True),
        ("sv9", "sv10", False),
        ("n1", MONDAY, False),
        ("n1", "l_sdc_lsn/1 00000000000000000002", False),
        (None, "n1", False),
        ("n1", None, False),
        (None, None, False),
    ],
)
def test_bookmark_values_of_one_kind_are_ordered(
    one: str | None, other: str | None, *, ordered: bool
) -> None:
    assert are_ordered(one, other) is ordered
    assert not is_log_position(one)
