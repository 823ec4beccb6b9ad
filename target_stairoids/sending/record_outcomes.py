"""The outcomes of records: count them, or put their signals into the send queue.

`checkpoint.OpenRecords` has the life of a record.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
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
    RecordAction,
)
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.sending.checkpoint import OpenRecords
from target_stairoids.sending.identity import Decided, SettledRecord
from target_stairoids.sending.observer import Observation
from target_stairoids.sending.record_decision import MappedRecord
from target_stairoids.sending.recovery import OutdatedClaims
from target_stairoids.sending.streams import Stream, checks_for, compare_identity

Checks = StreamChecks[MappedRecord]
Leaving = Callable[[Checks], list[MappedRecord]]  # that wait no more
_WAITING_BYTES = 64 << 20  # of records that wait outside the queue
_SET_ASIDE = "its stream is set aside"
_SUPERSEDED = "a newer state was sent or filtered since"


class StreamGate:
    """Lets the records of each stream leave, or keeps them back, by its checks.

    Attributes:
        streams: By name, each with its newest SCHEMA.
        set_aside: Stream -> the check that set it aside, in a sentence.
    """

    def __init__(self, records: OpenRecords) -> None:
        self._records, self._ledger = records, records.ledger
        self._settings = records.settings
        self.streams: dict[str, Stream] = {}
        self.set_aside: dict[str, str] = {}
        self._checks: dict[str, Checks] = {}
        self._valid: Counter[str] = Counter()
        self._refused: set[str] = set()

    def opened(self, stream: Stream) -> None:
        """Note a stream, or its new SCHEMA."""
        self.streams[stream.schema.name] = stream
        if stream.immediate_check is not None and stream.immediate_check[0] == SOURCE:
            self._refused.add(stream.schema.name)

    def of(self, stream: Stream) -> Checks:
        """Return the checks of a stream, made at its first signal."""
        name = stream.schema.name
        if name not in self._checks:
            checks = checks_for(stream, self._ledger, self._settings, self._valid[name])
            self._checks[name] = checks
            if checks.passed:
                self._remember(stream)
        return self._checks[name]

    def _remember(self, stream: Stream) -> None:
        if not self._settings.is_partial:
            self._ledger.buffer.remember(stream.number, stream.new_mappings)

    def compare(self, checks: Checks) -> None:
        """Compare the first records of a new identity, and let them leave."""
        compare_identity(checks, self.streams[checks.stream], self._ledger)
        if not checks.fired:
            self._remember(self.streams[checks.stream])
            self._records.leave(checks.taken())

    def keep_back(self, checks: Checks) -> None:
        """Keep back the waiting records, if a check has fired."""
        if checks.fired is None:
            return
        name, (check, reason) = checks.stream, checks.fired
        for record in checks.kept_back():
            self._records.finish(record, Outcome.PENDING, _SET_ASIDE)
        for signal in self._records.queue.unclaimed_of(name):
            self._records.drop(signal)
            self._records.report.count(name, Outcome.PENDING, _SET_ASIDE)
        if name not in self.set_aside:
            self.set_aside[name] = reason
            self._records.checkpoint.open()  # no STATE passes, even without a signal
            if check:
                self._ledger.check_fired(name, check, reason)

    def rekeyed(self, stream: Stream) -> None:
        """Check how many new records of a stream are known under other keys."""
        checks, of = self.of(stream), stream.counts
        checks.rekeyed(of.rekeyed, of.compared, of.namespaces)
        self.keep_back(checks)

    def note_valid(self, stream: str, times: int = 1) -> None:
        """Note valid records of a stream, which let its invalid ones leave."""
        self._valid[stream] += times
        if stream in self._refused:
            self._refused.discard(stream)
            refused = self.of(self.streams[stream])
            if refused.immediate_check is not None and not refused.is_allowed:
                refused.fire(*refused.immediate_check)
                self.keep_back(refused)
        if checks := self._checks.get(stream):
            self._records.leave(checks.valid(times))

    def end_waits(self, of: Leaving, *, compares: bool) -> None:
        """Let records have their outcomes, or set their stream aside."""
        for checks in self._checks.values():
            if compares and checks.new_identity and not checks.fired:
                self.compare(checks)
            checks.others &= self._records.identity.others
            self._records.leave(of(checks))
            self.keep_back(checks)

    def give_up(self) -> Iterator[MappedRecord]:
        """Yield the records that wait, and forget them."""
        return chain.from_iterable(one.kept_back() for one in self._checks.values())

    def may_remember(self, stream: Stream) -> bool:
        """Return whether the ledger may remember a stream's mappings."""
        checks = self._checks.get(stream.schema.name)
        return stream.immediate_check is None if checks is None else checks.passed


