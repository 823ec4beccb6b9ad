"""Build the events of an accepted signal, and start their deliveries.

The action payload and ``signal.created`` are as documented. The ``data`` of the other
events is not documented, so here it is a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from stairoids_common.time import current_second, rfc3339
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.state.models import Account, Contact, Signal
from stairoids_sandbox.webhooks.subscriptions import Subscription

if TYPE_CHECKING:
    from stairoids_sandbox.webhooks.automations import Automation, Automations
    from stairoids_sandbox.webhooks.delivery import Delivery, Endpoint, Owner
    from stairoids_sandbox.webhooks.subscriptions import Subscriptions
    from stairoids_sandbox.webhooks.webhook_sender import WebhookSender

_ACTION_EVENT = "automation.action_triggered"


class EventDispatcher:
    """Send a signal's events to the automations and subscriptions that match."""

    def __init__(
        self,
        automations: Automations,
        subscriptions: Subscriptions,
        sender: WebhookSender,
    ) -> None:
        self._automations = automations
        self._subscriptions = subscriptions
        self._sender = sender

    def dispatch(self, signal: Signal) -> None:
        """Start every delivery for a signal."""
        if self._subscriptions.of(signal.workspace):
            for event, data in _signal_events(signal).items():
                self._publish(event, data, signal)
        for automation in self._automations.all():
            if automation.endpoint is None or not automation.matches(signal):
                continue
            body = _action_payload(automation, signal)
            self._sender.send(
                _ACTION_EVENT, body, automation, automation.endpoint, signal=signal
            )
            data = _triggered_event(automation, signal)
            self._publish("automation.triggered", data, signal)

    def _publish(self, event: str, data: dict[str, Any], signal: Signal) -> None:
        """Deliver one event, with the same event id for all its subscriptions."""
        subscriptions = self._subscriptions.of(signal.workspace)
        matching = [s for s in subscriptions if event in s.events]
        if matching:
            body = _event_payload(event, data)
            for subscription in matching:
                self._sender.send(
                    event, body, subscription, subscription.endpoint, signal=signal
                )

    def owners(self) -> dict[str, Owner]:
        """Return the automations and subscriptions that have an endpoint, by id."""
        owners: list[Owner] = [*self._automations.all(), *self._subscriptions.all()]
        return {owner.id: owner for owner in owners if owner.endpoint is not None}

    def send_again(self, delivery: Delivery, owner: Owner | None = None) -> Delivery:
        """Start a new delivery of the same body to the present endpoint of its owner.

        Args:
            delivery: The delivery to repeat. If its owner is gone, its own endpoint is
                used.
            owner: Another automation or subscription to send it to.

        Raises:
            NotRunningError: The sandbox does not run.
        """
        owner = owner or self.owners().get(delivery.owner.id) or delivery.owner
        return self._sender.send(
            delivery.event,
            delivery.body,
            owner,
            owner.endpoint or delivery.endpoint,
            signal=delivery.signal,
            again_of=delivery,
        )

    def send_test(self, owner: Owner) -> Delivery:
        """Deliver the event of a sample signal, which no list of signals shows.

        Raises:
            NotRunningError: The sandbox does not run.
        """
        if isinstance(owner, Subscription):
            signal = _sample_signal("test_event")
            data = _signal_events(signal).get(owner.events[0]) or {
                "automation": {"id": new_id("auto"), "name": "Test"},
                "signal": _signal(signal),
            }
            event, body = owner.events[0], _event_payload(owner.events[0], data)
        else:
            signal = _sample_signal(dict(owner.conditions).get("signal.type"))
            event, body = _ACTION_EVENT, _action_payload(owner, signal)
        endpoint = cast("Endpoint", owner.endpoint)
        return self._sender.send(event, body, owner, endpoint, signal=signal)


def _sample_signal(type_: str | None) -> Signal:
    account = Account(id=new_id("acc"), domain="acme.example", name="Acme (test)")
    contact = Contact(
        id=new_id("con"),
        email="jane.doe@acme.example",
        first_name="Jane",
        last_name="Doe",
    )
    return Signal(
        id=new_id("sig"),
        sequence=0,
        type=type_ or "test_event",
        source="sandbox",
        account=account,
        contact=contact,
        properties={"test": True},
        score=0,
        occurred_at=current_second(),
        created_at=current_second(),
        raw=b"{}",
        key_name="",
        key_scope="",
    )


def _action_payload(automation: Automation, signal: Signal) -> bytes:
    """Return the payload of an automation's own webhook, which is flat."""
    payload: dict[str, Any] = {
        "event": _ACTION_EVENT,
        "automation_id": automation.id,
        "automation_name": automation.name,
        "triggered_at": rfc3339(current_second()),
    }
    if signal.account is not None:
        payload["account"] = {
            "id": signal.account.id,
            "name": signal.account.name,
            "domain": signal.account.domain,
        }
    if signal.contact is not None:
        payload["contact"] = {
            "id": signal.contact.id,
            "email": signal.contact.email,
            "first_name": signal.contact.first_name,
            "last_name": signal.contact.last_name,
        }
    payload["signal"] = {
        "id": signal.id,
        "type": signal.type,
        "source": signal.source,
        "properties": signal.properties,
        "created_at": rfc3339(signal.created_at),
    }
    return msgspec.json.encode(payload)


def _event_payload(event: str, data: dict[str, Any]) -> bytes:
    """Return the payload of a subscribed event, with a new event id."""
    return msgspec.json.encode(
        {
            "event": event,
            "id": new_id("evt"),
            "created_at": rfc3339(current_second()),
            "data": data,
        }
    )


def _signal_events(signal: Signal) -> dict[str, dict[str, Any]]:
    """Return the data of each event of an accepted signal."""
    events = {
        "signal.created": _signal(signal),
        "signal.scored": {"id": signal.id, "type": signal.type, "score": signal.score},
    }
    if signal.account is not None:
        events["account.score_changed"] = {
            "account": _account(signal.account),
            "score": signal.account.score,
            "previous_score": signal.account.score - signal.score,
            "signal_id": signal.id,
        }
    if signal.contact is not None:
        events["contact.score_changed"] = {
            "contact": _contact(signal.contact),
            "score": signal.contact.score,
            "previous_score": signal.contact.score - signal.score,
            "signal_id": signal.id,
        }
    return events


def _triggered_event(automation: Automation, signal: Signal) -> dict[str, Any]:
    """Return the data of ``automation.triggered``."""
    return {
        "automation": {"id": automation.id, "name": automation.name},
        "signal": _signal(signal),
    }


def _signal(signal: Signal) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": signal.id, "type": signal.type}
    if signal.account is not None:
        shown["account"] = _account(signal.account)
    if signal.contact is not None:
        shown["contact"] = _contact(signal.contact)
    return {
        **shown,
        "score": signal.score,
        "source": signal.source,
        "properties": signal.properties,
        "created_at": rfc3339(signal.created_at),
    }


def _account(account: Account) -> dict[str, Any]:
    return {"id": account.id, "domain": account.domain, "name": account.name}


def _contact(contact: Contact) -> dict[str, Any]:
    names = (contact.first_name, contact.last_name)
    name = " ".join(name for name in names if name) or None
    return {"id": contact.id, "email": contact.email, "name": name}
