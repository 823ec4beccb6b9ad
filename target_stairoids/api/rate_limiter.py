"""The rate limiter: when the next request may start.

Stairoids counts requests in a sliding minute. It counts a request some time between
its start and its response. So a slot is free again one window after the *response*.
Then no network delay can make us exceed the quota. Runs that share a ledger and a key
know each other's starts. Each slot then stays taken for some seconds more, so that none
of the runs is always the first to take it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from target_stairoids.api.client import Response

_WINDOW_SECONDS = 60.0
_NO_LIMIT = 1_000_000
_FIRST_GUESS = 60  # requests per minute of the smallest plan
_SCARCE = 6_000  # requests per minute: more than one process makes
_LONGEST_WAY = 2.0  # seconds: the usual maximum from counting a request to its response


class RateLimiter:
    """Slots for requests. All times are monotonic seconds from the caller.

    Without `requests_per_minute`, the limit is learnt from the responses; None if
    Stairoids names none.
    """

    def __init__(self, requests_per_minute: int | None) -> None:
        self._fixed = requests_per_minute is not None
        self.limit: int | None = requests_per_minute or _FIRST_GUESS
        self._is_guess = requests_per_minute is None
        self._others: list[tuple[float, int]] = []  # time and number, the oldest first
        self._responded: deque[float] = deque()
        self._in_flight = 0
        self._forgotten = 0  # how many left `_responded`
        self._certain_before = 0  # responses when nothing was in flight
        self._foreign = 0  # slots that other programs, or an earlier run, use
        self._foreign_until = 0.0
        self._held_until = 0.0
        self._has_response = False
        self.requests = 0

    def room(self, now: float) -> int:
        """Return how many requests may start now."""
        self._forget(now)
        if self.is_held(now):
            return 0
        room = _NO_LIMIT if self.limit is None else self.limit - self.used
        if not self._has_response:
            # The first response has the quota, and shows a wrong key or URL.
            first = 1 - self._in_flight
            room = first if self._is_guess else min(room, first)
        return max(0, room)

    def wait(self, now: float) -> float | None:
        """Return the seconds until there may be room; None if a response must come."""
        if self.is_held(now):
            return self._held_until - now
        if self.room(now) > 0:
            return 0.0
        firsts = [*self._responded][:1] + [at for at, _ in self._others[:1]]
        ends = [first + self._window for first in firsts]
        if self._foreign:
            ends.append(self._foreign_until)
        return min(ends) - now if ends else None

    def start(self) -> None:
        """Take a slot for a request that starts now."""
        if not self._in_flight:
            self._certain_before = self._forgotten + len(self._responded)
        self._in_flight += 1
        self.requests += 1

    def not_started(self) -> None:
        """Give a slot back, because its request was never sent."""
        self._in_flight -= 1
        self.requests -= 1

    def note_others(
        self, found: Sequence[tuple[float, int, int | None]], now: float
    ) -> None:
        """Note the requests that other runs of the ledger started with this key.

        `found` has how many seconds ago, how many, and the limit that the run knew.
        """
        self._others = [(now - ago, number) for ago, number, _ in found]
        limits = [limit for *_, limit in found if limit is not None]
        if limits and not self._has_response:
            self.limit, self._is_guess = limits[-1], False

    def is_held(self, now: float) -> bool:
        """Return whether a pause lasts in which nothing may start."""
        return now < self._held_until

    def responded(self, response: Response, now: float) -> None:
        """Note a response, or that none came, at its time."""
        self._in_flight -= 1
        self._responded.append(now)
        self._forget(now)
        if response.status is None:
            return
        self._has_response = True
        if self._fixed:
            return
        self._learn(response)
        if response.remaining is not None and response.limit is not None:
            self._estimate_foreign(response.limit - response.remaining, now)

    def _estimate_foreign(self, counted: int, now: float) -> None:
        """Estimate how many of the slots that Stairoids counts are not ours.

        Stairoids may or may not have counted requests that ran beside this one. It may
        or may not have forgotten requests from one window ago. Between both bounds, the
        former estimate stands.
        """
        leaving = now - _WINDOW_SECONDS + _LONGEST_WAY
        fading = sum(1 for _ in takewhile(leaving.__ge__, self._responded))
        certain = self._certain_before - self._forgotten - fading
        sure = (n for at, n in self._others if leaving <= at <= now - _LONGEST_WAY)
        least = counted - len(self._responded) - self._in_flight - self._used_by_others
        most = counted - max(0, certain) - 1 - sum(sure)
        self._foreign = max(0, min(max(self._foreign, least), most))
        self._foreign_until = now + _WINDOW_SECONDS

    def _learn(self, response: Response) -> None:
        if response.limit is not None:
            self.limit, self._is_guess = max(1, response.limit), False
        elif response.status == 429:
            self.limit = min(self.limit or _FIRST_GUESS, _FIRST_GUESS)
        elif response.status is not None and 200 <= response.status < 300:
            self.limit = None

    def hold(self, seconds: float, now: float) -> None:
        """Start nothing for so many seconds."""
        self._held_until = max(self._held_until, now + seconds)

    @property
    def known_limit(self) -> int | None:
        """The limit for other runs; None before a response had it."""
        return None if self._is_guess else self.limit

    @property
    def has_company(self) -> bool:
        """Whether other runs used the key within the last minute."""
        return bool(self._others)

    @property
    def shares(self) -> bool:
        """Whether the runs of a ledger with this key must share its quota."""
        return not self._fixed and self.limit is not None and self.limit <= _SCARCE

    @property
    def used(self) -> int:
        """How many slots of the last window are taken, by all programs."""
        ours = self._in_flight + len(self._responded)
        return ours + self._used_by_others + self._foreign

    @property
    def _used_by_others(self) -> int:
        return sum(requests for _, requests in self._others)

    @property
    def _window(self) -> float:
        return _WINDOW_SECONDS + (_LONGEST_WAY if self._others else 0)

    def _forget(self, now: float) -> None:
        self._others = [one for one in self._others if one[0] + self._window > now]
        while self._responded and self._responded[0] + self._window <= now:
            self._responded.popleft()
            self._forgotten += 1
        if self._foreign_until <= now:
            self._foreign = 0
