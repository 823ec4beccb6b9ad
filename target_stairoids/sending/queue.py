"""The window: the signals that are under way, in the order they were read.

A signal waits for every earlier unfinished one about the same entity, domain or
e-mail, so that a person is never told things in the wrong order; all others go side by
side. The checkpoint says how much of the input is done with, and so which STATE may
pass.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_stairoids.ledger.entries import Claim


class Stage(Enum):
    """What is next for a signal in the window."""

    CLAIM = auto()  # ask the gates once more, claim it, send it
    SEND = auto()  # send it again: it was certainly not accepted
    LOOK = auto()  # see whether it was accepted


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One signal in the window.

    Attributes:
        number: Position in the input; of a recovered one, before all of it.
        send: `once`, `on_change` or `always`.
        lanes: What it must not overtake an earlier signal about.
        recovered: Whether it is a dead run's claim; such ones are outside the sum.
        letter: The dead letter that a person sends again, if it is one.
        looks: How often looking for it failed.
        yields: How often it gave way to another run's claim.
        not_before: Monotonic time before which looking would be too early.
        cursors: The pages of Stairoids' signals that were read on, while looking.
    """

    number: int
    claim: Claim
    send: str
    lanes: tuple[object, ...]
    stage: Stage = Stage.CLAIM
    recovered: bool = False
    letter: int | None = None
    attempts: int = 0
    accepted_before: int = 0
    looks: int = 0
    yields: int = 0
    not_before: float = 0.0
    cursors: list[str] = field(default_factory=list)
    blockers: int = 0
    followers: list[Entry] = field(default_factory=list)


def lanes_of(
    entity: bytes, account: Mapping[str, str], contact: Mapping[str, str]
) -> tuple[object, ...]:
    """Return what a signal is about and must not overtake an earlier one about."""
    lanes: list[object] = [entity]
    if domain := account.get("domain"):
        lanes.append(("domain", domain))
    if email := contact.get("email"):
        lanes.append(("email", email.lower()))
    return tuple(lanes)


class SendQueue:
    """Unfinished signals: ready, waiting for an earlier one, or for a time.

    Args:
        size: More unfinished signals than this are one too many: stop reading.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._last_in_lane: dict[object, Entry] = {}
        self._ready: deque[Entry] = deque()
        self._timers: list[tuple[float, int, Entry]] = []
        self._unfinished: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._unfinished)

    @property
    def is_full(self) -> bool:
        """Whether reading must stop until something is finished."""
        return len(self._unfinished) >= self._size

    @property
    def has_ready(self) -> bool:
        """Whether some signal waits for nothing but a slot."""
        return bool(self._ready)

    @property
    def next_timer(self) -> float | None:
        """When the first of the signals that wait for a time may go on."""
        return self._timers[0][0] if self._timers else None

    def is_busy(self, lane: object) -> bool:
        """Say whether an unfinished signal is about this."""
        return lane in self._last_in_lane

    def add(self, entry: Entry) -> None:
        """Take a signal in behind all earlier ones it must not overtake."""
        self._unfinished[entry.number] = entry
        before = {
            id(last): last
            for lane in entry.lanes
            if (last := self._last_in_lane.get(lane)) is not None
        }
        for last in before.values():
            last.followers.append(entry)
        entry.blockers = len(before)
        for lane in entry.lanes:
            self._last_in_lane[lane] = entry
        if not entry.blockers:
            self._ready.append(entry)

    def let_pass(self, first: Entry, entry: Entry) -> None:
        """Let one more signal go before one that was taken, which then waits for it."""
        self._unfinished[first.number] = first
        first.followers.append(entry)
        entry.blockers += 1
        self._ready.append(first)

    def take(self, now: float) -> Entry | None:
        """Return the next signal that may go on now; it stays unfinished."""
        due = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        self._ready.extendleft(reversed(due))
        return self._ready.popleft() if self._ready else None

    def put_back(self, entry: Entry) -> None:
        """Let a signal go on as soon as there is a slot."""
        self._ready.appendleft(entry)

    def wait_until(self, entry: Entry, due: float) -> None:
        """Let a signal go on at a time; it holds no slot until then."""
        heapq.heappush(self._timers, (due, entry.number, entry))

    def finish(self, entry: Entry) -> None:
        """Let go of a signal, once, and make those ready that waited only for it."""
        self._unfinished.pop(entry.number, None)
        for lane in entry.lanes:
            if self._last_in_lane.get(lane) is entry:
                del self._last_in_lane[lane]
        for follower in entry.followers:
            follower.blockers -= 1
            if not follower.blockers:
                self._ready.append(follower)
        entry.followers.clear()

    def unfinished(self) -> list[Entry]:
        """Return all signals that are under way, in the order they were read."""
        return list(self._unfinished.values())


class Checkpoint:
    """Which STATE messages have everything before them settled.

    Args:
        keeps_each: Whether a STATE is of use also when a later one has passed; else
            the newest stands for all before it.
    """

    def __init__(self, *, keeps_each: bool = False) -> None:
        self._keeps_each = keeps_each
        self._open: OrderedDict[int, None] = OrderedDict()
        self._newest = 0
        self._states: deque[tuple[int, str]] = deque()

    def open(self) -> int:
        """Number a signal that is not settled yet."""
        self._newest += 1
        self._open[self._newest] = None
        return self._newest

    def close(self, number: int) -> None:
        """Note that a signal is settled or a dead letter, on disk."""
        self._open.pop(number, None)

    def state(self, text: str) -> None:
        """Note a STATE; it may pass once every number opened so far is closed."""
        is_last = self._states and self._states[-1][0] == self._newest
        if is_last and not self._keeps_each:
            self._states.pop()
        self._states.append((self._newest, text))

    @property
    def unsettled(self) -> int:
        """How many signals are open."""
        return len(self._open)

    def passed(self) -> list[str]:
        """Return the STATEs that may pass, each once, in the order they came."""
        oldest = next(iter(self._open), self._newest + 1)
        passed: list[str] = []
        while self._states and self._states[0][0] < oldest:
            passed.append(self._states.popleft()[1])
        return passed if self._keeps_each else passed[-1:]
