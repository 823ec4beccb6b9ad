"""Webhooks have the documented payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stairoids_sandbox.webhooks.subscriptions import EVENTS
from tests.support.sandbox_client import Client, wait_until
from tests.support.sandbox_receiver import SECRET

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.sandbox_receiver import Receiver


def payloads_of(receiver: Receiver, count: int) -> dict[str, Any]:
    """Wait for ``count`` requests and return their payloads by event."""
    wait_until(lambda: len(receiver.received) >= count)
    payloads = [received.json() for received in receiver.received]
    assert len(payloads) == count
    return {payload["event"]: payload for payload in payloads}


def test_action_payload_is_flat_and_complete(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    automation = sandbox.automations.add(
        type="product_trial_started",
        url=receiver.url,
        name="High-intent trial → notify sales",
    )
    sent = client.send(contact={"email": "j@acme.com", "last_name": "Doe"}).json()

    payload = payloads_of(receiver, 1)["automation.action_triggered"]

    assert payload.pop("triggered_at").endswith("Z")
    assert payload == {
        "event": "automation.action_triggered",
        "automation_id": automation.id,
        "automation_name": "High-intent trial → notify sales",
        "account": {
            "id": sent["account_id"],
            "name": "Acme Corp",
            "domain": "acmecorp.com",
        },
        "contact": {
            "id": sent["contact_id"],
            "email": "j@acme.com",
            "first_name": None,
            "last_name": "Doe",
        },
        "signal": {
            "id": sent["id"],
            "type": "product_trial_started",
            "source": "internal_app",
            "properties": {"plan": "pro_trial"},
            "created_at": sent["created_at"],
        },
    }


def test_automation_fires_for_its_type_only(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.automations.add(type="demo_requested", url=receiver.url)

    client.send(type="Demo_Requested")
    client.send(type="demo_requested")

    assert payloads_of(receiver, 1)["automation.action_triggered"]["signal"][
        "type"
    ] == ("demo_requested")
    assert len(sandbox.deliveries) == 1


def test_payload_has_no_contact_if_none_was_sent(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.automations.add(type="*", url=receiver.url)
    client.send(contact=...)

    assert "contact" not in payloads_of(receiver, 1)["automation.action_triggered"]


def test_subscriber_gets_every_event_in_the_envelope(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.webhooks.add(url=receiver.url, events=EVENTS, secret=SECRET)
    sandbox.automations.add(type="*", url="https://127.0.0.1:1/")
    sent = client.send(contact={"email": "j@a.com", "first_name": "Jane"}).json()

    events = payloads_of(receiver, 5)

    assert set(events) == set(EVENTS)
    assert all(set(e) == {"event", "id", "created_at", "data"} for e in events.values())
    assert len({event["id"] for event in events.values()}) == 5
    assert events["signal.created"]["data"] == {
        "id": sent["id"],
        "type": "product_trial_started",
        "account": {
            "id": sent["account_id"],
            "domain": "acmecorp.com",
            "name": "Acme Corp",
        },
        "contact": {"id": sent["contact_id"], "email": "j@a.com", "name": "Jane"},
        "score": 5,
        "source": "internal_app",
        "properties": {"plan": "pro_trial"},
        "created_at": sent["created_at"],
    }
    changed = events["account.score_changed"]["data"]
    assert (changed["previous_score"], changed["score"]) == (0, 5)


def test_subscriber_gets_only_subscribed_events(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.webhooks.add(url=receiver.url, events=("signal.scored",))
    client.send()

    assert set(payloads_of(receiver, 1)) == {"signal.scored"}
    assert [delivery.event for delivery in sandbox.deliveries] == ["signal.scored"]


def test_two_subscribers_get_the_same_event_id(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    for _ in range(2):
        sandbox.webhooks.add(url=receiver.url, events=("signal.created",))
    client.send()
    wait_until(lambda: len(receiver.received) == 2)

    assert len({received.json()["id"] for received in receiver.received}) == 1
