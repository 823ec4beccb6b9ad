"""Why a run stops early. Its other signals stay pending for the next run."""

from __future__ import annotations

import math
import os
import time

from target_stairoids.exceptions import (
    IncompleteError,
    InterruptedRunError,
    StairoidsError,
)
from target_stairoids.settings import Settings

GRACE_SECONDS = 10.0  # how long the requests in flight of a stopped run may take
UNPROVED = (
    "Some requests got no usable response. Only a signal that is accepted later can "
    "prove their outcome, and there was none. They and the signals behind them are "
    "pending. Run again when there are new records. If none come, set `on_unknown: "
    "hold` for one run, and then decide on the dead letters with `stairoids-signals "
    "dead-letters resolve`."
)

#: Setting -> why the run stops. The requests are those of all runs today (UTC).
_LIMITS = {
    "max_run_minutes": "`max_run_minutes` ({}) is reached.",
    "max_signals_per_run": "`max_signals_per_run` ({}) is reached. Run again.",
    "requests_per_day": "`requests_per_day` ({}) is reached. Run again after midnight "
    "(00:00 UTC).",
}


def limit_reached(settings: Settings, **used: float) -> IncompleteError | None:
    """Return why the run must stop, given the part of a limit that is used."""
    for name, number in used.items():
        limit: int | None = getattr(settings, name)
        if limit is not None and number >= limit:
            return IncompleteError(_LIMITS[name].format(limit))
    return None


class Stop:
    """The reason to stop, made by the run and shared by all its parts."""

    def __init__(self) -> None:
        self.reason: StairoidsError | None = None
        self._kill_from = math.inf  # of the monotonic clock

    def interrupt(self, number: int) -> None:
        """Stop soon. If a ledger is frozen, a later SIGTERM or SIGINT ends the process.

        Runners repeat SIGTERM at once, so the first seconds do not count.
        """
        now = time.monotonic()
        if now > self._kill_from:
            os._exit(128 + number)  # as after a kill, the next run continues
        self._kill_from = min(self._kill_from, now + GRACE_SECONDS)
        self.set(InterruptedRunError(number))

    def set(self, reason: StairoidsError | None) -> None:
        """Start nothing more, if there is a reason.

        The first reason counts, and a hard one, such as SIGTERM, more than others.
        """
        is_soft = reason is None or isinstance(reason, IncompleteError)
        if self.reason is None or not (self.is_hard or is_soft):
            self.reason = reason

    @property
    def is_hard(self) -> bool:
        """Whether requests that no worker has begun must not be sent either."""
        return self.reason is not None and not isinstance(self.reason, IncompleteError)
