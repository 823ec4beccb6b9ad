"""The outcomes of records: count them, or put their signals into the send queue."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from target_stairoids.checks.stream_checks import SOURCE, StreamChecks
from target_stairoids.dedup.duplicate_rules import (
    IF_REJECTED,
    NOT_ANOTHER,
    OLDER,
    REJECTED,
    Key,
    Outcome,
    RecordAction,
)
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.reporting.report import Report
from target_stairoids.sending.checkpoint import Checkpoint
from target_stairoids.sending.identity import Decided, Identity, SettledRecord
from target_stairoids.sending.observer import Observation, Observer
from target_stairoids.sending.opt_outs import Closing
from target_stairoids.sending.queue import QueuedSignal, SendQueue
from target_stairoids.sending.record_decision import MappedRecord
from target_stairoids.sending.recovery import OutdatedClaims
from target_stairoids.sending.streams import Stream, checks_for, compare_identity
from target_stairoids.settings import Settings

Checks = StreamChecks[MappedRecord]
Leaving = Callable[[Checks], list[MappedRecord]]  # that wait no more
_WAITING_BYTES = 64 << 20  # of records that wait outside the queue
_SET_ASIDE = "its stream is set aside"
_SUPERSEDED = "a newer state was sent or filtered since"


@dataclass(eq=False)
class RecordOutcomes:
    """Applies the rules for duplicates and the checks of streams to records.

    Attributes:
        set_aside: Stream -> the check that set it aside, in a sentence.
        cut: Streams that ended before all their records were read.
    """

    ledger: Ledger
    report: Report
    queue: SendQueue
    checkpoint: Checkpoint
    observer: Observer | None
    settings: Settings

    def __post_init__(self) -> None:
        self.identity = Identity(self.ledger.buffer)
        self._claimed: dict[int, MappedRecord] = {}  # by the number of the claim
        self._outdated = OutdatedClaims(self.ledger.buffer, self.queue, self.checkpoint)
        self._checks: dict[str, Checks] = {}
        self._streams, self._refused = dict[str, Stream](), set[str]()
        self._valid: Counter[str] = Counter()
        self.set_aside: dict[str, str] = {}
        self.closing = Closing(self.ledger, self.queue)
        self.cut: frozenset[str] = frozenset()
        self._is_whole, self._bytes = False, 0  # of records that wait outside the queue

    def opened(self, stream: Stream) -> None:
        """Note a stream, or its new SCHEMA. A baseline is unfinished until it ends."""
        name = stream.schema.name
        if not (self.settings.dry_run or self.settings.is_partial):
            before = self._streams.get(name)
            begun = before.baselines if before else frozenset()
            self.ledger.begin_baselines(name, stream.baselines - begun)
        self._streams[name] = stream
        if stream.immediate_check is not None and stream.immediate_check[0] == SOURCE:
            self._refused.add(name)

    def filtered(self, stream: Stream, record: dict[str, Any], reason: str) -> None:
        """Count a record that no mapping sees."""
        self.report.read += 1
        self.report.signals += 1
        self.report.count(stream.schema.name, Outcome.FILTERED, reason)
        if self.observer is not None:
            filtered = Observation(stream, None, record, Outcome.FILTERED, reason)
            self.observer.decided(filtered)

    def count_duplicates(self, stream: str, mapping: str, known: list[bytes]) -> None:
        """Count records that are known word for word, given their entities."""
        self._streams[stream].counts.seen |= self._streams[stream].used  # may be there
        self._streams[stream].counts.sharing += self.identity.saw_latest(mapping, known)
        self._count_valid(stream, Outcome.DUPLICATE, len(known))

    def _count_valid(self, stream: str, outcome: Outcome, times: int) -> None:
        self.report.signals += times
        self.report.count(stream, outcome, times=times)
        self._note_valid(stream, times)

    def note_settled(self, settled: Mapping[MappedRecord, SettledRecord]) -> None:
        """Count records of different entities that need no request."""
        by_name: defaultdict[str, list[SettledRecord]] = defaultdict(list)
        for record, its in settled.items():
            record.stream.note_fields(record.record)
            by_name[record.stream.schema.name].append(its)
            self.closing.repeat(record, its[-1])
        for name, found in by_name.items():
            self._streams[name].counts.sharing += self.identity.settle(found)
            for outcome, times in Counter(outcome for *_, outcome in found).items():
                self._count_valid(name, outcome, times)

    def note_sharing(self, record: MappedRecord, person: Key) -> None:
        """Count a record that is a person's last state, of a key that people share."""
        record.stream.counts.sharing += self.identity.note_shared(record.key, person)
        record.stream.note_fields(record.record)
        self._count(record, Outcome.DUPLICATE, "")
        self._note_valid(record.stream.schema.name)

    def end_opt_out(self, record: MappedRecord) -> None:
        """Count a record that changes the suppression list."""
        record.stream.note_fields(record.record)
        if record.draft.outcome is Outcome.INVALID:
            self._add_dead_letter(record)
        else:
            self.closing.add(record)
        self._count(record, record.draft.outcome, record.reason)

    def decide(self, record: MappedRecord) -> None:
        """Apply the rules for duplicates to a record, and their result."""
        stream, draft, dead_letter = record.stream, record.draft, record.dead_letter
        if draft.is_mapped:
            stream.note_fields(record.record)
        stream.counts.unread_times += draft.has_unread_time
        if self.ledger.buffer.claims:
            self._outdated.note(self.identity, record)
        stream.counts.replayed += dead_letter is not None
        if dead_letter is not None and self.identity.is_superseded(record):
            self.closing.close(record)
            self._count(record, Outcome.SUPERSEDED, _SUPERSEDED)
        elif draft.outcome is Outcome.INVALID:
            self._refuse(record)
        elif draft.outcome is Outcome.FILTERED:
            if not record.mapping.is_left_out:
                self.closing.add(record)
                for decided in self.identity.filtered(record):
                    self._apply(decided)
            self._count(record, draft.outcome, draft.reason)
        else:
            if dead_letter is None:
                self._note_valid(stream.schema.name)
            for decided in self.identity.take(record):
                self._apply(decided)

    def _apply(self, decided: Decided) -> None:
        """Apply a decision, which may be on a record that waited until now."""
        record, action = decided.record, decided.step.action
        record.stream.counts.sharing += decided.sharing
        if action is RecordAction.HOLD:
            self._wait(record)
            return
        if action is RecordAction.SEND:
            self.closing.replayed.add(record.dead_letter)
            self._send(record, decided)
            return
        if decided.step is REJECTED:  # it has a dead letter
            self.closing.add_failed(record)
            self.ledger.buffer.read_again(decided.version)
        claim = self._outdated.repeated(decided)
        is_new = decided.step is NOT_ANOTHER or decided.step is OLDER
        if claim and claim not in self._claimed and decided.repeats_last and not is_new:
            self._claimed[claim] = record
            self._wait(record)
            if self.settings.dry_run:
                self.recovered(claim, Outcome.PENDING)
            return
        checks = self._checks_of(record.stream) if is_new else None
        is_baseline = is_new and record.draft.outcome is Outcome.BASELINED
        if checks is not None and (is_baseline or checks.is_allowed):
            self.ledger.buffer.settle(decided.version, Outcome.BASELINED)
        if is_baseline:
            self._finish(record, Outcome.BASELINED, "")
        elif decided.step is NOT_ANOTHER and checks is not None and checks.fired:
            self._finish(record, Outcome.PENDING, _SET_ASIDE)
        elif decided.step is OLDER and record.dead_letter is None:
            self._supersede(record, decided.step.reason)
        else:
            self.closing.close(record)
            self._finish(record, Outcome[action.name], decided.step.reason)

    def recovered(self, number: int, outcome: Outcome) -> None:
        """Count the claim of a killed run, or end the record that waits for it."""
        record = self._claimed.get(number)
        self._outdated.end(number, outcome)
        if record is None or outcome is not Outcome.PENDING:
            self.report.recovered[outcome] += 1
        if record is None or record.signal is not None:
            return  # such a signal has its own outcome
        if outcome is Outcome.PENDING:
            self._finish(record, outcome, "the request of an earlier run is open")
        else:
            self.closing.close(record)
            self._finish(record, Outcome.DUPLICATE, "")

    def _supersede(self, record: MappedRecord, reason: str) -> None:
        """Settle a state that is older than the last one, or let it wait."""
        checks = self._checks_of(record.stream)
        record.is_superseded, record.reason = True, reason
        self._wait(record)
        is_expected = record.mapping.bulk_changes == "expected"
        if checks.superseded(record, is_expected=is_expected, now=time.monotonic()):
            self._leave([record])
        self._set_aside(checks)

    def _send(self, record: MappedRecord, decided: Decided) -> None:
        """Put a record's signal into the queue, or settle it without a request."""
        version, buffer = decided.version, self.ledger.buffer
        outcome = record.draft.outcome
        if outcome in {Outcome.BASELINED, Outcome.TOO_OLD}:
            buffer.settle(version, outcome)
            self._finish(record, outcome, "")
            return
        checks = self._checks_of(record.stream)
        if checks.fired:
            self._finish(record, Outcome.PENDING, _SET_ASIDE)
            return
        self._wait(record)
        may_leave = record.dead_letter is not None or checks.admit(
            record,
            is_changed=decided.changes_earlier(buffer.run, is_first=checks.is_first),
            other=record.key if record.key in self.identity.others else None,
            is_expected=record.mapping.bulk_changes == "expected",
            sample=checks.sample_of(
                version,
                lambda: record.digests,
                is_new=decided.latest is None,
                is_once=record.mapping.send == "once",
            ),
            now=time.monotonic(),
        )
        if outcome is Outcome.WOULD_SEND:
            record.reason = decided.why_new
            buffer.settle(version, outcome)
            if may_leave:
                self._leave([record])
        else:
            is_last = decided.step is not IF_REJECTED
            buffer.expect(record.number, version, is_last=is_last)
            record.signal = record.queued(decided, self.settings)
            if not is_last:
                record.signal.is_substitute = True
                self._claimed.setdefault(buffer.open_claim(version.key), record)
            self._bytes -= record.size
            self.queue.add(record.signal, waits=not may_leave)
        if checks.has_sample:
            self._compare(checks)
        self._set_aside(checks)

    def _checks_of(self, stream: Stream) -> Checks:
        """Return the checks of a stream, made at its first signal."""
        name = stream.schema.name
        if name not in self._checks:
            checks = checks_for(stream, self.ledger, self.settings, self._valid[name])
            self._checks[name] = checks
            if checks.passed:
                self._remember(stream)
        return self._checks[name]

    def _remember(self, stream: Stream) -> None:
        if not self.settings.is_partial:
            self.ledger.buffer.remember(stream.number, stream.new_mappings)

    def _compare(self, checks: Checks) -> None:
        """Compare the first records of a new identity, and let them leave."""
        compare_identity(checks, self._streams[checks.stream], self.ledger)
        if not checks.fired:
            self._remember(self._streams[checks.stream])
            self._leave(checks.taken())

    def _set_aside(self, checks: Checks) -> None:
        """Keep back the waiting records, if a check has fired."""
        if checks.fired is None:
            return
        name, (check, reason) = checks.stream, checks.fired
        for record in checks.kept_back():
            self._finish(record, Outcome.PENDING, _SET_ASIDE)
        for signal in self.queue.unclaimed_of(name):
            self._drop(signal)
            self.report.count(name, Outcome.PENDING, _SET_ASIDE)
        if name not in self.set_aside:
            self.set_aside[name] = reason
            self.checkpoint.open()  # no STATE passes, even without a signal
            if check:
                self.ledger.check_fired(name, check, reason)

    def rekeyed(self, stream: Stream) -> None:
        """Check how many new records of a stream are known under other keys."""
        checks, of = self._checks_of(stream), stream.counts
        checks.rekeyed(of.rekeyed, of.compared, of.namespaces)
        self._set_aside(checks)

    def let_go(self, now: float, *, is_full: bool) -> None:
        """Let the signals leave that waited long enough for the end of the input."""
        is_full |= self._bytes >= _WAITING_BYTES
        due = partial(Checks.due, now=now, is_full=is_full)
        self._end_waits(due, compares=is_full)
        if self._bytes >= _WAITING_BYTES:
            for record in self.identity.held:
                self._checks_of(record.stream).fire_full()
            self._release()

    def _end_waits(self, of: Leaving, *, compares: bool) -> None:
        """Let records have their outcomes, or set their stream aside."""
        for checks in self._checks.values():
            if compares and checks.new_identity and not checks.fired:
                self._compare(checks)
            checks.others &= self.identity.others
            self._leave(of(checks))
            self._set_aside(checks)

    def end_of_input(self) -> None:
        """Decide on everything that waited for the end of the input."""
        self._release()
        self._end_waits(Checks.end_of_input, compares=True)
        self._is_whole = True

    def _release(self) -> None:
        """Decide on the records that are held."""
        released = self.identity.release()
        for record, step in ((decided.record, decided.step) for decided in released):
            if step is NOT_ANOTHER and record.draft.outcome is not Outcome.BASELINED:
                self._checks_of(record.stream).another_person()
        for decided in released:
            self._apply(decided)

    @property
    def _read(self) -> dict[str, Stream]:
        """The streams that were read to their end."""
        if not self._is_whole or self.settings.is_partial:
            return {}
        return {n: stream for n, stream in self._streams.items() if n not in self.cut}

    def complete(self) -> dict[str, bool]:
        """Return the streams whose input is settled, and whether they had records."""
        open_ones = self.report.streams_with(Outcome.PENDING) | self.set_aside.keys()
        read = {n: s.counts for n, s in self._read.items() if n not in open_ones}
        return {n: its.taken > 0 for n, its in read.items() if not its.replayed}

    def baselined(self) -> dict[str, frozenset[str]]:
        """Return streams, and their mappings whose baseline ended with the input."""
        its = self._read.items()
        return {n: frozenset() if s.counts.replayed else s.baselines for n, s in its}

    @property
    def cut_baselines(self) -> set[str]:
        """The streams whose baseline did not end with the input."""
        return {name for name in self.cut if self._streams[name].baselines}

    def may_remember(self, stream: Stream) -> bool:
        """Return whether the ledger may remember a stream's mappings."""
        checks = self._checks.get(stream.schema.name)
        return stream.immediate_check is None if checks is None else checks.passed

    def give_up(self) -> None:
        """Count the records that still wait as pending."""
        held = [decided.record for decided in self.identity.release()]
        for record in chain(held, *(one.kept_back() for one in self._checks.values())):
            self._finish(record, Outcome.PENDING, "not reached")

    def _leave(self, records: Iterable[MappedRecord]) -> None:
        """Let records have the outcome that they waited for."""
        for record in records:
            if record.signal is not None:
                self.queue.release(record.signal)
                continue
            outcome = record.draft.outcome
            if record.is_superseded:
                outcome = Outcome.SUPERSEDED
            elif outcome is Outcome.INVALID:
                self._add_dead_letter(record)
            self._finish(record, outcome, record.reason)

    def _refuse(self, record: MappedRecord) -> None:
        """Make a dead letter of an invalid record, at once or once others are valid."""
        checks = self._checks_of(record.stream)
        self._wait(record)
        if record.dead_letter is not None or checks.invalid(record):
            self._leave([record])
        self._set_aside(checks)

    def _note_valid(self, stream: str, times: int = 1) -> None:
        self._valid[stream] += times
        if stream in self._refused:
            self._refused.discard(stream)
            refused = self._checks_of(self._streams[stream])
            if refused.immediate_check is not None and not refused.is_allowed:
                refused.fire(*refused.immediate_check)
                self._set_aside(refused)
        if checks := self._checks.get(stream):
            self._leave(checks.valid(times))

    def _wait(self, record: MappedRecord) -> None:
        """Keep STATE before a record."""
        if not record.number:
            record.number = self.checkpoint.open()
            self.report.signals += 1
            record.size = 6_000 + 4 * len(record.record.text or b"")
            self._bytes += record.size

    def _finish(self, record: MappedRecord, outcome: Outcome, reason: str) -> None:
        """Count the outcome of a record, and let STATE pass unless it is pending."""
        self.closing.repeat(record, outcome)
        if outcome in {Outcome.PENDING, Outcome.BASELINED}:
            self.identity.others.discard(record.key)  # no check counts it now
        self.report.signals += not record.number  # else counted when it began to wait
        if record.signal is not None:
            self._drop(record.signal)
        elif record.number:
            self._bytes -= record.size
        if record.number and outcome is not Outcome.PENDING:
            self.checkpoint.close(record.number)
        request = record.draft.request if outcome is Outcome.WOULD_SEND else b""
        self.report.count(record.stream.schema.name, outcome, reason)
        self.observe(record, outcome, reason, request)

    def _drop(self, signal: QueuedSignal) -> None:
        self.queue.finish(signal)
        self.ledger.buffer.finish(signal.number, Outcome.PENDING)

    def _add_dead_letter(self, record: MappedRecord) -> None:
        self.closing.add_failed(record)
        self.ledger.buffer.add_dead_letter(record.as_dead_letter(self.settings))

    def _count(self, record: MappedRecord, outcome: Outcome, reason: str) -> None:
        self.report.signals += 1
        self.report.count(record.stream.schema.name, outcome, reason)
        self.observe(record, outcome, reason)

    def observe(
        self, record: MappedRecord, outcome: Outcome, reason: str, request: bytes = b""
    ) -> None:
        """Show a record's outcome to the observer."""
        if self.observer is not None:
            seen = record.stream, record.mapping, record.record.fields
            self.observer.decided(Observation(*seen, outcome, reason, request))
