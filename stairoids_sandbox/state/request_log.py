"""Remember the requests under ``/v1``, without their keys, headers and bodies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter

_KEPT = 200_000  # about 40 MB; older requests are forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """One request.

    Attributes:
        status: The status of the response; None if a fault cut the response off.
        arrived: ``time.monotonic()`` when its head had been read.
        responded: ``time.monotonic()`` when the response began.
        key_name: Name of its API key; None if it had no valid one.
    """

    method: str
    path: str
    query: str
    status: int | None
    arrived: float
    responded: float
    key_name: str | None


class RequestLog:
    """The latest requests, at least 200,000 of them.

    Attributes:
        total: The number of all requests, also of forgotten ones.
        statuses: The number of requests by status; None for those a fault cut off.
    """

    def __init__(self) -> None:
        self.total = 0
        self.statuses: Counter[int | None] = Counter()
        self._requests: list[RequestSeen] = []

    def add(self, request: RequestSeen) -> None:
        """Remember a request."""
        self.total += 1
        self.statuses[request.status] += 1
        self._requests.append(request)
        if len(self._requests) > 2 * _KEPT:
            del self._requests[:_KEPT]

    def all(self) -> list[RequestSeen]:
        """Return the remembered requests in order of arrival."""
        return sorted(self._requests.copy(), key=attrgetter("arrived"))
