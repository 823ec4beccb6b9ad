"""Restraint: what is held back on purpose before it is sent."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from target_stairoids.checks.suppression import SuppressionList, entries_of
from target_stairoids.exceptions import IncompleteError

if TYPE_CHECKING:
    from target_stairoids.mapping.signal import Signal
    from target_stairoids.settings import Settings

_SURGE = 1_000
_SURGE_SHARE = 0.2


class Restraint:
    """Suppressed people, old events and surges.

    Attributes:
        stop: Why the run must stop, once too much of a known stream has changed.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_age_days = settings.max_event_age_days
        self._allows_surge = settings.allow_surge
        self._suppressed = SuppressionList(
            [*settings.suppress, *entries_of(settings.suppress_path)]
        )
        self._changed: Counter[str] = Counter()
        self.stop: IncompleteError | None = None

    def hides(self, signal: Signal) -> bool:
        """Say whether a signal is about somebody who never gets one."""
        return self._suppressed.hides(signal)

    def is_too_old(self, signal: Signal) -> bool:
        """Say whether what happened is too long ago to be told."""
        if self._max_age_days is None or signal.occurred_at is None:
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(signal.occurred_at)
        return age > timedelta(days=self._max_age_days)

    def changed(self, stream: str, *, known: int) -> None:
        """Note that a known entity has changed.

        Args:
            known: How many entities of the stream are known; 0 for a new stream.
        """
        self._changed[stream] += 1
        count = self._changed[stream]
        is_surge = count > _SURGE and count > _SURGE_SHARE * known > 0
        if is_surge and not self._allows_surge and self.stop is None:
            self.stop = IncompleteError(
                f"Stream `{stream}`: over {_SURGE} and over {_SURGE_SHARE:.0%} of its "
                f"{known} known entities have changed in this run. If that is meant, "
                "set `allow_surge` and run again; if a column changed, name it in the "
                "mapping's `ignore_changes`."
            )
