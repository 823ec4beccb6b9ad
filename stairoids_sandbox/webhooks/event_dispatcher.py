"""Start the deliveries of an accepted signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stairoids_sandbox.webhooks.payloads import (
    ACTION_EVENT,
    action_payload,
    event_payload,
    signal_events,
    triggered_event,
)

if TYPE_CHECKING:
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.webhooks.automations import Automations
    from stairoids_sandbox.webhooks.subscriptions import Subscriptions
    from stairoids_sandbox.webhooks.webhook_sender import WebhookSender


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
        if self._subscriptions.all():
            for event, data in signal_events(signal).items():
                self._publish(event, data, signal)
        for automation in self._automations.all():
            if automation.endpoint is None or not automation.matches(signal):
                continue
            body = action_payload(automation, signal)
            self._sender.send(
                ACTION_EVENT, body, automation.endpoint, signal_id=signal.id
            )
            data = triggered_event(automation, signal)
            self._publish("automation.triggered", data, signal)

    def _publish(self, event: str, data: dict[str, Any], signal: Signal) -> None:
        """Deliver one event, with the same event id for all its subscriptions."""
        matching = [s for s in self._subscriptions.all() if event in s.events]
        if matching:
            body = event_payload(event, data)
            for subscription in matching:
                self._sender.send(
                    event, body, subscription.endpoint, signal_id=signal.id
                )
