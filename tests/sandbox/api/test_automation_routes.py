"""Automations are added and listed as documented, and fire."""

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


def test_automation_made_by_the_api_fires_with_its_headers(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    config = {"url": receiver.url, "headers": {"X-Team": "sales"}}
    made = client.post(
        "/automations", an_automation(action={"type": "webhook", "config": config})
    )
    client.send()
    client.send(type="demo_requested")
    wait_until(lambda: len(receiver.received) == 1)

    assert made.status_code == 201
    assert made.json()["id"].startswith("auto_")
    assert receiver.received[0].headers["X-Team"] == "sales"
    assert "X-Stairoids-Signature" in receiver.received[0].headers
    assert len(sandbox.deliveries) == 1


def test_secret_is_shown_once(client: Client) -> None:
    made = client.post("/automations", an_automation()).json()
    (listed,) = client.get("/automations").json()["automations"]

    assert made["action"]["config"]["secret"]
    assert "secret" not in listed["action"]["config"]


def test_automation_is_disabled_unless_asked(sandbox: Sandbox, client: Client) -> None:
    made = client.post("/automations", an_automation(enabled=...)).json()
    client.send(type="demo_requested")

    assert made["enabled"] is False
    assert sandbox.deliveries == []


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "101"),
        ("limit", "0"),
        ("cursor", "1-1"),
        ("cursor", "x"),
        ("type", "both"),
        ("enabled", "yes"),
        ("name", "x"),
    ],
)
def test_unfit_query_is_400(client: Client, name: str, value: str) -> None:
    client.post("/automations", an_automation())

    assert client.get("/automations", **{name: value}).status_code == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ...},
        {"name": ""},
        {"type": "sideways"},
        {"trigger": ...},
        {"trigger": {"event": "signal.deleted"}},
        {"trigger": {"event": "signal.created", "conditions": {}}},
        {"trigger": {"event": "signal.created", "conditions": [{"field": "score"}]}},
        {"action": ...},
        {"action": {"type": "email"}},
        {"action": {"type": "webhook", "config": {"url": "http://example.com"}}},
        {"action": {"type": "webhook", "config": {"url": "https://a.b", "x": 1}}},
        {
            "action": {
                "type": "webhook",
                "config": {"url": "https://a.b", "headers": {"A": "b\r\nC: d"}},
            }
        },
        {"type": "incoming"},
        {"enabled": "true"},
        {"colour": "red"},
    ],
)
def test_unfit_automation_is_400(client: Client, fields: dict[str, Any]) -> None:
    assert client.post("/automations", an_automation(**fields)).status_code == 400
    assert client.get("/automations").json()["total"] == 0
