"""The checkpoint: up to which message STATE may be emitted."""

from __future__ import annotations

from collections import OrderedDict, deque


class Checkpoint:
    """Holds STATE messages back until everything before them is settled.

    Args:
        keeps_each: Whether each STATE is emitted. Otherwise the newest one replaces all
            before it.
    """

    def __init__(self, *, keeps_each: bool = False) -> None:
        self._keeps_each = keeps_each
        self._open: OrderedDict[int, None] = OrderedDict()
        self._newest = 0
        self._states: deque[tuple[int, str]] = deque()

    def open(self) -> int:
        """Return the number of a new signal that is not settled yet."""
        self._newest += 1
        self._open[self._newest] = None
        return self._newest

    def close(self, number: int) -> None:
        """Note that a signal's outcome, or its dead letter, is on disk."""
        self._open.pop(number, None)

    def state(self, text: str) -> None:
        """Add a STATE. It passes once every number opened so far is closed."""
        is_last = self._states and self._states[-1][0] == self._newest
        if is_last and not self._keeps_each:
            self._states.pop()
        self._states.append((self._newest, text))

    @property
    def unsettled(self) -> int:
        """How many signals are open."""
        return len(self._open)

    def passed(self) -> list[str]:
        """Return the STATEs that may be emitted, each once, in their order."""
        oldest = next(iter(self._open), self._newest + 1)
        passed: list[str] = []
        while self._states and self._states[0][0] < oldest:
            passed.append(self._states.popleft()[1])
        return passed if self._keeps_each else passed[-1:]
