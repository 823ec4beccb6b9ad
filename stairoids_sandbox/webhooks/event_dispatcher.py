"""The announcer: tells automations and subscriptions about an accepted signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_sandbox.webhooks.payloads import (
    ACTION_EVENT,
    action_payload,
    event_payload,
    signal_events,
    triggered_event,
)

if TYPE_CHECKING:
    from typing import Any

    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.webhooks.automations import Automations
    from stairoids_sandbox.webhooks.subscriptions import Subscriptions
    from stairoids_sandbox.webhooks.webhook_sender import Courier


class Announcer:
    """Make the deliveries that follow from a signal."""

    def __init__(
        self,
        automations: Automations,
        subscriptions: Subscriptions,
        courier: Courier,
    ) -> None:
        self._automations = automations
        self._subscriptions = subscriptions
        self._courier = courier

    def announce(self, signal: Signal) -> None:
        """Start every delivery the signal calls for."""
        if self._subscriptions.all():
            for event, data in signal_events(signal).items():
                self._publish(event, data, signal)
        for automation in self._automations.all():
            if automation.endpoint is None or not automation.matches(signal):
                continue
            body = action_payload(automation, signal)
            self._courier.send(
                ACTION_EVENT, body, automation.endpoint, signal_id=signal.id
            )
            data = triggered_event(automation, signal)
            self._publish("automation.triggered", data, signal)

    def _publish(self, event: str, data: dict[str, Any], signal: Signal) -> None:
        """Deliver one event; every subscriber is told the same event id."""
        subscribers = [s for s in self._subscriptions.all() if event in s.events]
        if subscribers:
            body = event_payload(event, data)
            for subscription in subscribers:
                self._courier.send(
                    event, body, subscription.endpoint, signal_id=signal.id
                )
