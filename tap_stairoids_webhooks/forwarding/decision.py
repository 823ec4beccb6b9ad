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
    """The response to a request; with no status, `obstacle` is why there was none.

    `retry_after` is in seconds.
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
    """The next step, with seconds until the next request of this event and of all."""

    step: Step
    pause: float = 0.0
    pause_of_all: float = 0.0


def decide(
    response: Response, *, attempt: int, backoff: float, most: int = MAX_ATTEMPTS
) -> Decision:
    """Return the next step after an attempt, which has a number from 1."""
    if response.status is not None and 200 <= response.status < 300:
        return Decision(step=Step.DELIVERED)
    asked = min(response.retry_after or 0.0, LONGEST_PAUSE)
    return Decision(
        step=Step.FAILED if attempt >= most else Step.RETRY,
        pause=max(backoff, asked),
        pause_of_all=asked if response.status in _BUSY else 0.0,
    )
