"""The breaker: a stream of which nearly everything is rejected has a wrong mapping.

Rejections are held back, neither settled nor dead letters, until the stream proves
itself by an acceptance. If it proves the opposite they go back to pending, so that they
are sent once the mapping is mended.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

_FIRST = 25  # rejected in a row from a stream's start
_LAST = 200
_SHARE = 0.9

Held = TypeVar("Held")


class CircuitBreaker(Generic[Held]):
    """Rejections by stream."""

    def __init__(self) -> None:
        self._held: dict[str, list[Held]] = {}
        self._recent: dict[str, deque[bool]] = {}

    def accepted(self, stream: str) -> list[Held]:
        """Note an acceptance; returns the held rejections, which may be settled now."""
        self._of(stream).append(True)
        return self._held.pop(stream, [])

    def rejected(self, stream: str, held: Held) -> bool:
        """Hold a rejection; returns whether the mapping must be wrong."""
        recent = self._of(stream)
        recent.append(False)
        self._held.setdefault(stream, []).append(held)
        if len(recent) == _FIRST and not any(recent):
            return True
        return len(recent) == _LAST and recent.count(False) >= _SHARE * _LAST

    def release(self) -> list[Held]:
        """Return all held rejections, once: nothing more will prove them wrong."""
        held = [item for items in self._held.values() for item in items]
        self._held.clear()
        return held

    def _of(self, stream: str) -> deque[bool]:
        return self._recent.setdefault(stream, deque(maxlen=_LAST))
