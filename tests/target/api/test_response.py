"""A response: its kind, signal id, request id and reason."""

from __future__ import annotations

import pytest

from target_stairoids.api.client import Response, ResponseKind, kind_of


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ([200, 201, 202, 204, 299], ResponseKind.ACCEPTED),
        ([301, 302, 303, 304, 307, 308], ResponseKind.REFUSED),
        ([401, 402, 403, 404, 405, 407, 410], ResponseKind.REFUSED),
        ([400, 406, 409, 411, 413, 414, 415, 418, 422, 425, 431, 451, 499],
         ResponseKind.REJECTED),
        ([429], ResponseKind.THROTTLED),
        ([408, 500, 501, 502, 503, 504, 505, 520, 524, 599], ResponseKind.UNKNOWN),
        ([0, 100, 101, 199, 600, 999], ResponseKind.UNKNOWN),
    ],
)  # fmt: skip
def test_status_has_one_kind(statuses: list[int], kind: ResponseKind) -> None:
    found = {status: kind_of(status, asks_to_return=False) for status in statuses}

    assert found == dict.fromkeys(statuses, kind)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, ResponseKind.NOT_SENT),
        (500, ResponseKind.UNKNOWN),
        (429, ResponseKind.THROTTLED),
        (201, ResponseKind.ACCEPTED),
    ],
)
def test_503_with_retry_after_was_not_accepted(status: int, kind: ResponseKind) -> None:
    assert kind_of(status, asks_to_return=True) is kind


def a_response(body: object, status: int = 201) -> Response:
    kind = kind_of(status, asks_to_return=False)
    return Response(kind=kind, status=status, body=body)


@pytest.mark.parametrize(
    ("body", "signal_id"),
    [
        ({"id": "sig_1", "status": "received", "account_id": None}, "sig_1"),
        ({"id": "sig_1", "account": {"id": "acc_1"}, "score": 12}, "sig_1"),
        (
            {"data": {"id": "sig_1"}, "meta": {"request_id": "req_1"}},
            "sig_1",
        ),
        ({"id": "outer", "data": {"id": "sig_1"}}, "sig_1"),
        ({"id": "sig_1", "data": "no object"}, "sig_1"),
        ({"id": "sig_1", "data": None}, "sig_1"),
        ({"data": {}}, None),
        ({"id": 7}, None),
        ({"id": ""}, None),
        ({"id": "x" * 3_000}, None),  # PostgreSQL stores none in an index
        ({"id": "sig_\0"}, None),
        ({"id": "sig_\x1b[31m"}, None),
        ({"id": None}, None),
        ({"data": []}, None),
        ({}, None),
        ([], None),
        ("sig_1", None),
        (None, None),
    ],
)
def test_signal_id_is_read_from_three_documented_shapes(
    body: object, signal_id: str | None
) -> None:
    response = a_response(body)

    assert response.signal_id == signal_id
    assert response.kind is ResponseKind.ACCEPTED


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"account_id": "acc_1", "contact_id": None}, ("acc_1", None)),
        ({"account": {"id": "acc_1"}, "contact": {"id": "con_1"}}, ("acc_1", "con_1")),
        ({"account_id": None, "account": {"id": "acc_1"}}, ("acc_1", None)),
        ({"account": "acc_1", "contact": {"email": "a@b.co"}}, (None, None)),
        ({"account_id": 7, "contact": None}, (None, None)),
    ],
)
def test_ids_of_account_and_contact_are_read_from_all_documented_shapes(
    body: dict[str, object], ids: tuple[str | None, str | None]
) -> None:
    for shape in ({"id": "sig_1", **body}, {"data": {"id": "sig_1", **body}}):
        assert a_response(shape).ids == ("sig_1", *ids)


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        ({"error": {"code": "x", "request_id": "req_1"}}, "req_1"),
        ({"error": {"code": "x"}, "meta": {"request_id": "req_1"}}, "req_1"),
        ({"error": {"code": "x"}, "request_id": "req_1"}, "req_1"),
        ({"data": {}, "meta": {"request_id": "req_1"}}, "req_1"),
        ({"error": "text", "request_id": "req_1"}, "req_1"),
        ({"error": {"request_id": None}, "request_id": "req_1"}, "req_1"),
        ({"request_id": "r" * 5000}, "r" * 100),
        ({"request_id": 7}, None),
        ({"request_id": "a\0b"}, "a\\u0000b"),  # PostgreSQL stores no NUL
        ({"meta": None}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_request_id_is_read_from_three_documented_places(
    body: object, request_id: str | None
) -> None:
    assert a_response(body, 422).request_id == request_id


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (422, {"error": {"code": "validation_error"}}, "422 validation_error"),
        (400, {"error": {"code": "invalid_payload"}}, "400 invalid_payload"),
        (401, {"error": {"code": "unauthorized", "message": "CANARY"}},
         "401 unauthorized"),
        (422, {"error": {"code": "x", "param": "contact.email", "message": "CANARY"}},
         "422 x"),
        (422, {"error": {"code": "jane CANARY@acme.com"}}, "422 without an error code"),
        (422, {"error": {"code": "x" * 999}}, "422 " + "x" * 60),
        (422, {"error": {"code": ""}}, "422 without an error code"),
        (422, {"error": {"code": 7}}, "422 without an error code"),
        (422, {"error": "CANARY"}, "422 without an error code"),
        (422, {"error": None}, "422 without an error code"),
        (500, None, "500 without an error code"),
        (500, [1], "500 without an error code"),
        (302, None, "302 without an error code"),
    ],
)  # fmt: skip
def test_reason_is_status_and_error_code_without_the_message(
    status: int, body: object, reason: str
) -> None:
    assert a_response(body, status).reason == reason


def test_reason_without_a_response_is_the_trouble() -> None:
    response = Response(kind=ResponseKind.UNKNOWN, failure="no response in time")

    assert response.reason == "no response in time"
    assert response.request_id is None
    assert response.signal_id is None
