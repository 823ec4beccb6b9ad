"""The circuit breaker: stop the run if nearly all signals of a stream are rejected.

Rejections are held back, neither settled nor dead letters, until Stairoids accepts a
signal of the stream. If the breaker trips, they go back to pending and are sent once
the mapping is fixed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Generic, TypeVar

LAST = 200
_FIRST = 25  # rejections in a row at a stream's start
_SHARE = 0.9

Held = TypeVar("Held")


def nearly_all_fail(recent: deque[bool]) -> bool:
    """Return whether 90 % of the last 200 results are failures, which are False."""
    return len(recent) == LAST and recent.count(False) >= _SHARE * LAST


class CircuitBreaker(Generic[Held]):
    """Rejections by stream."""

    def __init__(self) -> None:
        self.has_tripped = False
        self._held: defaultdict[str, list[Held]] = defaultdict(list)
        self._recent: defaultdict[str, deque[bool]] = defaultdict(
            lambda: deque(maxlen=LAST)
        )

    def accepted(self, stream: str) -> list[Held]:
        """Note an accepted signal; return the held rejections, to be settled now."""
        self._recent[stream].append(True)
        return self._held.pop(stream, []) if self._held else []

    def rejected(self, stream: str, held: Held) -> bool:
        """Hold a rejection; return whether the breaker trips."""
        recent = self._recent[stream]
        recent.append(False)
        self._held[stream].append(held)
        is_first = len(recent) == _FIRST and not any(recent)
        trips = is_first or nearly_all_fail(recent)
        self.has_tripped |= trips
        return trips

    def release(self) -> list[Held]:
        """Return all held rejections, once."""
        held = [item for items in self._held.values() for item in items]
        self._held.clear()
        return held
