"""The pace: when the next request may start, so that the quota is used, never broken.

Stairoids counts requests in a sliding minute. It counts a request some time between
its start and its response. So a slot is free again one window after the *response*.
Then no network delay can make us exceed the quota.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from target_stairoids.api.client import Response

WINDOW_SECONDS = 60.0
_NO_LIMIT = 1_000_000
_FIRST_GUESS = 60  # the smallest plan's requests a minute
_LONGEST_WAY = 2.0  # seconds that usually pass between being counted and answered


class RateLimiter:
    """Slots for requests; all times are monotonic seconds given by the caller.

    Args:
        requests_per_minute: The pace to keep; None learns it from the responses.
    """

    def __init__(
        self, requests_per_minute: int | None, *, window: float = WINDOW_SECONDS
    ) -> None:
        self._fixed = requests_per_minute is not None
        self._limit: int | None = requests_per_minute or _FIRST_GUESS
        self._window = window
        self._answered: deque[float] = deque()
        self._in_flight = 0
        self._forgotten = 0  # how many left `_answered`
        self._settled_before = 0  # how many were answered when nothing was in flight
        self._foreign = 0  # slots that others, or an earlier run of ours, hold
        self._foreign_until = 0.0
        self._held_until = 0.0
        self._heard = False
        self.requests = 0

    @property
    def limit(self) -> int | None:
        """Requests a window as known now; None if Stairoids names no limit."""
        return self._limit

    def room(self, now: float) -> int:
        """Return how many requests may start now."""
        self._forget(now)
        if now < self._held_until:
            return 0
        room = _NO_LIMIT if self._limit is None else self._limit - self.used
        if not self._heard:
            # One first: it tells the quota, and a wrong key or address costs only it.
            room = min(room, 1 - self._in_flight)
        return max(0, room)

    def wait(self, now: float) -> float | None:
        """Return the seconds until there may be room; None if an response must come."""
        if now < self._held_until:
            return self._held_until - now
        if self.room(now) > 0:
            return 0.0
        ends = [self._answered[0] + self._window] if self._answered else []
        if self._foreign:
            ends.append(self._foreign_until)
        return min(ends) - now if ends else None

    def start(self) -> None:
        """Take a slot for a request that starts now."""
        if not self._in_flight:
            self._settled_before = self._forgotten + len(self._answered)
        self._in_flight += 1
        self.requests += 1

    def not_started(self) -> None:
        """Give a slot back: its request was never made."""
        self._in_flight -= 1
        self.requests -= 1

    def is_held(self, now: float) -> bool:
        """Say whether nothing may start, whatever is left of the quota."""
        return now < self._held_until

    def answered(self, response: Response, now: float) -> None:
        """Learn from an response, or from none, at the time it came."""
        self._in_flight -= 1
        self._answered.append(now)
        self._forget(now)
        if response.status is None:
            return
        self._heard = True
        if self._fixed:
            return
        self._learn(response)
        if response.remaining is not None and response.limit is not None:
            self._watch_others(response.limit - response.remaining, now)

    def _watch_others(self, counted: int, now: float) -> None:
        """Learn how many of the slots that Stairoids counts are not ours.

        What went side by side with this request may have been counted before it or not,
        and what was answered a window ago may be forgotten there or not: in between,
        what was known before stands.
        """
        leaving = now - self._window + _LONGEST_WAY
        fading = sum(1 for _ in takewhile(leaving.__ge__, self._answered))
        certain = self._settled_before - self._forgotten - fading
        least = counted - len(self._answered) - self._in_flight
        most = counted - max(0, certain) - 1
        self._foreign = max(0, min(max(self._foreign, least), most))
        self._foreign_until = now + self._window

    def _learn(self, response: Response) -> None:
        if response.limit is not None:
            self._limit = max(1, response.limit)
        elif response.status == 429:
            self._limit = min(self._limit or _FIRST_GUESS, _FIRST_GUESS)
        elif response.status is not None and 200 <= response.status < 300:
            self._limit = None

    def hold(self, seconds: float, now: float) -> None:
        """Let nothing start for so long: Stairoids asked for it, or is down."""
        self._held_until = max(self._held_until, now + seconds)

    @property
    def used(self) -> int:
        """How many slots of the last minute are taken, by whomever."""
        return self._in_flight + len(self._answered) + self._foreign

    def _forget(self, now: float) -> None:
        while self._answered and self._answered[0] + self._window <= now:
            self._answered.popleft()
            self._forgotten += 1
        if self._foreign_until <= now:
            self._foreign = 0
