"""Choose the next step after each response of a handler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

MAX_ATTEMPTS = 8
_LONGEST_RETRY_AFTER = 3600.0
_SHORTEST_RETRY_AFTER = 1.0
_BUSY = {429, 503}  # with `Retry-After`, the whole handler asks for a pause


class Step(Enum):
    """The next step of an event after a request."""

    DELIVERED = auto()
    RETRY = auto()
    FAILED = auto()  # kept until a person decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response to a request, or the reason for none.

    Attributes:
        status: The HTTP status; None without a response.
        retry_after: Seconds of the header `Retry-After`.
        obstacle: Why there was no response.
    """

    status: int | None = None
    retry_after: float | None = None
    obstacle: str = ""

    @property
    def reason(self) -> str:
        """The response in words, for logs and for the list of failures."""
        if self.status is None:
            return f"no response ({self.obstacle})"
        return f"status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The next step.

    Attributes:
        step: The next step of the event.
        pause: Seconds until the next request for this event.
        pauses_all: Whether other events wait as well.
    """

    step: Step
    pause: float = 0.0
    pauses_all: bool = False


def decide(response: Response, *, attempt: int, backoff: float) -> Decision:
    """Return the next step.

    Args:
        response: The response to the last request.
        attempt: The number of that request, from 1.
        backoff: Seconds to wait if the response does not say how long.
    """
    if response.status is not None and 200 <= response.status < 300:
        return Decision(step=Step.DELIVERED)
    pause, pauses_all = backoff, False
    if response.retry_after is not None:
        longest = min(response.retry_after, _LONGEST_RETRY_AFTER)
        pause = max(_SHORTEST_RETRY_AFTER, longest)
        pauses_all = response.status in _BUSY
    step = Step.FAILED if attempt >= MAX_ATTEMPTS else Step.RETRY
    return Decision(step=step, pause=pause, pauses_all=pauses_all)
