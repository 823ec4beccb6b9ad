"""The checkpoint: emits STATE once everything before it is settled."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

_SECONDS = 1.0  # between two STATEs; Meltano spends about 9 ms on each


@dataclass(eq=False)
class Checkpoint:
    """Holds STATE messages back until the signals before them are settled.

    Attributes:
        flush: Is called before `emit`, so that all outcomes are on disk.
        emitted_at: Monotonic seconds, at the last STATE.
        emits_each: Whether to emit each STATE instead of the newest one.
    """

    emit: Callable[[str], None]
    flush: Callable[[], None]
    emitted_at: float
    emits_each: bool = False
    _newest: int = 0
    _open: OrderedDict[int, None] = field(default_factory=OrderedDict)
    _states: deque[tuple[int, str]] = field(default_factory=deque)

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
        if is_last and not self.emits_each:
            self._states.pop()
        self._states.append((self._newest, text))

    @property
    def next_at(self) -> float | None:
        """When, in monotonic seconds, the next STATE is due; None if none may pass."""
        return self.emitted_at + _SECONDS if self._may_pass() else None

    def _may_pass(self) -> bool:
        oldest = next(iter(self._open), self._newest + 1)
        return bool(self._states) and self._states[0][0] < oldest

    def emit_states(self, now: float, *, is_last: bool = False) -> None:
        """Emit the STATEs that may pass, once per second and at the end of the run."""
        if not self._may_pass() or not (is_last or now - self.emitted_at >= _SECONDS):
            return
        self.flush()
        while self._may_pass():
            state = self._states.popleft()[1]
            if self.emits_each or not self._may_pass():
                self.emit(state)
        self.emitted_at = now
