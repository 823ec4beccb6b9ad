"""Count requests against the quota of an API key: per minute and per day.

The minute is a sliding window. A slot is free again ``window_seconds`` after its
request. A throttled request takes no slot. The start of a day is not documented. Here
the day begins with the key's first request.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The limits of a workspace. None is unlimited.

    Attributes:
        requests_per_minute: Per key, in any window of ``window_seconds``.
        requests_per_day: Per key.
        window_seconds: The length of a minute, which tests shorten.
    """

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    window_seconds: float = 60.0


PLANS = {
    "starter": Plan(requests_per_minute=60, requests_per_day=10_000),
    "growth": Plan(requests_per_minute=300, requests_per_day=100_000),
    "agency": Plan(requests_per_minute=1_000),
    "unlimited": Plan(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaDecision:
    """The quota's decision about one request.

    Attributes:
        retry_after: Seconds until a slot is free; None if the request may pass.
        limit: Requests per window; None if unlimited, and then without headers.
        remaining: Free slots after this request.
        reset_after: Seconds until the next slot is free.
    """

    retry_after: int | None
    limit: int | None
    remaining: int
    reset_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The used part of one key's quota.

    Attributes:
        minute: Requests in the window that ends now.
        day: Requests in the current day.
        minute_ends: When the oldest slot of the window is free again.
        day_ends: When the day ends. Both are times of the clock of ``Quota.take``.
    """

    plan: Plan
    minute: int
    day: int
    minute_ends: float
    day_ends: float


_UNLIMITED = QuotaDecision(retry_after=None, limit=None, remaining=0, reset_after=0.0)


class Quota:
    """The quota of one key."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._taken: deque[float] = deque()
        self._day_began = -math.inf
        self._day_count = 0

    def take(self, now: float) -> QuotaDecision:
        """Take a slot if one is free.

        Args:
            now: Seconds of a monotonic clock.
        """
        plan = self._plan
        if plan.requests_per_minute is None and plan.requests_per_day is None:
            return _UNLIMITED
        waits = [
            wait
            for wait in (self._wait_for_window(now), self._wait_for_day(now))
            if wait is not None
        ]
        if waits:
            return self._decision(now, retry_after=max(1, math.ceil(max(waits))))
        self._day_count += 1
        if plan.requests_per_minute is not None:
            self._taken.append(now)
        return self._decision(now, retry_after=None)

    def usage(self, now: float) -> Usage:
        """Return the used part, without taking a slot."""
        oldest = now - self._plan.window_seconds
        over = now >= self._day_began + _DAY_SECONDS
        used = [taken for taken in self._taken if taken > oldest]
        return Usage(
            plan=self._plan,
            minute=len(used),
            day=0 if over else self._day_count,
            minute_ends=next(iter(used), now) + self._plan.window_seconds,
            day_ends=(now if over else self._day_began) + _DAY_SECONDS,
        )

    def _wait_for_window(self, now: float) -> float | None:
        limit, window = self._plan.requests_per_minute, self._plan.window_seconds
        while self._taken and self._taken[0] <= now - window:
            self._taken.popleft()
        if limit is None or len(self._taken) < limit:
            return None
        return self._taken[0] + window - now if self._taken else window

    def _wait_for_day(self, now: float) -> float | None:
        limit = self._plan.requests_per_day
        if now >= self._day_began + _DAY_SECONDS:
            self._day_began, self._day_count = now, 0
        if limit is None or self._day_count < limit:
            return None
        return self._day_began + _DAY_SECONDS - now

    def _decision(self, now: float, *, retry_after: int | None) -> QuotaDecision:
        plan = self._plan
        taken = self._taken
        return QuotaDecision(
            retry_after=retry_after,
            limit=plan.requests_per_minute,
            remaining=(plan.requests_per_minute or 0) - len(taken),
            reset_after=taken[0] + plan.window_seconds - now if taken else 0.0,
        )
