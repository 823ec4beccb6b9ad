"""The checkpoint: emits STATE once everything before it is settled.

No STATE passes a record whose outcome is open.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.ledger.closing import Closing
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.reporting.report import Report
from target_stairoids.sending.identity import Identity
from target_stairoids.sending.observer import Observation, Observer
from target_stairoids.sending.queue import QueuedSignal, SendQueue
from target_stairoids.sending.record_decision import MappedRecord
from target_stairoids.settings import Settings

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


@dataclass(eq=False)
class OpenRecords:
    """Gives each record its one outcome, at once or after it has waited.

    The life of a record:

    * It ends at once (`count`), or it waits (`wait`). Then no STATE passes it.
    * It leaves (`leave`). Its signal may be sent, and the response ends it. A record
      without a signal gets the outcome that it has waited for.
    * It ends without a response (`finish`). If it is `pending`, its signal is dropped,
      and no STATE passes it in this run.

    Attributes:
        size: Bytes of the records that wait outside the queue.
        replayed: The numbers of dead letters that the run sends again.
    """

    ledger: Ledger
    report: Report
    queue: SendQueue
    checkpoint: Checkpoint
    observer: Observer | None
    settings: Settings
    size: int = 0
    replayed: set[int | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.identity = Identity(self.ledger.buffer)
        self.closing = Closing(self.ledger, self.queue.lanes)

    def count(
        self, record: MappedRecord, outcome: Outcome, reason: str, request: bytes = b""
    ) -> None:
        """Count the outcome of a record; `wait` has counted the signals that wait."""
        self.report.signals += not record.number
        self.report.count(record.stream.schema.name, outcome, reason)
        self.observe(record, outcome, reason, request)

    def wait(self, record: MappedRecord) -> None:
        """Let a record wait, so that no STATE passes it."""
        if not record.number:
            record.number = self.checkpoint.open()
            self.report.signals += 1
            record.size = 6_000 + 4 * len(record.record.text or b"")
            self.size += record.size

    def queue_signal(
        self, record: MappedRecord, signal: QueuedSignal, *, waits: bool
    ) -> None:
        """Put the signal of a record that waits into the queue."""
        record.signal = signal
        self.size -= record.size
        self.queue.add(signal, waits=waits)

    def leave(self, records: Iterable[MappedRecord]) -> None:
        """Let records have the outcome that they waited for."""
        for record in records:
            if record.signal is not None:
                self.queue.release(record.signal)
                continue
            outcome = record.draft.outcome
            if record.is_superseded:
                outcome = Outcome.SUPERSEDED
            elif outcome is Outcome.INVALID:
                self.add_dead_letter(record)
            self.finish(record, outcome, record.reason)

    def finish(self, record: MappedRecord, outcome: Outcome, reason: str) -> None:
        """Count the outcome of a record, and let STATE pass unless it is pending."""
        self.note_repeat(record, outcome)
        if outcome in {Outcome.PENDING, Outcome.BASELINED}:
            self.identity.others.discard(record.key)  # no check counts it now
        if record.signal is not None:
            self.drop(record.signal)
        elif record.number:
            self.size -= record.size
        if record.number and EFFECTS[outcome].lets_state_pass:
            self.checkpoint.close(record.number)
        request = record.draft.request if outcome is Outcome.WOULD_SEND else b""
        self.count(record, outcome, reason, request)

    def drop(self, signal: QueuedSignal) -> None:
        """Take a signal out of the queue. It is pending."""
        self.queue.finish(signal)
        self.ledger.buffer.finish(signal.number, Outcome.PENDING)

    def observe(
        self, record: MappedRecord, outcome: Outcome, reason: str, request: bytes = b""
    ) -> None:
        """Show a record's outcome to the observer."""
        if self.observer is not None:
            seen = record.stream, record.mapping, record.record.fields
            self.observer.decided(Observation(*seen, outcome, reason, request))

    # Dead letters

    def add_dead_letter(self, record: MappedRecord) -> None:
        """Keep the dead letter of an invalid record."""
        self.note_failed(record)
        self.ledger.buffer.add_dead_letter(record.as_dead_letter(self.settings))

    def note_failed(self, record: MappedRecord) -> None:
        """Note a record that has a dead letter."""
        self.closing.of(record.key).failed.add(record.person)

    def end_dead_letter(self, record: MappedRecord) -> None:
        """End the dead letter of a record, unless the run sends a copy of it."""
        if record.dead_letter not in self.replayed:
            self.ledger.buffer.discard(record.dead_letter)

    def note_filtered(self, record: MappedRecord) -> None:
        """Note a filtered record. A dead letter that a person sends again ends."""
        if record.dead_letter is not None:
            self.end_dead_letter(record)
        elif not record.is_by_person and self.closing.may_close(record.key):
            ended = self.closing.of(record.key)
            ended.read_person = record.person_in
            ended.add(record.person, record.version.bookmark_value)

    def note_repeat(self, record: MappedRecord, outcome: Outcome) -> None:
        """Note a record for which the last signal stands."""
        if EFFECTS[outcome].is_repeat and record.key in self.closing.invalid:
            ended = self.closing.of(record.key)
            if not ended.failed:
                ended.is_repeated = True
                self.note_filtered(record)
