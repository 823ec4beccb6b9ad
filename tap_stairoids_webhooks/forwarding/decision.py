"""Choose the next step after each response of a handler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

MAX_ATTEMPTS = 8
LONGEST_PAUSE = 3600.0
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
        pause: Seconds until the next request for this event.
        pause_of_all: Seconds until the next request for any other event.
    """

    step: Step
    pause: float = 0.0
    pause_of_all: float = 0.0


def decide(
    response: Response, *, attempt: int, backoff: float, most: int = MAX_ATTEMPTS
) -> Decision:
    """Return the next step.

    Args:
        attempt: The number of that request, from 1.
        backoff: Seconds to wait at least.
        most: The number of attempts after which the event has failed.
    """
    if response.status is not None and 200 <= response.status < 300:
        return Decision(step=Step.DELIVERED)
    asked = min(response.retry_after or 0.0, LONGEST_PAUSE)
    return Decision(
        step=Step.FAILED if attempt >= most else Step.RETRY,
        pause=max(backoff, asked),
        pause_of_all=asked if response.status in _BUSY else 0.0,
    )
