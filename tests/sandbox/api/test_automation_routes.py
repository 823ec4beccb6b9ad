"""Automations are created and listed as documented, and call their endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.sandbox_client import wait_until

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.sandbox_client import Client
    from tests.support.sandbox_receiver import Receiver

CONDITION = {"field": "signal.type", "operator": "equals", "value": "demo_requested"}


def an_automation(**fields: object) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": "Demo → sales",
        "type": "outgoing",
        "enabled": True,
        "trigger": {"event": "signal.created", "conditions": [CONDITION]},
        "action": {"type": "webhook", "config": {"url": "https://example.com/"}},
    }
    return {name: value for name, value in {**body, **fields}.items() if value != ...}


def an_action(**config: object) -> dict[str, Any]:
    return {"type": "webhook", "config": {"url": "https://example.com/", **config}}


def test_automation_fires_with_its_headers(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    action = an_action(url=receiver.url, headers={"X-Team": "sales"})
    created = client.post("/automations", an_automation(action=action))
    client.send()
    client.send(type="demo_requested")
    wait_until(lambda: len(receiver.received) == 1)

    assert created.status_code == 201
    assert created.json()["id"].startswith("auto_")
    assert receiver.received[0].headers["X-Team"] == "sales"
    assert "X-Stairoids-Signature" in receiver.received[0].headers
    assert len(sandbox.deliveries) == 1


def test_secret_is_shown_once(client: Client) -> None:
    created = client.post("/automations", an_automation()).json()
    (listed,) = client.get("/automations").json()["automations"]

    assert created["action"]["config"]["secret"]
    assert "secret" not in listed["action"]["config"]
    assert listed["trigger"] == an_automation()["trigger"]


def test_automation_is_disabled_by_default(sandbox: Sandbox, client: Client) -> None:
    created = client.post("/automations", an_automation(enabled=...)).json()
    client.send(type="demo_requested")

    assert created["enabled"] is False
    assert sandbox.deliveries == []


def test_unknown_field_of_a_condition_is_ignored(client: Client) -> None:
    trigger = {"event": "signal.created", "conditions": [{**CONDITION, "note": "x"}]}

    created = client.post("/automations", an_automation(trigger=trigger))

    assert created.status_code == 201


def test_list_is_flat_filtered_and_paged(client: Client) -> None:
    incoming = {"method": "integration", "integration": "hubspot"}
    for _ in range(3):
        client.post("/automations", an_automation())
    client.post(
        "/automations", an_automation(type="incoming", trigger=incoming, action=...)
    )

    first = client.get("/automations", limit=2).json()
    second = client.get("/automations", limit=2, cursor=first["next_cursor"]).json()
    only = client.get("/automations", type="incoming", enabled="true").json()

    assert (len(first["automations"]), first["total"]) == (2, 4)
    assert (len(second["automations"]), second["next_cursor"]) == (2, None)
    assert [a["trigger"] for a in only["automations"]] == [incoming]


def test_wrong_query_is_400(client: Client) -> None:
    for name, value in (
        ("limit", "101"),
        ("limit", "0"),
        ("cursor", "1-1"),
        ("cursor", "x"),
        ("type", "both"),
        ("enabled", "yes"),
        ("name", "x"),
    ):
        response = client.get("/automations", **{name: value})
        assert response.status_code == 400, (name, value)
        assert response.json()["error"]["param"] == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ...}, "name"),
        ({"name": ""}, "name"),
        ({"type": ...}, "type"),
        ({"type": "sideways"}, "type"),
        ({"trigger": ...}, "trigger"),
        ({"trigger": {"event": "signal.deleted"}}, "trigger.event"),
        (
            {"trigger": {"event": "signal.created", "conditions": {}}},
            "trigger.conditions",
        ),
        (
            {"trigger": {"event": "signal.created", "conditions": [{"field": "a"}]}},
            "trigger.conditions[0].field",
        ),
        ({"trigger": {"event": "signal.created", "x": 1}}, "trigger.x"),
        ({"action": ...}, "action"),
        ({"action": {"type": "email"}}, "action.type"),
        ({"action": an_action(url="http://example.com")}, "url"),
        ({"action": an_action(x=1)}, "action.config.x"),
        ({"action": an_action(headers={"A": "b\r\nC: d"})}, "action.config.headers"),
        *(
            ({"action": an_action(headers={name: "1"})}, "action.config.headers")
            for name in ("Host", "content-LENGTH", "Authorization", "A B", "é", "")
        ),
        (
            {"action": an_action(headers={"content-LENGTH": "1"})},
            "action.config.headers",
        ),
        (
            {"action": an_action(headers={"Authorization": "x"})},
            "action.config.headers",
        ),
        ({"type": "incoming"}, "action"),
        ({"enabled": "true"}, "enabled"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_automation_is_400_and_names_the_field(
    client: Client, fields: dict[str, Any], param: str
) -> None:
    response = client.post("/automations", an_automation(**fields))

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert client.get("/automations").json()["total"] == 0
