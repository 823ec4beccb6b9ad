"""Collect the values that the pages show, newest first."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stairoids_sandbox.faults.switches import PROBABILITIES, STATUSES, switches_for
from stairoids_sandbox.state.keys import DEFAULT_KEY
from stairoids_sandbox.state.signal_index import SignalQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_sandbox.api.quota import Quota
    from stairoids_sandbox.faults.faults import Faults
    from stairoids_sandbox.state.keys import KeyRing
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.request_log import RequestLog
    from stairoids_sandbox.state.workspace import Workspace
    from stairoids_sandbox.webhooks.automations import Automations
    from stairoids_sandbox.webhooks.subscriptions import Subscriptions
    from stairoids_sandbox.webhooks.webhook_sender import WebhookSender

_SHOWN = 50


class Views:
    """The values of each page.

    Args:
        quotas: Quota by the name of the key.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        automations: Automations,
        webhooks: Subscriptions,
        sender: WebhookSender,
        faults: Faults,
        keys: KeyRing,
        quotas: Mapping[str, Quota],
        log: RequestLog,
    ) -> None:
        self._workspace = workspace
        self._automations = automations
        self._webhooks = webhooks
        self._sender = sender
        self._faults = faults
        self._keys = keys
        self._quotas = quotas
        self._log = log

    def overview(self) -> dict[str, Any]:
        """Return the values of the first page."""
        signals = self._workspace.signals
        now = time.monotonic()
        return {
            "signals": signals.find(SignalQuery(limit=_SHOWN)),
            "signals_total": len(signals),
            "records_total": len(self._workspace.accounts),
            "deliveries": self._sender.latest(_SHOWN),
            "deliveries_total": len(self._sender),
            "deliveries_ended": self._sender.ended,
            "automations": self._automations.all(),
            "webhooks": self._webhooks.all(),
            "switches": switches_for(self._faults.all()),
            "probabilities": PROBABILITIES,
            "statuses": STATUSES,
            "keys": [
                (key, self._quotas[key.name].usage(now)) for key in self._keys.all()
            ],
            "key": DEFAULT_KEY if self._keys.has(DEFAULT_KEY) else "YOUR_KEY",
            "responses": sorted(
                self._log.statuses.items(), key=lambda item: (item[0] is None, item[0])
            ),
        }

    def signal_with(self, signal_id: str) -> Signal | None:
        """Return the signal with an id."""
        return self._workspace.signals.get(signal_id)

    def signal(self, signal_id: str) -> dict[str, Any] | None:
        """Return the values of a signal's page; None if there is no such signal."""
        signal = self.signal_with(signal_id)
        if signal is None:
            return None
        found = [d for d in self._sender.all() if d.signal_id == signal_id]
        return {"signal": signal, "deliveries": found[: -_SHOWN - 1 : -1]}

    def delivery(self, delivery_id: str) -> dict[str, Any] | None:
        """Return the values of a delivery's page; None if there is no such delivery."""
        delivery = self._sender.get(delivery_id)
        if delivery is None:
            return None
        return {"delivery": delivery, "signal": self.signal_with(delivery.signal_id)}


def place_of(url: str) -> str:
    """Return a URL without its scheme, its credentials and its query."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def wall_time(moment: float) -> datetime:
    """Return the date and time of a value of ``time.monotonic()``."""
    return datetime.fromtimestamp(time.time() - time.monotonic() + moment, UTC)
