"""Payloads: what an endpoint is told.

The flat action payload and ``signal.created`` are as documented; the ``data`` of
the other events is not, so theirs is what one would expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stairoids_sandbox.ids import new_id
from stairoids_sandbox.timestamps import now, rfc3339

if TYPE_CHECKING:
    from stairoids_sandbox.state.models import Account, Contact, Signal
    from stairoids_sandbox.webhooks.automations import Automation

ACTION_EVENT = "automation.action_triggered"


def action_payload(automation: Automation, signal: Signal) -> bytes:
    """Tell an automation's webhook which signal set it off; flat, without an id."""
    payload: dict[str, Any] = {
        "event": ACTION_EVENT,
        "automation_id": automation.id,
        "automation_name": automation.name,
        "triggered_at": rfc3339(now()),
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


def event_payload(event: str, data: dict[str, Any]) -> bytes:
    """Put an event's data into the envelope of subscriptions, with a new id."""
    return msgspec.json.encode(
        {
            "event": event,
            "id": new_id("evt"),
            "created_at": rfc3339(now()),
            "data": data,
        }
    )


def signal_events(signal: Signal) -> dict[str, dict[str, Any]]:
    """Say what each event that follows from a signal holds as its data."""
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


def triggered_event(automation: Automation, signal: Signal) -> dict[str, Any]:
    """Say what ``automation.triggered`` holds as its data."""
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
