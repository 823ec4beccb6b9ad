"""The log of requests: what was asked and answered, never the key."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stairoids_sandbox.state.models import RequestSeen

_KEPT = 200_000  # about 40 MB; a long-lived sandbox forgets the oldest


class RequestLog:
    """Remember the latest requests, 200,000 of them at least.

    Attributes:
        total: How many there were, those forgotten included.
        statuses: How many by status; None for those a fault cut off.
    """

    def __init__(self) -> None:
        self.total = 0
        self.statuses: Counter[int | None] = Counter()
        self._requests: list[RequestSeen] = []

    def add(self, request: RequestSeen) -> None:
        """Remember a request that was answered or cut off."""
        self.total += 1
        self.statuses[request.status] += 1
        self._requests.append(request)
        if len(self._requests) > 2 * _KEPT:
            del self._requests[:_KEPT]

    def all(self) -> list[RequestSeen]:
        """Copy what is remembered, in order of arrival."""
        return sorted(self._requests.copy(), key=attrgetter("arrived"))
