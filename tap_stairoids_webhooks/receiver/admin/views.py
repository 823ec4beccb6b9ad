"""Views: what the pages show of a receiver and its store.

They ask the store through a reader of their own, so no delivery waits for them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tap_stairoids_webhooks.reading.payload_schemas import KNOWN_EVENTS
from tap_stairoids_webhooks.store.consumers import lags
from tap_stairoids_webhooks.store.event_summary import event_at, latest, refusals_since

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.admin.metrics import Facts
    from tap_stairoids_webhooks.store.consumers import Lag
    from tap_stairoids_webhooks.store.schema import StoredEvent

NO_TYPE = "(none)"  # as `stats --format json` names it
_SHOWN = 50
_DAYS = 14
_LAG_SECONDS = 5.0  # counting what waits may read many rows


class Views:
    """Collect what each page shows; asks the store, so not for an event loop.

    Args:
        facts: What the receiver knows of itself.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._lags: tuple[float, dict[str, Lag]] | None = None

    def overview(self, *, kind: str | None, before: int | None) -> dict[str, Any]:
        """Return what the first page shows.

        Raises:
            StoreError: The store cannot be read now.
        """
        store = self._facts.reader()
        events = latest(
            store,
            number=_SHOWN + 1,
            before=before,
            kind=None if kind == NO_TYPE else kind,
            untyped=kind == NO_TYPE,
        )
        today = datetime.now(UTC).date()
        days = [f"{today - timedelta(days=n)}" for n in range(_DAYS - 1, -1, -1)]
        return {
            "events": events[:_SHOWN],
            "older": events[_SHOWN - 1].sequence if len(events) > _SHOWN else None,
            "kind": kind,
            "kinds": {**{name: name for name in KNOWN_EVENTS}, NO_TYPE: "no type"},
            "before": before,
            "stored": store.last_sequence(),
            "readiness": self._facts.readiness(),
            "counts": self._facts.counts(),
            "keys": self._facts.keys(),
            "lags": self._known_lags(),
            "days": days,
            "today": str(today),
            "refused": refusals_since(store, days[0]),
        }

    def event(self, sequence: int) -> StoredEvent | None:
        """Return an event with its body; None if there is none.

        Raises:
            StoreError: The store cannot be read now.
        """
        return event_at(self._facts.reader(), sequence)

    def _known_lags(self) -> dict[str, Lag]:
        now = time.monotonic()
        if self._lags is None or now - self._lags[0] > _LAG_SECONDS:
            self._lags = (now, lags(self._facts.reader()))
        return self._lags[1]
