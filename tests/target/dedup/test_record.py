"""Records: their JSON text and their fields give the same digests."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.dedup.record import Record, RecordReader
from target_stairoids.exceptions import MessageError
from target_stairoids.mapping.schema import ColumnSet

ENTITY = b"entity"
NO_LOADERS = ColumnSet(frozenset(), frozenset({"loaded_at"}))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner),
    max_leaves=8,
)
records = st.dictionaries(st.text("abc", min_size=1), values, max_size=5)


def without_loaders(*more: str) -> ColumnSet:
    return ColumnSet(frozenset(more), frozenset())


def as_sent(record: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(record).encode())


def as_fields(record: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(
        json.dumps(record)
    )


def read(text: bytes, *key: str) -> Record:
    return RecordReader([key]).read(msgspec.Raw(text))


@pytest.mark.slow
@settings(max_examples=50)
@given(records, st.sets(st.sampled_from("abc")))
def test_text_and_fields_make_the_same_record(
    record: dict[str, Any], ignored: set[str]
) -> None:
    sent = RecordReader([["a"]]).read(as_sent(record))
    fields = RecordReader([["a"]]).read(as_fields(record))

    assert sent.fields == fields.fields
    assert sent.key.get("a") == fields.key.get("a")
    assert sent.state_digest(ENTITY, NO_LOADERS) == fields.state_digest(
        ENTITY, NO_LOADERS
    )
    columns = without_loaders(*ignored)
    assert sent.source_digest(columns) == fields.source_digest(columns)
    assert sent.state_digest(ENTITY, columns) == fields.state_digest(ENTITY, columns)


@pytest.mark.parametrize("depth", [199, 200, 201, 400])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_text_and_fields_of_a_deep_record_have_the_same_digest(
    depth: int, brackets: str
) -> None:
    opening, closing = ("[", "]") if brackets == "[]" else ('{"x":', "}")
    text = f'{{"a": {opening * depth}1.50{closing * depth}}}'
    fields = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(text)

    sent = read(text.encode(), "id")

    assert sent.state_digest(ENTITY, NO_LOADERS) == Record(None, fields).state_digest(
        ENTITY, NO_LOADERS
    )


def test_same_values_in_another_spelling_have_one_state_digest() -> None:
    one = read(b'{"id": 1, "mrr": 1.50, "seats": 2}', "id")
    other = read(b'{"mrr":1.5,"seats":2.0,"id":1}', "id")

    assert one.text_digest != other.text_digest
    assert one.state_digest(ENTITY, NO_LOADERS) == other.state_digest(
        ENTITY, NO_LOADERS
    )


def test_state_digest_depends_on_the_entity() -> None:
    record = read(b'{"id": 1}', "id")

    one, other, again = (
        record.state_digest(entity, NO_LOADERS) for entity in (b"1", b"2", b"1")
    )

    assert one != other
    assert one == again


def test_columns_of_loaders_are_not_part_of_the_state() -> None:
    one = read(b'{"id": 1, "loaded_at": 1}', "id")
    other = read(b'{"id": 1, "loaded_at": 2}', "id")
    loaders = without_loaders()

    assert one.state_digest(ENTITY, loaders) == other.state_digest(ENTITY, loaders)
    assert one.state_digest(ENTITY, NO_LOADERS) != one.state_digest(ENTITY, loaders)
    assert one.state_digest(ENTITY, NO_LOADERS) != other.state_digest(
        ENTITY, NO_LOADERS
    )


def test_source_digest_depends_on_the_columns_that_are_used() -> None:
    one = read(b'{"id": 1, "plan": "pro", "touched": 1}', "id")
    other = read(b'{"id": 1, "plan": "pro", "touched": 2}', "id")
    unused = without_loaders("touched")

    assert one.source_digest(NO_LOADERS) != other.source_digest(NO_LOADERS)
    assert one.source_digest(unused) == other.source_digest(unused)
    assert one.source_digest(unused) != one.source_digest(NO_LOADERS)


def test_key_is_decoded_before_the_rest() -> None:
    reader = RecordReader([["id"], ["user.email"]], ["updated_at"])
    text = (
        b'{"id": 1, "user": {"email": "a@b.example"}, "plan": "pro", "updated_at": 3}'
    )

    record = reader.read(msgspec.Raw(text))

    assert record.key == {"id": 1, "user": {"email": "a@b.example"}, "updated_at": 3}
    assert record.fields["plan"] == "pro"


@pytest.mark.parametrize("name", ["Größe", "日本", "\U0001f600", 'a"b\\c\nd', "a.é"])
@pytest.mark.parametrize("is_escaped", [True, False])
def test_key_may_have_any_name(name: str, *, is_escaped: bool) -> None:
    text = json.dumps({"x": 1, name: 7}, ensure_ascii=is_escaped).encode()

    assert read(text, name).key[name] == 7
    assert read(text, "x").fields == {"x": 1, name: 7}
    assert RecordReader([["x"]], [name]).read(msgspec.Raw(text)).key[name] == 7


def test_record_without_a_key_is_decoded_whole() -> None:
    reader = RecordReader([["id"], []])

    record = reader.read(msgspec.Raw(b'{"id": 1, "plan": "pro"}'))

    assert record.key == {"id": 1, "plan": "pro"}


@pytest.mark.parametrize("key", [[["id"]], [[]]], ids=["key", "no key"])
@pytest.mark.parametrize("text", [b"[1]", b"1", b"null", b'"{}"', b""])
def test_record_that_is_no_object_is_an_error(
    key: list[list[str]], text: bytes
) -> None:
    with pytest.raises(
        MessageError, match="lacks its record, or the record is no object"
    ):
        RecordReader(key).read(msgspec.Raw(text))


@pytest.mark.parametrize(
    "value",
    ["1e9999999999999999999", "-1E-9999999999999999999", "[" * 200_000 + "]" * 200_000],
)
def test_record_that_cannot_be_decoded_is_an_error(value: str) -> None:
    text = f'{{"id": 1, "a": {value}}}'.encode()
    record = Record(text, {"id": 1})

    with pytest.raises(MessageError, match="nested too deeply or"):
        record.state_digest(ENTITY, NO_LOADERS)
    with pytest.raises(MessageError, match="nested too deeply or"):
        _ = record.fields
