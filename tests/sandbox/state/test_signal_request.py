"""A signal that does not fit the contract is refused with the field to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox.exceptions import ApiError
from stairoids_sandbox.state.signal_request import draft_from
from tests.support.sandbox_client import Client, a_body

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox

UNFIT: list[tuple[dict[str, Any], str | None]] = [
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
    ({"occurred_at": 1700000000}, "occurred_at"),
    ({"occurred_at": "2024-06-15"}, "occurred_at"),
    ({"occurred_at": "2024-06-15T14:23:00"}, "occurred_at"),
    ({"occurred_at": "2024-13-15T14:23:00Z"}, "occurred_at"),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
    ({"status": "new"}, "status"),
    ({"account": ..., "contact": ...}, None),
    ({"account": {"name": "Acme"}, "contact": {"first_name": "J"}}, None),
]


@pytest.mark.parametrize(("fields", "param"), UNFIT)
def test_unfit_signal_is_refused(fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        draft_from(a_body(**fields))

    assert caught.value.status == 400
    assert caught.value.code == "validation_error"
    assert caught.value.param == param


@pytest.mark.parametrize("body", [None, [], "text", 1, True])
def test_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(ApiError, match="object"):
        draft_from(body)


@pytest.mark.parametrize("value", ["", "text", 0, -1, 1.5, True, False])
def test_string_number_and_boolean_are_properties(value: object) -> None:
    assert draft_from(a_body(properties={"a": value})).properties == {"a": value}


def test_refusal_has_the_documented_message(client: Client, sandbox: Sandbox) -> None:
    answer = client.send(account=..., contact=...)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        "At least one of account.domain or contact.email is required."
    )
    assert sandbox.signals == []
