"""Limits: how much one run, and all runs of one day, may send.

What they hold back stays pending for the next run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_stairoids.exceptions import IncompleteError

if TYPE_CHECKING:
    from target_stairoids.ledger.transaction import Transaction
    from target_stairoids.settings import Settings

_NO_LIMIT = 1_000_000


class Limits:
    """The limits the user has set.

    Args:
        started: When the run began, in the caller's monotonic seconds.
    """

    def __init__(self, settings: Settings, started: float) -> None:
        self._scope = settings.scope
        self._signals = settings.max_signals_per_run
        self._per_day = settings.requests_per_day
        self._minutes = settings.max_run_minutes
        self._started = started

    def signals_reached(self, begun: int) -> IncompleteError | None:
        """Return why no further signal may be begun, if so many were."""
        if self._signals is None or begun < self._signals:
            return None
        text = f"`max_signals_per_run` ({self._signals}) is reached; run again."
        return IncompleteError(text)

    def minutes_reached(self, now: float) -> IncompleteError | None:
        """Return why the run must end now, if it has lasted too long."""
        if self._minutes is None or now - self._started < self._minutes * 60:
            return None
        return IncompleteError(f"`max_run_minutes` ({self._minutes}) is reached.")

    def left_today(self, turn: Transaction) -> int:
        """Return how many requests may still be made today."""
        if self._per_day is None:
            return _NO_LIMIT
        return max(0, self._per_day - turn.count_requests(self._scope, 0))

    def spend(self, turn: Transaction, requests: int) -> None:
        """Count requests that are about to be made."""
        if self._per_day is not None and requests:
            turn.count_requests(self._scope, requests)

    @property
    def day_reached(self) -> IncompleteError:
        """Why nothing more may be sent when nothing is left today."""
        return IncompleteError(
            f"`requests_per_day` ({self._per_day}) is reached; run again after "
            "midnight (00:00 UTC)."
        )
