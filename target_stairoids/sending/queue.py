"""The send queue: signals that wait or are in flight, in the order they were read.

A signal waits for every earlier unfinished signal about the same entity, domain or
email, so that a person gets signals in the right order. All others run side by side.
`let_pass` is the one exception, for other people of a company.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from target_stairoids.api.signal_lookup import Pages
from target_stairoids.dedup.duplicate_rules import Version
from target_stairoids.dedup.order import is_log_position
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger.structs import Claim
from target_stairoids.mapping.signal import type_of

_QUEUE_SIZE = 10_000  # unfinished signals, beyond which reading stops
_QUEUE_BYTES = 64 << 20  # of their requests and records


class Stage(Enum):
    """The next step of a signal in the queue."""

    ASK = auto()  # ask whether Stairoids has signals of its source
    CLAIM = auto()  # decide once more, claim, send
    SEND = auto()  # send again, because it was certainly not accepted
    LOOK_UP = auto()  # look up whether it was accepted


@dataclass(slots=True, kw_only=True, eq=False)
class Lookup:
    """The search for a signal whose request had no usable response.

    Attributes:
        is_possible: Whether a list of Stairoids' signals may prove the outcome.
        failures: How many lookups failed, or proved nothing.
        not_before: Monotonic time; a lookup before it would be too early.
        asked_at: Monotonic time at which this lookup asked for its first page.
        together: Other signals that the response to this lookup decides as well.
        pages: Pages of Stairoids' signals that this lookup has read.
        is_doubtful: Whether one of them shows a signal that may be this one.
        control: Id of a signal of the source that was accepted after the request. A
            list that shows it shows all signals of the request's time.
        shows_control: Whether one of the pages shows it.
        control_at: Monotonic time when that signal was accepted.
        lag: Whole seconds after which a list shows a signal, at most.
        expires: Monotonic time after which the request of a dead run can no longer be
            accepted.
    """

    is_possible: bool = True
    failures: int = 0
    not_before: float = 0.0
    asked_at: float = 0.0
    together: list[QueuedSignal] = field(default_factory=list)
    pages: Pages = field(default_factory=Pages)
    is_doubtful: bool = False
    control: str | None = None
    shows_control: bool = False
    control_at: float = 0.0
    lag: float = math.inf
    expires: float = 0.0

    def begin(self) -> None:
        """Forget the pages of a lookup that came to its end."""
        self.shows_control = self.is_doubtful = False
        self.pages = Pages()

    def again_at(self, due: float) -> float:
        """Return when to repeat it: not before it may prove the outcome.

        If it could prove it already, it counts as failed. Such times are whole seconds,
        so that one lookup serves many.
        """
        if due < self.proves_from < math.inf:
            return self.proves_from
        self.failures += 1
        return math.ceil(due)

    def has_control(self, ids: Collection[str]) -> bool:
        """Return whether a list shows the control, and so every older signal."""
        if self.control not in ids:
            return False
        self.lag = min(self.lag, math.ceil(time.monotonic() - self.control_at))
        return self.asked_at >= self.proves_from

    @property
    def proves_from(self) -> float:
        """Monotonic time from which a list that shows the control proves the outcome.

        The request of a dead run may have been accepted after the control. A list shows
        it at most as late as it showed the control. Infinity before it showed that.
        """
        return self.expires + (0 if self.control_at >= self.expires else self.lag)


@dataclass(slots=True, kw_only=True, eq=False)
class QueuedSignal:
    """One signal in the queue.

    Attributes:
        number: Its place in the input. Negative for the claim of a dead run.
        recovered: Whether it is the claim of a dead run. These are counted apart.
        is_substitute: Whether it is sent only if the one before it is rejected.
        names_row: Whether its properties have the key of the record.
        decided_on: As for `decide_again`.
        before: Its claim before the last attempt.
        accepted_before: How many signals were accepted before its first request.
        yields: How often it gave way to another run's claim.
        claimed: Monotonic time of the claim; infinity for the claim of a dead run.
        is_unclear: Whether a request may have been accepted without a response.
        why_not_again: Why it must not be sent again, if its request was not accepted.
        is_outdated: Whether it is filtered instead of sent again.
    """

    number: int
    claim: Claim
    source: str
    send: str
    lanes: tuple[object, ...]
    stage: Stage = Stage.CLAIM
    recovered: bool = False
    is_substitute: bool = False
    ignored: Collection[str | None] = ()
    names_row: bool = False
    decided_on: tuple[int, int] = (0, 0)
    attempts: int = 0
    before: Claim | None = None
    accepted_before: int = 0
    yields: int = 0
    claimed: float = math.inf
    is_unclear: bool = False
    why_not_again: str = ""
    is_outdated: bool = False
    lookup: Lookup = field(default_factory=Lookup)
    blockers: int = 0
    followers: list[QueuedSignal] = field(default_factory=list)

    @property
    def is_counted(self) -> bool:
        """Whether it is not sent yet, and the limit of signals in a run counts it."""
        return self.stage is Stage.CLAIM and not self.is_substitute

    @property
    def size(self) -> int:
        """Bytes of its request and record."""
        return len(self.claim.request) + len(self.claim.record)

    @property
    def is_open(self) -> bool:
        """Whether Stairoids may have it, though its outcome is not known."""
        is_first = self.stage is Stage.CLAIM and self.attempts > 0
        return self.is_unclear or self.stage is Stage.LOOK_UP or is_first

    @property
    def page(self) -> tuple[str, str | None]:
        """The page that its lookup reads next: source and cursor."""
        return self.source, next(reversed(self.lookup.pages.cursors), None)

    def take_together(self) -> list[QueuedSignal]:
        """Return this signal and those that share its lookup, and end the sharing."""
        others, self.lookup.together = self.lookup.together, []
        return [self, *others]

    def take_back(self) -> None:
        """Undo the step to a request that never left. It was no attempt."""
        if self.stage is Stage.ASK:
            self.stage = Stage.CLAIM
        elif self.stage is not Stage.LOOK_UP:
            self.stage = Stage.SEND  # claimed, and certainly not sent
            self.attempts -= 1
            self.claim = self.before or self.claim


def pair_of(signal: QueuedSignal) -> tuple[str, str]:
    """Return the source and the type of a signal."""
    return signal.source, type_of(signal.claim.request)


def lanes_of(
    version: Version, account: Mapping[str, str], contact: Mapping[str, str]
) -> tuple[object, ...]:
    """Return the subjects of a signal. Signals with a common one keep their order."""
    lanes: list[object] = [version.key[0]]
    if domain := account.get("domain"):
        lanes.append(("domain", domain))
    if email := contact.get("email"):
        lanes.append(("email", email.lower()))
    if len(lanes) == 1 and (name := account.get("name")):
        lanes.append(("name", name.lower()))
    if is_log_position(version.bookmark_value):  # the log has the order of a key
        lanes.append(version.record_key[0])
    return tuple(dict.fromkeys(lanes))


def _is_company(lane: object) -> bool:
    return isinstance(lane, tuple) and lane[0] == "domain"


class SendQueue:
    """Unfinished signals: ready, waiting for an earlier one, or waiting for a time.

    Attributes:
        lanes: Subject -> the last unfinished signals with it.
        unfinished: Number -> signal, in the order they were read.
        size: Bytes of their requests and records.
        substitutes: How many of them are sent only if the one before is rejected.
    """

    def __init__(self) -> None:
        self.lanes: dict[object, list[QueuedSignal]] = {}
        self.unfinished: dict[int, QueuedSignal] = {}
        self.size = self.substitutes = 0
        self._ready: deque[QueuedSignal] = deque()
        self._timers: list[tuple[float, int, QueuedSignal]] = []

    @property
    def has_room(self) -> bool:
        """Whether more signals may be read."""
        return len(self.unfinished) < _QUEUE_SIZE and self.size < _QUEUE_BYTES

    def next_at(self, now: float) -> float | None:
        """Return when the next signal may go on; None if none can by itself."""
        if self._ready:
            return now
        return self._timers[0][0] if self._timers else None

    def add(self, signal: QueuedSignal, *, waits: bool = False) -> None:
        """Add a signal behind all earlier ones with a common subject.

        Those of dead runs go on side by side. One that `waits` waits for `release` too.
        """
        self.unfinished[signal.number] = signal
        self.size += signal.size
        self.substitutes += signal.is_substitute
        before = set[QueuedSignal]()
        for lane in signal.lanes:
            last = self.lanes.setdefault(lane, [])
            if not signal.recovered:
                before.update(last)
                last.clear()
            last.append(signal)
        for first in before:
            first.followers.append(signal)
        signal.blockers = len(before) + waits
        if not signal.blockers:
            self._ready.append(signal)

    def requests_beside(self, signal: QueuedSignal) -> list[bytes]:
        """Return the other requests that Stairoids may have accepted."""
        return [
            other.claim.request
            for other in self.unfinished.values()
            if other is not signal and (other.is_unclear or other.claimed < math.inf)
        ]

    def left(
        self, outage: str, in_flight: Collection[QueuedSignal]
    ) -> list[tuple[QueuedSignal, Outcome, str]]:
        """Return all signals as pending at the end of a run, with the reason of each.

        `outage` is why Stairoids cannot be reached; empty if it can.
        """
        reason = f"not reached: {outage}" if outage else "not reached"
        open_ = reason if outage else "its request is open"
        return [
            (s, Outcome.PENDING, open_ if s.is_open or s in in_flight else reason)
            for s in self.unfinished.values()
        ]

    def unclaimed_of(self, stream: str) -> list[QueuedSignal]:
        """Return the signals of a stream that were read in this run and not claimed."""
        return [
            signal
            for signal in self.unfinished.values()
            if signal.claim.stream_name == stream and not signal.recovered
            if signal.claimed == math.inf
        ]

    def release(self, signal: QueuedSignal) -> None:
        """Let a signal go on that waits for this call."""
        signal.blockers -= 1
        if not signal.blockers:
            self._ready.append(signal)

    def let_pass(self, signal: QueuedSignal) -> None:
        """Let signals about other people of its company go before one that waits."""
        waiting = [signal]
        while waiting:
            first = waiting.pop()
            self._leave(first, filter(_is_company, first.lanes))
            kept = tuple(lane for lane in first.lanes if not _is_company(lane))
            first.lanes = kept
            others = [s for s in first.followers if not set(kept) & set(s.lanes)]
            first.followers = [s for s in first.followers if s not in others]
            waiting += first.followers
            for follower in others:
                self.release(follower)

    def add_before(self, first: QueuedSignal, signal: QueuedSignal) -> None:
        """Add a signal, and let another one, which was taken, wait for it."""
        self.unfinished[first.number] = first
        self.size += first.size
        first.followers.append(signal)
        signal.blockers += 1
        self._ready.append(first)

    def take(self, now: float) -> QueuedSignal | None:
        """Return the next signal that may go on now. It stays unfinished."""
        due = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        self._ready.extendleft(reversed(due))
        while self._ready:
            signal = self._ready.popleft()
            if signal.lookup.not_before > now:
                self.wait_until(signal, signal.lookup.not_before)
            elif signal.number in self.unfinished:  # not if it was dropped
                return signal
        return None

    def gather(self, first: QueuedSignal, now: float) -> None:
        """Let a lookup serve all others that may read the same page now."""
        together = first.lookup.together = [
            signal
            for signal in self._ready
            if signal.stage is Stage.LOOK_UP
            and signal.lookup.is_possible
            and signal.lookup.not_before <= now
            and signal.page == first.page
            and signal.number in self.unfinished
        ]
        taken = {first, *together}
        self._ready = deque(signal for signal in self._ready if signal not in taken)
        for lookup in (signal.lookup for signal in taken):
            lookup.asked_at = lookup.asked_at if lookup.pages.cursors else now

    def put_back(self, signal: QueuedSignal) -> None:
        """Let a signal go on as soon as possible."""
        self._ready.appendleft(signal)

    def wait_until(self, signal: QueuedSignal, due: float) -> None:
        """Let a signal go on at a monotonic time."""
        heapq.heappush(self._timers, (due, signal.number, signal))

    def finish(self, signal: QueuedSignal) -> None:
        """Remove a signal, and free the signals that waited only for it."""
        if self.unfinished.pop(signal.number, None) is not None:
            self.size -= signal.size
            self.substitutes -= signal.is_substitute
        self._leave(signal, signal.lanes)
        for follower in signal.followers:
            self.release(follower)
        signal.followers.clear()

    def _leave(self, signal: QueuedSignal, lanes: Iterable[object]) -> None:
        """Let new signals no longer wait for a signal in some of its lanes."""
        for lane in lanes:
            last = self.lanes.get(lane, [])
            if signal in last:
                last.remove(signal)
            if not last:
                self.lanes.pop(lane, None)
