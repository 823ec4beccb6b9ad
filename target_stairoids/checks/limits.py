"""Limits: how much one run, and all runs of one day, may send.

Signals beyond a limit stay pending for the next run.
"""

from __future__ import annotations

from typing import Self

from target_stairoids.exceptions import IncompleteError
from target_stairoids.settings import Settings


class Limits:
    """The limits in the settings.

    Args:
        started: When the run began, in monotonic seconds.

    Attributes:
        per_day: Requests per day (UTC); None without a limit.
    """

    @classmethod
    def of(cls, settings: Settings, started: float) -> Self | None:
        """Return the limits; None if the settings have none."""
        limits = cls(settings, started)
        found = (limits.per_day, limits._signals, limits._minutes)
        return None if found == (None, None, None) else limits

    def __init__(self, settings: Settings, started: float) -> None:
        self._signals = settings.max_signals_per_run
        self._minutes = settings.max_run_minutes
        self._started = started
        self.per_day = settings.requests_per_day

    def signals_reached(self, started: int) -> IncompleteError | None:
        """Return why no further signal may start, after so many."""
        if self._signals is None or started < self._signals:
            return None
        text = f"`max_signals_per_run` ({self._signals}) is reached. Run again."
        return IncompleteError(text)

    def minutes_reached(self, now: float) -> IncompleteError | None:
        """Return why the run must end now, if it has lasted too long."""
        if self._minutes is None or now - self._started < self._minutes * 60:
            return None
        return IncompleteError(f"`max_run_minutes` ({self._minutes}) is reached.")

    def day_reached(self, requests: int) -> IncompleteError | None:
        """Return why no further request may start today, after so many."""
        if self.per_day is None or requests < self.per_day:
            return None
        return IncompleteError(
            f"`requests_per_day` ({self.per_day}) is reached. Run again after "
            "midnight (00:00 UTC)."
        )
