"""Samples: one body of each event type, in the shapes Stairoids documents.

Where only the frame of an event is documented, its `data` holds what every one
of these events must be about, and no invented detail.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

_ACCOUNT = {"id": "acc_test", "domain": "example.com", "name": "Example Ltd"}
_CONTACT = {"id": "con_test", "email": "test@example.com", "name": "Test Contact"}
_SIGNAL_DATA: dict[str, Any] = {
    "id": "sig_test",
    "type": "test_signal",
    "account": _ACCOUNT,
    "contact": _CONTACT,
    "score": 50,
    "source": "send-test",
    "properties": {"sample": True},
}
_DATA: dict[str, dict[str, Any]] = {
    "signal.created": _SIGNAL_DATA,
    "signal.scored": _SIGNAL_DATA,
    "account.score_changed": {"account": _ACCOUNT, "score": 50},
    "contact.score_changed": {"contact": _CONTACT, "score": 50},
    "automation.triggered": {"id": "auto_test", "account": _ACCOUNT},
}


def sample_bodies(*, now: str) -> dict[str, bytes]:
    """Return a body for each event type; no two calls return the same event."""
    run = uuid.uuid4().hex[:12]
    bodies = {"automation.action_triggered": _action_triggered(run, now)}
    for number, (event, data) in enumerate(_DATA.items()):
        bodies[event] = {
            "event": event,
            "id": f"evt_test_{run}_{number}",
            "created_at": now,
            "data": data | {"created_at": now},
        }
    return {event: json.dumps(body).encode() for event, body in bodies.items()}


def _action_triggered(run: str, now: str) -> dict[str, Any]:
    return {
        "event": "automation.action_triggered",
        "automation_id": "auto_test",
        "automation_name": "Sample of send-test",
        "triggered_at": now,
        "account": _ACCOUNT,
        "contact": {
            "id": "con_test",
            "email": "test@example.com",
            "first_name": "Test",
            "last_name": "Contact",
        },
        "signal": {
            "id": f"sig_test_{run}",
            "type": "test_signal",
            "source": "send-test",
            "properties": {"sample": True},
            "created_at": now,
        },
    }
