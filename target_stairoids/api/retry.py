"""Retries: how long to pause when Stairoids throttles or fails, and when to stop.

All times are monotonic seconds from the caller.
"""

from __future__ import annotations

import contextlib
import math
from datetime import datetime, timedelta

from stairoids_common.retry import pause_before
from target_stairoids.api.client import Response

LONGEST_RETRY_AFTER = 120.0  # a longer one means that the day's quota is spent
_LONGEST_THROTTLED = 180.0  # seconds: three windows of the quota
_SHORTEST_PAUSE = 1.0  # after a 429 with `Retry-After: 0`
_QUIET = 240.0  # seconds: the longest that one retry may wait for another
_QUIET_ABOUT = 60.0  # seconds in which the same reason is not logged again
_UNNAMED_PAUSE = 20.0  # after a 429 without `Retry-After`


def day_is_spent(retry_after: float | None, now: datetime) -> str:
    """Return a sentence that the day's quota is spent, and until when, if known."""
    until = "and Stairoids does not say until when"
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER:
        with contextlib.suppress(OverflowError):  # beyond the calendar
            moment = now + timedelta(seconds=retry_after)
            until = f"until {moment:%Y-%m-%d %H:%M} UTC"
    return (
        f"The quota of the day is spent, {until}. The rest is pending for another run."
    )


def failure_text(url: str, reason: str) -> str:
    """Return a sentence without a full stop about a request that failed."""
    words = reason.removeprefix("no connection")
    if words == reason:
        return f"{url}: {reason}"
    text = f"No connection to {url}{words}"
    if url.startswith("http://"):  # a loopback address: others must be https
        text += "; is the sandbox running? (`stairoids-sandbox serve`)"
    return text


class OutageClock:
    """The failures since Stairoids last accepted or rejected a signal.

    Attributes:
        outage_seconds: Seconds of failures that make an outage.
        tolerated: Failures in a row before all requests pause.
        begins_at: When the failures become an outage; infinity without a failure.
        reason: Of the last failure; "" without one.
        is_told: Whether the failures were logged.
    """

    def __init__(self, outage_seconds: float, *, tolerated: int) -> None:
        self._outage_seconds = outage_seconds
        self._tolerated = tolerated
        self._failed_at = 0.0
        self._told: dict[str, float] = {}
        self.end()

    def end(self) -> None:
        """End the outage, because Stairoids accepted or rejected a signal."""
        self.begins_at = math.inf
        self._failures, self._paused_until = 0, -math.inf
        self._throttled_at = math.inf
        self.reason, self.is_told = "", False

    def throttled(self, response: Response, now: float) -> float | None:
        """Return the seconds to pause after a 429; None if the day's quota is spent.

        A long `Retry-After` says so, or three windows without an accepted signal.
        """
        pause = _UNNAMED_PAUSE
        if response.retry_after is not None:
            pause = max(_SHORTEST_PAUSE, response.retry_after)
        self._throttled_at = min(self._throttled_at, now)
        is_long = now - self._throttled_at >= _LONGEST_THROTTLED
        if pause > LONGEST_RETRY_AFTER or is_long:
            return None
        return pause

    def failed(self, response: Response, now: float) -> float:
        """Return the seconds to pause all requests after a failure; mostly 0.

        Failures during a pause are of requests that began before it, and count as one.
        """
        quiet = now - self._failed_at
        if self.begins_at == math.inf or quiet >= max(self._outage_seconds, _QUIET):
            self.begins_at = now + self._outage_seconds
        self._failed_at = now
        self.reason = response.reason
        pause = 0.0
        if now >= self._paused_until:
            self._failures += 1
            if self._failures > self._tolerated:
                pause = pause_before(self._failures - self._tolerated + 1)
        if response.retry_after is not None:
            pause = max(pause, min(response.retry_after, LONGEST_RETRY_AFTER))
        self._paused_until = max(self._paused_until, now + pause)
        return pause

    def is_new(self, now: float) -> bool:
        """Return whether to log the outage: once per reason, and once per minute."""
        told_at = self._told.get(self.reason)
        is_old = told_at is not None and (self.is_told or now - told_at < _QUIET_ABOUT)
        if not is_old:
            self._told[self.reason] = now
            self.is_told = True
        return not is_old
