"""Remember the requests under ``/v1``, without their keys and headers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stairoids_sandbox.state.models import Signal

KEPT = 200_000  # about 40 MB; older ones are forgotten
_BODIES = 20_000  # of the latest requests, at most 82 MB
BODY_KEPT = 4_096  # bytes


class ErrorSeen(msgspec.Struct, frozen=True):
    """The error that a response named."""

    code: str = ""
    message: str = ""
    param: str = ""
    request_id: str = ""


class ErrorBody(msgspec.Struct):
    """The documented error envelope."""

    error: ErrorSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """One request.

    Attributes:
        status: The status of the response; None if a fault cut the response off.
        arrived: ``time.monotonic()`` when its head had been read.
        responded: ``time.monotonic()`` when the response began.
        key_name: Name of its API key; None if it had no valid one.
        wrong_key: The beginning and the length of a key that is not valid.
        error: The error in the response; None if it was accepted.
        signal: The signal that it made.
        body: The beginning of a body that was refused or cut off.
        sequence: Its place in the order of responses, from 1.
    """

    method: str
    path: str
    query: str
    status: int | None
    arrived: float
    responded: float
    key_name: str | None
    wrong_key: str = ""
    error: ErrorSeen | None = None
    signal: Signal | None = None
    body: bytes = b""
    sequence: int = 0


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
        """Remember a request, which has the sequence ``total + 1``."""
        self.total += 1
        self.statuses[request.status] += 1
        self._requests.append(request)
        if len(self._requests) > _BODIES and self._requests[-_BODIES - 1].body:
            old = self._requests[-_BODIES - 1]
            self._requests[-_BODIES - 1] = replace(old, body=b"")
        if len(self._requests) > 2 * KEPT:
            del self._requests[:KEPT]

    def get(self, sequence: int) -> RequestSeen | None:
        """Return a request; None if it is unknown or forgotten."""
        place = sequence - 1 - self.total + len(self._requests)
        return self._requests[place] if 0 <= place < len(self._requests) else None

    def newest_first(self) -> Iterator[RequestSeen]:
        """Return the remembered requests, the latest response first."""
        return reversed(self._requests)

    def all(self) -> list[RequestSeen]:
        """Return the remembered requests in order of arrival."""
        return sorted(self._requests.copy(), key=attrgetter("arrived"))
