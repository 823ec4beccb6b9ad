"""A signal that breaks the contract is refused, and the response names the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Sandbox
from tests.support.sandbox_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({"type": ...}, "type"),
    ({"type": ""}, "type"),
    ({"type": " "}, "type"),
    ({"type": 1}, "type"),
    ({"source": ""}, "source"),
    ({"source": None}, "source"),
    ({"account": None}, "account"),
    ({"account": "acme.com"}, "account"),
    ({"account": {"domain": ""}}, "account.domain"),
    ({"account": {"domain": "a.b", "size": 3}}, "account.size"),
    ({"contact": []}, "contact"),
    ({"contact": {"email": None}}, "contact.email"),
    ({"contact": {"email": "a@b.c", "name": "A"}}, "contact.name"),
    ({"account_id": "acc_1"}, "account_id"),
    ({"properties": []}, "properties"),
    ({"properties": None}, "properties"),
    ({"properties": {"a": None}}, "properties.a"),
    ({"properties": {"a": []}}, "properties.a"),
    ({"properties": {"a": {}}}, "properties.a"),
    ({"occurred_at": None}, "occurred_at"),
    ({"occurred_at": ""}, "occurred_at"),
    ({"occurred_at": 1700000000}, "occurred_at"),
    ({"occurred_at": "2024-06-15"}, "occurred_at"),
    ({"occurred_at": "2024-13-15T14:23:00Z"}, "occurred_at"),
    ({"occurred_at": "2024-06-15T14:23:00"}, "occurred_at"),
    ({"occurred_at": "20240615 142300Z"}, "occurred_at"),
    ({"occurred_at": "9999-12-31T23:59:59-01:00"}, "occurred_at"),
    ({"status": "new"}, "status"),
    ({"account": ..., "contact": ...}, None),
    ({"account": {"name": "Acme"}, "contact": {"first_name": "J"}}, None),
]


@pytest.fixture(scope="module")
def shared_client() -> Iterator[Client]:
    with Sandbox() as sandbox, Client(sandbox) as client:
        yield client
        assert all(signal.type == "accepted" for signal in sandbox.signals)


@pytest.mark.parametrize(("fields", "param"), WRONG)
def test_wrong_signal_is_400_and_names_the_field(
    shared_client: Client, fields: dict[str, Any], param: str | None
) -> None:
    response = shared_client.send(**fields)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "validation_error"
    assert response.json()["error"].get("param") == param


@pytest.mark.parametrize("body", [[], "text", 1, True])
def test_body_that_is_no_object_is_400(shared_client: Client, body: object) -> None:
    response = shared_client.post("/signals", body)

    assert response.status_code == 400
    assert "object" in response.json()["error"]["message"]


def test_string_number_and_boolean_are_properties(shared_client: Client) -> None:
    properties = {"a": "", "b": "text", "c": 0, "d": -1, "e": 1.5, "f": True}
    sent = shared_client.send(type="accepted", properties=properties).json()

    read = shared_client.get(f"/signals/{sent['id']}").json()["data"]

    assert read["properties"] == properties


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"account": ..., "contact": ...},
            "At least one of account.domain or contact.email is required.",
        ),
        (
            {"account_id": "acc_1"},
            "account_id is not accepted; name the account by account.domain.",
        ),
        ({"account": {"size": 3}}, "Unknown field account.size."),
        ({"type": " "}, "type must be a non-empty string."),
        ({"type": ...}, "type is required."),
        ({"type": 1}, "type: expected `str`, got `int`."),
    ],
)
def test_refusal_has_a_clear_message(
    shared_client: Client, fields: dict[str, Any], message: str
) -> None:
    error = shared_client.send(**fields).json()["error"]

    assert error["message"] == message
