"""Was a signal accepted whose response never came? Only what fits in all is it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.signal_lookup import (
    id_of,
    is_readable,
    listed,
    next_cursor,
    query_for,
)

CLAIMED_AT = "2024-06-15T14:23:00.000Z"
SENT: dict[str, Any] = {
    "type": "trial",
    "source": "billing",
    "account": {"domain": "acme.com", "name": "Acme"},
    "contact": {"email": "jane@acme.com", "first_name": "Jane"},
    "properties": {"plan": "pro", "seats": 5, "mrr": 1.5, "is_new": True},
    "occurred_at": "2024-06-15T14:00:00.123456Z",
}
FOUND: dict[str, Any] = {
    "id": "sig_1",
    "type": "trial",
    "account": {"id": "acc_1", "domain": "acme.com", "name": "ACME", "score": 84},
    "contact": {"id": "con_1", "email": "jane@acme.com", "score": 42},
    "score": 12,
    "source": "billing",
    "properties": {"plan": "pro", "seats": 5, "mrr": 1.5, "is_new": True},
    "occurred_at": "2024-06-15T14:00:00.123456Z",
    "created_at": "2024-06-15T14:23:01Z",
}


def a_page(body: object, status: int = 200) -> Response:
    return Response(kind=ResponseKind.ACCEPTED, status=status, body=body)


def without(signal: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in signal.items() if name not in names}


def found_in(*page: object, sent: dict[str, Any] = SENT, owned: str = "") -> str | None:
    text = json.dumps(sent).encode()
    return id_of(text, CLAIMED_AT, list(page), lambda signal_id: signal_id in owned)


@pytest.mark.parametrize(
    ("sent", "cursor", "query"),
    [
        (
            SENT,
            None,
            {
                "type": "trial",
                "source": "billing",
                "limit": 200,
                "contact_email": "jane@acme.com",
            },
        ),
        (
            without(SENT, "contact"),
            "next",
            {
                "type": "trial",
                "source": "billing",
                "limit": 200,
                "account_domain": "acme.com",
                "cursor": "next",
            },
        ),
        (
            {**SENT, "contact": {"first_name": "Jane"}},
            None,
            {
                "type": "trial",
                "source": "billing",
                "limit": 200,
                "account_domain": "acme.com",
            },
        ),
    ],
)
def test_query_narrows_to_type_source_and_person_or_company(
    sent: dict[str, Any], cursor: str | None, query: dict[str, object]
) -> None:
    assert query_for(sent, cursor) == query


@pytest.mark.parametrize(
    ("body", "signals"),
    [
        ({"data": [FOUND], "meta": {"next_cursor": None}}, [FOUND]),
        ({"signals": [FOUND], "next_cursor": None, "total": 1}, [FOUND]),
        ({"data": []}, []),
        ({"data": {"id": "sig_1"}}, None),
        ({"automations": []}, None),
        ({}, None),
        ([], None),
        ("<html>", None),
        (None, None),
    ],
)
def test_page_is_read_in_its_documented_shapes_only(
    body: object, signals: list[object] | None
) -> None:
    assert listed(a_page(body)) == signals


@pytest.mark.parametrize(
    ("body", "cursor"),
    [
        ({"data": [], "meta": {"next_cursor": "c"}}, "c"),
        ({"signals": [], "next_cursor": "c"}, "c"),
        ({"data": [], "meta": {"request_id": "r"}, "next_cursor": "c"}, "c"),
        ({"data": [], "meta": {"next_cursor": None}}, None),
        ({"data": [], "meta": {"next_cursor": ""}}, None),
        ({"data": [], "meta": {}}, None),
        ({"data": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_last_page_has_no_cursor_or_a_null_or_empty_one(
    body: object, cursor: str | None
) -> None:
    assert next_cursor(a_page(body)) == cursor


@pytest.mark.parametrize(
    ("page", "readable"),
    [
        ([], True),
        ([FOUND], True),
        ([{**FOUND, "contact": "jane@acme.com"}], True),
        ([{k: v for k, v in FOUND.items() if k != "properties"}], True),
        ([FOUND, {}], False),
        ([{**FOUND, "id": 7}], False),
        ([{k: v for k, v in FOUND.items() if k != "contact"}], False),
        ([{"id": "sig_1", "type": "trial", "account_id": "acc_1"}], False),
        (["sig_1"], False),
    ],
)
def test_page_that_does_not_tell_enough_proves_nothing(
    page: list[object], *, readable: bool
) -> None:
    assert is_readable(json.dumps(SENT).encode(), page) is readable


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"account": "acme.com", "contact": "jane@acme.com"},
        {"account": {"domain": "https://www.ACME.com/"}},
        {"contact": {"email": "JANE@Acme.COM"}},
        {"properties": {"seats": 5.0, "mrr": 1.50, "is_new": True, "plan": "pro"}},
        {"occurred_at": "2024-06-15T16:00:00.123456+02:00"},
        {"occurred_at": "2024-06-15T14:00:00.123Z"},
        {"occurred_at": "2024-06-15T14:00:00Z"},
        {"occurred_at": "2024-06-15T14:00:00.123456"},
        {"occurred_at": None},
        {"occurred_at": 1718460000123},
        {"created_at": "2024-06-15T14:18:01Z"},
        {"created_at": "2024-06-15T16:23:01+02:00"},
        {"created_at": None},
        {"created_at": 1718461381},
        {"status": "received", "unknown_field": [1]},
    ],
)
def test_sent_signal_is_recognised_in_any_shape(schema: dict[str, Any]) -> None:
    assert found_in({**FOUND, **schema}) == "sig_1"


@pytest.mark.parametrize("name", ["occurred_at", "created_at", "score"])
def test_field_that_is_not_documented_may_be_missing(name: str) -> None:
    assert found_in(without(FOUND, name)) == "sig_1"


@pytest.mark.parametrize(
    "difference",
    [
        {"id": None},
        {"id": 7},
        {"type": "other"},
        {"type": None},
        {"source": "other"},
        {"account": {"domain": "other.com"}},
        {"contact": {"email": "joe@acme.com"}},
        {"properties": {}},
        {"properties": None},
        {"properties": {**SENT["properties"], "plan": "free"}},
        {"properties": {**SENT["properties"], "seats": "5"}},
        {"properties": {**SENT["properties"], "is_new": 1}},
        {"properties": {**SENT["properties"], "more": 1}},
        {"occurred_at": "2024-06-15T14:00:01.2Z"},
        {"occurred_at": "2024-06-14T14:00:00Z"},
        {"created_at": "2024-06-15T14:17:59Z"},
        {"created_at": "2024-06-14T14:23:01Z"},
    ],
)
def test_other_signal_is_not_taken_for_it(difference: dict[str, Any]) -> None:
    assert found_in({**FOUND, **difference}) is None


@pytest.mark.parametrize("page", [[], [None], ["sig_1"], [[]], [{}], [7]])
def test_page_without_it_has_no_id_for_it(page: list[object]) -> None:
    assert found_in(*page) is None


def test_signal_without_properties_equals_one_with_none() -> None:
    sent = without(SENT, "properties")

    assert found_in({**FOUND, "properties": {}}, sent=sent) == "sig_1"
    assert found_in({**FOUND, "properties": None}, sent=sent) == "sig_1"
    assert found_in(without(FOUND, "properties"), sent=sent) == "sig_1"


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("18446744073709551615", "18446744073709552000"),
        ("-9007199254740993", "-9007199254740992"),
        ("1234567890123456789012345678901234567890", "1.2345678901234568e+39"),
        ("0.1234567890123456789012345678901234567890", "0.12345678901234568"),
        ("1E-38", "1e-38"),
    ],
)
def test_number_is_recognised_that_the_server_keeps_as_a_double(
    number: str, kept: str
) -> None:
    sent = json.dumps({**SENT, "properties": {"n": 0}}).replace("0}", f"{number}}}")
    found = {**FOUND, "properties": {"n": json.loads(kept)}}

    assert id_of(sent.encode(), CLAIMED_AT, [found], lambda _: False) == "sig_1"


def test_signal_that_belongs_to_another_record_is_passed_over() -> None:
    second = {**FOUND, "id": "sig_2"}

    assert found_in(FOUND, second, owned="sig_1") == "sig_2"
    assert found_in(FOUND, owned="sig_1") is None


def test_signal_about_a_company_alone_is_recognised() -> None:
    sent = without(SENT, "contact")

    assert found_in({**FOUND, "contact": None}, sent=sent) == "sig_1"


def test_first_that_fits_is_it() -> None:
    other = {**FOUND, "id": "sig_0", "type": "other"}

    assert found_in(None, other, FOUND, {**FOUND, "id": "sig_2"}) == "sig_1"
