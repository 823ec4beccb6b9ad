"""Views: what the pages show of the sandbox's state, newest first and never all."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stairoids_sandbox.faults.switches import PROBABILITIES, STATUSES, switches_for
from stairoids_sandbox.state.keys import DEFAULT_KEY
from stairoids_sandbox.state.signal_index import SignalQuery
from stairoids_sandbox.webhooks.signature import signature_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_sandbox.api.quota import Quota
    from stairoids_sandbox.faults.faults import Faults
    from stairoids_sandbox.state.keys import KeyRing
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.request_log import RequestLog
    from stairoids_sandbox.state.workspace import Workspace
    from stairoids_sandbox.webhooks.automations import Automations
    from stairoids_sandbox.webhooks.delivery import Delivery
    from stairoids_sandbox.webhooks.subscriptions import Subscriptions
    from stairoids_sandbox.webhooks.webhook_sender import Courier

_SHOWN = 50


class Views:
    """Collect what each page shows.

    Args:
        quotas: By the name of the key.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        automations: Automations,
        webhooks: Subscriptions,
        courier: Courier,
        faults: Faults,
        keys: KeyRing,
        quotas: Mapping[str, Quota],
        log: RequestLog,
    ) -> None:
        self._workspace = workspace
        self._automations = automations
        self._webhooks = webhooks
        self._courier = courier
        self._faults = faults
        self._keys = keys
        self._quotas = quotas
        self._log = log

    def overview(self) -> dict[str, Any]:
        """Return what the first page shows."""
        signals = self._workspace.signals
        now = time.monotonic()
        statuses = sorted(
            self._log.statuses.items(), key=lambda item: (item[0] is None, item[0])
        )
        return {
            "signals": signals.find(SignalQuery(limit=_SHOWN)),
            "signals_total": len(signals),
            "records_total": len(self._workspace.directory),
            "deliveries": self._courier.latest(_SHOWN),
            "deliveries_total": len(self._courier),
            "deliveries_ended": self._courier.ended,
            "automations": self._automations.all(),
            "webhooks": self._webhooks.all(),
            "switches": switches_for(self._faults.all()),
            "probabilities": PROBABILITIES,
            "statuses": STATUSES,
            "keys": [
                (key, self._quotas[key.name].usage(now)) for key in self._keys.all()
            ],
            "key": DEFAULT_KEY if self._keys.has(DEFAULT_KEY) else "YOUR_KEY",
            "answers": statuses,
        }

    def signal_with(self, signal_id: str) -> Signal | None:
        """Find a signal by its id."""
        return self._workspace.signals.get(signal_id)

    def signal(self, signal_id: str) -> dict[str, Any] | None:
        """Return what the page of a signal shows; None if there is none."""
        signal = self.signal_with(signal_id)
        if signal is None:
            return None
        found = [d for d in self._courier.all() if d.signal_id == signal_id]
        return {"signal": signal, "deliveries": found[: -_SHOWN - 1 : -1]}

    def delivery(self, delivery_id: str) -> dict[str, Any] | None:
        """Return what the page of a delivery shows; None if there is none."""
        delivery = self._courier.get(delivery_id)
        if delivery is None:
            return None
        signal = self.signal_with(delivery.signal_id)
        signature = _signature_for(delivery)
        return {"delivery": delivery, "signal": signal, "signature": signature}


def place_of(url: str) -> str:
    """Return an endpoint without what every one has, and without its query."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def wall_time(moment: float) -> datetime:
    """Return the date and time of a moment of ``time.monotonic()``."""
    return datetime.fromtimestamp(time.time() - time.monotonic() + moment, UTC)


def _signature_for(delivery: Delivery) -> str | None:
    secret = delivery.endpoint.secret
    return None if secret is None else signature_of(delivery.body, secret)
