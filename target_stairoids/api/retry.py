"""OutageClock: how long to pause when Stairoids throttles or fails, and when to stop.

Pure bookkeeping over monotonic seconds given by the caller.
"""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from target_stairoids.api.client import Response

_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 120.0  # beyond it the day's quota is spent, not the minute's
_THROTTLED_IN_A_ROW = 3
_SHORTEST_PAUSE = 1.0  # after a 429 that says 0: what was under way comes back with it
_QUIET = 240.0  # seconds: the longest that one retry may wait for another
_QUIET_ABOUT = 60.0  # seconds in which the same reason is not told again
_UNNAMED_PAUSE = 20.0  # after a 429 that names no time: three make a minute


def pause_before(attempt: int) -> float:
    """Return a random pause in seconds, doubling with each attempt from the second."""
    longest = min(_LONGEST_PAUSE, 2.0 ** min(max(0, attempt - 2), 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, no secret


def day_is_spent(retry_after: float | None, now: datetime) -> str:
    """Say that the day's quota is used up, and until when, if Stairoids said so."""
    if retry_after is not None and retry_after > _LONGEST_RETRY_AFTER:
        with contextlib.suppress(OverflowError):  # a time that no calendar has
            moment = now + timedelta(seconds=retry_after)
            return (
                f"The quota of the day is spent, until {moment:%Y-%m-%d %H:%M} UTC; "
                "the rest is pending for another run."
            )
    return (
        "The quota of the day is spent, and Stairoids does not say until when; the "
        "rest is pending for another run."
    )


class OutageClock:
    """What went wrong since Stairoids last decided on a signal.

    Args:
        outage_seconds: After so long without a decision it is an outage.
        tolerated: Failures in a row that say nothing about Stairoids as a whole.

    Attributes:
        reason: Of the last failure; "" if there was none since the last decision.
        is_told: Whether this trouble was news.
    """

    def __init__(self, outage_seconds: float, *, tolerated: int) -> None:
        self._outage_seconds = outage_seconds
        self._tolerated = tolerated
        self._since: float | None = None
        self._failed_at: float | None = None
        self._failures = 0
        self._throttled = 0
        self._throttled_until = 0.0
        self._told: dict[str, float] = {}
        self.reason = ""
        self.is_told = False

    def is_over(self) -> None:
        """Note that Stairoids accepted or rejected a signal."""
        self._since = self._failed_at = None
        self._failures = self._throttled = 0
        self.reason, self.is_told = "", False

    def throttled(self, response: Response, now: float) -> float | None:
        """Return how long nothing may be sent after a 429; None: the day is spent.

        Requests that were under way together are throttled together: that counts once.
        """
        pause = _UNNAMED_PAUSE
        if response.retry_after is not None:
            pause = max(_SHORTEST_PAUSE, response.retry_after)
        if now >= self._throttled_until:
            self._throttled += 1
        self._throttled_until = max(self._throttled_until, now + pause)
        if pause > _LONGEST_RETRY_AFTER or self._throttled >= _THROTTLED_IN_A_ROW:
            return None
        return pause

    def failed(self, response: Response, now: float) -> float:
        """Return how long nothing may be sent after a failure; mostly 0."""
        quiet = now - self._failed_at if self._failed_at is not None else 0.0
        if self._since is None or quiet >= max(self._outage_seconds, _QUIET):
            self._since = now
        self._failed_at = now
        self.reason = response.reason
        self._failures += 1
        pause = 0.0
        if self._failures > self._tolerated:
            pause = pause_before(self._failures - self._tolerated + 1)
        if response.retry_after is not None:
            pause = max(pause, min(response.retry_after, _LONGEST_RETRY_AFTER))
        return pause

    def is_news(self, now: float) -> bool:
        """Say once for each reason of a trouble that people should be told of it.

        A failure now and then between acceptances is told once a minute at most.
        """
        told_at = self._told.get(self.reason)
        is_old = told_at is not None and (self.is_told or now - told_at < _QUIET_ABOUT)
        if not is_old:
            self._told[self.reason] = now
            self.is_told = True
        return not is_old

    def seconds_left(self, now: float) -> float:
        """Return in how many seconds it will be an outage, if nothing is decided."""
        since = now if self._since is None else self._since
        return max(0.0, since + self._outage_seconds - now)

    def is_outage(self, now: float) -> bool:
        """Say whether nothing was decided for too long."""
        return self._since is not None and now - self._since >= self._outage_seconds
