"""The lookup: was a signal accepted although no response came?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from stairoids_common.retry import http_date
from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.signal_lookup import (
    ListedSignals,
    ServerClock,
    alike,
    ends_before,
    is_readable,
    listed,
    next_cursor,
    query_for,
    without_rivals,
)

SINCE = datetime(2024, 6, 15, 14, 23, tzinfo=UTC)
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


def alike_in(*page: object, sent: dict[str, Any] = SENT) -> dict[str, bool]:
    return alike(json.dumps(sent).encode(), SINCE, list(page))


def found_in(*page: object, sent: dict[str, Any] = SENT) -> list[str]:
    return [found for found, is_equal in alike_in(*page, sent=sent).items() if is_equal]


@pytest.mark.parametrize(("cursor", "more"), [(None, {}), ("next", {"cursor": "next"})])
def test_lookup_asks_for_the_newest_signals_of_the_source(
    cursor: str | None, more: dict[str, str]
) -> None:
    """The API may keep types and addresses in lower case, and filter exactly."""
    assert query_for("billing", cursor) == {"source": "billing", "limit": 200, **more}


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
def test_lookup_reads_pages_in_their_documented_shapes_only(
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
def test_lookup_ends_at_a_page_without_a_cursor(
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
        ([{**FOUND, "type": 7}], False),
        ([{**FOUND, "source": ["billing"]}], False),
        ([{k: v for k, v in FOUND.items() if k != "contact"}], False),
        ([{"id": "sig_1", "type": "trial", "account_id": "acc_1"}], False),
        (["sig_1"], False),
    ],
)
def test_lookup_cannot_read_a_page_without_the_compared_fields(
    page: list[object], *, readable: bool
) -> None:
    assert is_readable(json.dumps(SENT).encode(), page) is readable


@pytest.mark.parametrize(
    "spelling",
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
        {"created_at": "2024-06-15T14:22:58Z"},
        {"created_at": "2024-06-15T16:23:01+02:00"},
        {"created_at": None},
        {"created_at": 1718461381},
        {"status": "received", "unknown_field": [1]},
    ],
)
def test_lookup_finds_a_signal_in_any_spelling(spelling: dict[str, Any]) -> None:
    assert found_in({**FOUND, **spelling}) == ["sig_1"]


@pytest.mark.parametrize("name", ["occurred_at", "created_at", "score"])
def test_lookup_needs_no_optional_field(name: str) -> None:
    assert found_in(without(FOUND, name)) == ["sig_1"]


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
        {"created_at": "2024-06-15T14:22:57Z"},
        {"created_at": "2024-06-14T14:23:01Z"},
    ],
)
def test_lookup_ignores_other_signals(difference: dict[str, Any]) -> None:
    assert found_in({**FOUND, **difference}) == []


@pytest.mark.parametrize(
    ("difference", "is_doubtful"),
    [
        ({"type": "TRIAL"}, True),
        ({"source": "Billing"}, True),
        ({"account": {"domain": "other.com"}}, True),
        ({"contact": None}, True),
        ({"properties": {}}, True),
        ({"occurred_at": "2024-06-14T14:00:00Z"}, True),
        ({"type": "other"}, False),
        ({"contact": {"email": "joe@acme.com"}}, False),
        ({"created_at": "2024-06-14T14:23:01Z", "properties": {}}, False),
    ],
)
def test_signal_that_differs_may_be_the_sent_one(
    difference: dict[str, Any], *, is_doubtful: bool
) -> None:
    assert bool(alike_in({**FOUND, **difference})) is is_doubtful


@pytest.mark.parametrize(
    ("created_at", "ends"),
    [
        (["2024-06-15T14:30:00Z", "2024-06-15T14:22:57Z"], True),
        (["2024-06-15T14:30:00Z", "2024-06-15T14:22:58Z"], False),
        ([None], False),
        ([], False),
    ],
)
def test_lookup_ends_at_a_page_that_is_older_than_the_request(
    created_at: list[str | None], *, ends: bool
) -> None:
    page = [{**FOUND, "created_at": text} for text in created_at]

    assert ends_before(page, SINCE) is ends
    assert not ends_before(page, None)


def test_clock_of_the_server_is_learnt_from_its_responses() -> None:
    def response(date: str) -> Response:
        found = http_date(date)
        return Response(kind=ResponseKind.UNKNOWN, status=500, server_time=found)

    clock = ServerClock()
    clock.note(response(""), 1_000)
    clock.note(response("yesterday"), 1_000)
    assert clock.at(1_000) is None

    clock.note(response("Sat, 15 Jun 2024 14:23:10 GMT"), 1_010)
    clock.note(response("Sat, 15 Jun 2024 14:23:11 GMT"), 1_010)
    assert clock.at(1_000) == SINCE


@pytest.mark.parametrize("page", [[], [None], ["sig_1"], [[]], [{}], [7]])
def test_lookup_finds_nothing_on_a_page_without_the_signal(page: list[object]) -> None:
    assert found_in(*page) == []


def test_lookup_treats_missing_properties_as_empty() -> None:
    sent = without(SENT, "properties")

    assert found_in({**FOUND, "properties": {}}, sent=sent) == ["sig_1"]
    assert found_in({**FOUND, "properties": None}, sent=sent) == ["sig_1"]
    assert found_in(without(FOUND, "properties"), sent=sent) == ["sig_1"]


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
def test_lookup_finds_numbers_that_the_server_keeps_as_doubles(
    number: str, kept: str
) -> None:
    sent = json.dumps({**SENT, "properties": {"n": 0}}).replace("0}", f"{number}}}")
    found = {**FOUND, "properties": {"n": json.loads(kept)}}

    assert alike(sent.encode(), SINCE, [found]) == {"sig_1": True}


def test_lookup_finds_a_signal_about_a_company_only() -> None:
    sent = without(SENT, "contact")

    assert found_in({**FOUND, "contact": None}, sent=sent) == ["sig_1"]


def test_lookup_yields_all_equal_signals_in_the_order_of_the_page() -> None:
    other = {**FOUND, "id": "sig_0", "type": "other"}
    second = {**FOUND, "id": "sig_2"}

    assert found_in(None, other, FOUND, second) == ["sig_1", "sig_2"]


DOMAIN_ONLY = {**SENT, "contact": {}}
EMAIL_ONLY = {**SENT, "account": {}}
OTHER = {**SENT, "properties": {}}


@pytest.mark.parametrize(
    ("sent", "rivals", "left"),
    [
        (SENT, [], {"sig_1": True}),
        (DOMAIN_ONLY, [], {"sig_1": False}),
        (DOMAIN_ONLY, [SENT], {}),
        (EMAIL_ONLY, [SENT], {}),
        (EMAIL_ONLY, [DOMAIN_ONLY, OTHER], {"sig_1": True}),
        (SENT, [EMAIL_ONLY, DOMAIN_ONLY], {"sig_1": True}),
        (SENT, [SENT], {"sig_1": True}),  # the ledger counts equal claims
        (OTHER, [SENT], {}),
        (OTHER, [EMAIL_ONLY], {}),
    ],
)
def test_signal_belongs_to_the_request_that_says_the_same(
    sent: dict[str, Any], rivals: list[dict[str, Any]], left: dict[str, bool]
) -> None:
    others = [json.dumps(rival).encode() for rival in rivals]

    found = without_rivals(
        json.dumps(sent).encode(), alike_in(FOUND, sent=sent), [FOUND], others
    )

    assert found == left


def test_oldest_of_the_equal_signals_is_the_sent_one() -> None:
    """Stairoids may know the domain of some of them only, in any order."""
    sent = without(SENT, "contact") | {"account": {"name": "Acme"}}
    newer, older = (
        FOUND | {"id": name, "contact": None, "account": account}
        for name, account in (
            ("sig_2", {"name": "Acme"}),
            ("sig_1", {"name": "Acme", "domain": "acme.com"}),
        )
    )
    for page in ([newer, older], [older, newer]):
        listed_signals = ListedSignals()
        listed_signals.add(page, own=())

        found = listed_signals.take(json.dumps(sent).encode())

        assert found == page[-1]