@dataclass(eq=False)
class RecordOutcomes:
    """Applies the rules for duplicates and the checks of streams to records.

    `identity` decides on a record, `gate` may keep it back, and `records` end it.

    Attributes:
        cut: Streams that ended before all their records were read.
    """

    records: OpenRecords

    def __post_init__(self) -> None:
        self.identity, self.gate = self.records.identity, StreamGate(self.records)
        self._ledger, self._settings = self.records.ledger, self.records.settings
        self._report, self._buffer = self.records.report, self._ledger.buffer
        self._outdated = OutdatedClaims(
            self._buffer, self.records.queue, self.records.checkpoint
        )
        self._claimed: dict[int, MappedRecord] = {}  # by the number of the claim
        self.cut: frozenset[str] = frozenset()
        self._is_whole = False

    def opened(self, stream: Stream) -> None:
        """Note a stream, or its new SCHEMA. A baseline is unfinished until it ends."""
        name = stream.schema.name
        if not (self._settings.dry_run or self._settings.is_partial):
            before = self.gate.streams.get(name)
            begun = before.baselines if before else frozenset()
            self._ledger.begin_baselines(name, stream.baselines - begun)
        self.gate.opened(stream)

    def filtered(self, stream: Stream, record: dict[str, Any], reason: str) -> None:
        """Count a record that no mapping sees."""
        self._report.read += 1
        self._report.signals += 1
        self._report.count(stream.schema.name, Outcome.FILTERED, reason)
        if self.records.observer is not None:
            filtered = Observation(stream, None, record, Outcome.FILTERED, reason)
            self.records.observer.decided(filtered)

    def count_duplicates(self, stream: str, mapping: str, known: list[bytes]) -> None:
        """Count records that are known word for word, given their entities."""
        its = self.gate.streams[stream]
        its.counts.seen |= its.used  # they may be there
        its.counts.sharing += self.identity.saw_latest(mapping, known)
        self._count_valid(stream, Outcome.DUPLICATE, len(known))

    def _count_valid(self, stream: str, outcome: Outcome, times: int) -> None:
        self._report.signals += times
        self._report.count(stream, outcome, times=times)
        self.gate.note_valid(stream, times)

    def note_settled(self, settled: Mapping[MappedRecord, SettledRecord]) -> None:
        """Count records of different entities that need no request."""
        by_name: defaultdict[str, list[SettledRecord]] = defaultdict(list)
        for record, its in settled.items():
            record.stream.note_fields(record.record)
            by_name[record.stream.schema.name].append(its)
            self.records.note_repeat(record, its[-1])
        for name, found in by_name.items():
            self.gate.streams[name].counts.sharing += self.identity.settle(found)
            for outcome, times in Counter(outcome for *_, outcome in found).items():
                self._count_valid(name, outcome, times)

    def note_sharing(self, record: MappedRecord, person: Key) -> None:
        """Count a record that is a person's last state, of a key that people share."""
        record.stream.counts.sharing += self.identity.note_shared(record.key, person)
        record.stream.note_fields(record.record)
        self.records.count(record, Outcome.DUPLICATE, "")
        self.gate.note_valid(record.stream.schema.name)

    def end_opt_out(self, record: MappedRecord) -> None:
        """Count a record that changes the suppression list."""
        record.stream.note_fields(record.record)
        if record.draft.outcome is Outcome.INVALID:
            self.records.add_dead_letter(record)
        else:
            self.records.note_filtered(record)
        self.records.count(record, record.draft.outcome, record.reason)

    def decide(self, record: MappedRecord) -> None:
        """Apply the rules for duplicates to a record, and their result."""
        stream, draft, dead_letter = record.stream, record.draft, record.dead_letter
        if draft.is_mapped:
            stream.note_fields(record.record)
        stream.counts.unread_times += draft.has_unread_time
        if self._buffer.claims:
            self._outdated.note(self.identity, record)
        stream.counts.replayed += dead_letter is not None
        if dead_letter is not None and self.identity.is_superseded(record):
            self.records.end_dead_letter(record)
            self.records.count(record, Outcome.SUPERSEDED, _SUPERSEDED)
        elif draft.outcome is Outcome.INVALID:
            self._refuse(record)
        elif draft.outcome is Outcome.FILTERED:
            if not record.mapping.is_left_out:
                self.records.note_filtered(record)
                for decided in self.identity.filtered(record):
                    self._apply(decided)
            self.records.count(record, draft.outcome, draft.reason)
        else:
            if dead_letter is None:
                self.gate.note_valid(stream.schema.name)
            for decided in self.identity.take(record):
                self._apply(decided)

    def _apply(self, decided: Decided) -> None:
        """Apply a decision, which may be on a record that waited until now."""
        record, action = decided.record, decided.step.action
        if action is RecordAction.HOLD:
            self.records.wait(record)
            return
        if action is RecordAction.SEND:
            self.records.replayed.add(record.dead_letter)
            self._send(record, decided)
            return
        if decided.step is REJECTED:  # it has a dead letter
            self.records.note_failed(record)
            self._buffer.read_again(decided.version)
        claim = self._outdated.repeated(decided)
        is_new = decided.step is NOT_ANOTHER or decided.step is OLDER
        if claim and claim not in self._claimed and decided.repeats_last and not is_new:
            self._claimed[claim] = record
            self.records.wait(record)
            if self._settings.dry_run:
                self.recovered(claim, Outcome.PENDING)
            return
        checks = self.gate.of(record.stream) if is_new else None
        is_baseline = is_new and record.draft.outcome is Outcome.BASELINED
        if checks is not None and (is_baseline or checks.is_allowed):
            self._buffer.settle(decided.version, Outcome.BASELINED)
        if is_baseline:
            self.records.finish(record, Outcome.BASELINED, "")
        elif decided.step is NOT_ANOTHER and checks is not None and checks.fired:
            self.records.finish(record, Outcome.PENDING, _SET_ASIDE)
        elif decided.step is OLDER and record.dead_letter is None:
            self._supersede(record, decided.step.reason)
        else:
            self.records.end_dead_letter(record)
            self.records.finish(record, Outcome[action.name], decided.step.reason)

    def recovered(self, number: int, outcome: Outcome) -> None:
        """Count the claim of a killed run, or end the record that waits for it."""
        record = self._claimed.get(number)
        self._outdated.end(number, outcome)
        if record is None or outcome is not Outcome.PENDING:
            self._report.recovered[outcome] += 1
        if record is None or record.signal is not None:
            return  # such a signal has its own outcome
        if outcome is Outcome.PENDING:
            reason = "the request of an earlier run is open"
            self.records.finish(record, outcome, reason)
        else:
            self.records.end_dead_letter(record)
            self.records.finish(record, Outcome.DUPLICATE, "")

    def _refuse(self, record: MappedRecord) -> None:
        """Make a dead letter of an invalid record, at once or once others are valid."""
        checks = self.gate.of(record.stream)
        self.records.wait(record)
        if record.dead_letter is not None or checks.invalid(record):
            self.records.leave([record])
        self.gate.keep_back(checks)

    def _supersede(self, record: MappedRecord, reason: str) -> None:
        """Settle a state that is older than the last one, or let it wait."""
        checks = self.gate.of(record.stream)
        record.is_superseded, record.reason = True, reason
        self.records.wait(record)
        is_expected = record.mapping.bulk_changes == "expected"
        if checks.superseded(record, is_expected=is_expected, now=time.monotonic()):
            self.records.leave([record])
        self.gate.keep_back(checks)

    def _send(self, record: MappedRecord, decided: Decided) -> None:
        """Put a record's signal into the queue, or settle it without a request."""
        version, buffer = decided.version, self._buffer
        outcome = record.draft.outcome
        if EFFECTS[outcome].is_withheld:
            buffer.settle(version, outcome)
            self.records.finish(record, outcome, "")
            return
        checks = self.gate.of(record.stream)
        if checks.fired:
            self.records.finish(record, Outcome.PENDING, _SET_ASIDE)
            return
        self.records.wait(record)
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
                self.records.leave([record])
        else:
            is_last = decided.step is not IF_REJECTED
            buffer.expect(record.number, version, is_last=is_last)
            signal = record.queued(decided, self._settings)
            if not is_last:
                signal.is_substitute = True
                self._claimed.setdefault(buffer.open_claim(version.key), record)
            self.records.queue_signal(record, signal, waits=not may_leave)
        if checks.has_sample:
            self.gate.compare(checks)
        self.gate.keep_back(checks)

    def let_go(self, now: float, *, is_full: bool) -> None:
        """Let the signals leave that waited long enough for the end of the input."""
        is_full |= self.records.size >= _WAITING_BYTES
        due = partial(Checks.due, now=now, is_full=is_full)
        self.gate.end_waits(due, compares=is_full)
        if self.records.size >= _WAITING_BYTES:
            for record in self.identity.held:
                self.gate.of(record.stream).fire_full()
            self._release()

    def end_of_input(self) -> None:
        """Decide on everything that waited for the end of the input."""
        self._release()
        self.gate.end_waits(Checks.end_of_input, compares=True)
        self._is_whole = True

    def _release(self) -> None:
        """Decide on the records that are held."""
        released = self.identity.release()
        for record, step in ((decided.record, decided.step) for decided in released):
            if step is NOT_ANOTHER and record.draft.outcome is not Outcome.BASELINED:
                self.gate.of(record.stream).another_person()
        for decided in released:
            self._apply(decided)

    @property
    def _read(self) -> dict[str, Stream]:
        """The streams that were read to their end."""
        if not self._is_whole or self._settings.is_partial:
            return {}
        streams = self.gate.streams.items()
        return {name: stream for name, stream in streams if name not in self.cut}

    def complete(self) -> dict[str, bool]:
        """Return the streams whose input is settled, and whether they had records."""
        pending = self._report.streams_with(Outcome.PENDING)
        open_ones = pending | self.gate.set_aside.keys()
        read = {n: s.counts for n, s in self._read.items() if n not in open_ones}
        return {n: its.taken > 0 for n, its in read.items() if not its.replayed}

    def baselined(self) -> dict[str, frozenset[str]]:
        """Return streams, and their mappings whose baseline ended with the input."""
        its = self._read.items()
        return {n: frozenset() if s.counts.replayed else s.baselines for n, s in its}

    @property
    def cut_baselines(self) -> set[str]:
        """The streams whose baseline did not end with the input."""
        return {name for name in self.cut if self.gate.streams[name].baselines}

    def give_up(self) -> None:
        """Count the records that still wait as pending."""
        held = [decided.record for decided in self.identity.release()]
        for record in chain(held, self.gate.give_up()):
            self.records.finish(record, Outcome.PENDING, "not reached")
