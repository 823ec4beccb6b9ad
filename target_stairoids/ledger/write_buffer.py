"""The write buffer: outcomes without a request, on their way to the ledger.

Thousands are written in one transaction. Keys are random, so a small commit rewrites
about one page of an index per row, and a large one shares pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple, replace

from target_stairoids.dedup.duplicate_rules import (
    Key,
    Latest,
    Settled,
    Version,
    latest_after,
)
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.ledger import dead_letters
from target_stairoids.ledger.outcomes import insert_settled, write_latest
from target_stairoids.ledger.schema import settled
from target_stairoids.ledger.structs import (
    DeadLetter,
    KnownMapping,
    LatestRow,
    SettledVersion,
)
from target_stairoids.ledger.transaction import Transaction

T = TypeVar("T")

#: Rows after which it is time to write; each takes about half a kilobyte of memory.
FULL = 20_000
_SEE_AGAIN = (
    f"UPDATE {settled.name} SET run = ? WHERE entity = ? AND mapping = ?"  # noqa: S608 - names of our own table
    " AND (state_digest = ? OR content_digest = ?)"
)


class _Block(msgspec.Struct, frozen=True, gc=False):
    """The database's states of the entities in one block of records."""

    latest: Mapping[Key, Latest | None] = {}
    states: Mapping[Key, list[Settled]] = {}


class _Unwritten(msgspec.Struct, eq=False):
    """Last states and other rows that go to the database with the next write.

    `states` has the outcomes in these rows, by the record's key.
    """

    latest: dict[Key, LatestRow] = {}
    states: dict[Key, list[Settled]] = {}
    settled: list[SettledVersion] = []
    seen_again: list[tuple[Any, ...]] = []
    dead_letters: list[DeadLetter] = []
    read_again: list[Version] = []
    discarded: list[int] = []


class _Signal(msgspec.Struct, gc=False, eq=False):
    """A signal in the queue, and the states that it will leave if it is accepted.

    Attributes:
        key: Its entity now. That of its version, or a person who shares that key.
        state: The outcome of its state.
        before: The entity's last state before.
        row: The entity's last state after it.
        latest: `row` with the changes by later records.
    """

    number: int
    key: Key
    version: Version
    state: Settled
    before: Latest | None
    row: Latest
    latest: Latest
    is_claimed: bool = False


class _Expected(msgspec.Struct, eq=False):
    """The states that signals in the queue will leave.

    Attributes:
        signals: Number -> signal.
        last: Entity -> the last signal that is likely sent.
        of_record: Record key -> its signals, in the order of the queue.
    """

    signals: dict[int, _Signal] = {}
    last: dict[Key, _Signal] = {}
    of_record: dict[Key, list[_Signal]] = {}

    def remove(self, signal: _Signal) -> bool:
        """Remove a signal; return whether it was the last one of its entity."""
        record_key = signal.version.record_key
        del self.signals[signal.number]
        self.of_record[record_key].remove(signal)
        if not self.of_record[record_key]:
            del self.of_record[record_key]
        if is_last := self.last.get(signal.key) is signal:
            del self.last[signal.key]
        return is_last


class WriteBuffer:
    """Outcomes and dead letters that are not in the database yet.

    Lookups put three layers over each other: `_Expected`, `_Unwritten` and `_Block`.
    `know` begins a block and ends the one before. `also_know` adds the states that only
    its mapped records ask for.

    Args:
        is_kept: Whether to keep them and never write, as a dry run does.

    Attributes:
        run: Number of the run. A dry run has none; it comes after all runs.
        claims: How many claims of earlier runs are open. Their numbers are negative.
    """

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self.run = sys.maxsize
        self._expected = _Expected()
        self._unwritten = _Unwritten()
        self._block = _Block()
        self._made: dict[int, dict[tuple[int, str], KnownMapping]] = {}
        self.claims = 0

    @property
    def size(self) -> int:
        """How many rows are to be written."""
        latest, _, *rows = astuple(self._unwritten)
        return 0 if self._is_kept else sum(map(len, (latest, *rows)))

    def know(self, latest: Mapping[Key, Latest | None]) -> None:
        """Begin a block, with the database's last states of its entities."""
        self._block = _Block(latest)

    def also_know(
        self, latest: Mapping[Key, Latest], states: Mapping[Key, list[Settled]]
    ) -> None:
        """Add last states to those of the block, and set the outcomes of its states."""
        self._block = _Block({**self._block.latest, **latest}, states)

    # Lookups

    def compared(
        self, marks: Mapping[str, Sequence[tuple[bytes, bytes]]], others: Iterable[Key]
    ) -> tuple[set[Key], dict[Key, Latest]]:
        """Compare unwritten and expected last states with records.

        Returns the entities in the marked state, and the last states of all others.
        The arguments are those of `Ledger.changed_entities`.
        """
        same, newest = set[Key](), dict[Key, Latest]()
        if not (self._unwritten.latest or self._expected.last):
            return same, newest
        for mapping, asked in marks.items():
            for entity, mark in asked:
                key = entity, mapping
                if (last := self.unwritten(key)) is None:
                    continue
                digests = {last.state_digest, last.text_digest}
                if last.content_digest is not None and mark in digests:
                    same.add(key)
                else:
                    newest[key] = last
        newest |= {key: last for key in others if (last := self.unwritten(key))}
        return same - newest.keys(), newest

    def latest(self, key: Key) -> Latest | None:
        """Return the last state of an entity of the block."""
        return self.unwritten(key) or self._block.latest.get(key)

    def unwritten(self, key: Key) -> Latest | None:
        """Return an entity's last state, if it is unwritten or expected."""
        if (expected := self._expected.last.get(key)) is not None:
            return expected.latest
        row = self._unwritten.latest.get(key)
        return None if row is None else row.latest

    def states(self, record_key: Key) -> list[Settled]:
        """Return the outcomes of states of a record's key of the block."""
        stored = self._block.states.get(record_key, ())
        expected = self._expected.of_record.get(record_key, ())
        unwritten = self._unwritten.states.get(record_key, ())
        return [*stored, *unwritten, *(signal.state for signal in expected)]

    def open_claim(self, key: Key) -> int:
        """Return the number of an earlier run's open claim; 0 if there is none."""
        expected = self._expected.last.get(key)
        return 0 if expected is None else min(expected.number, 0)

    def may_fail(self, key: Key) -> bool:
        """Return whether the last signal of an entity is in the queue."""
        return key in self._expected.last and not self._is_kept

    # Changes

    def settle(self, version: Version, outcome: Outcome) -> None:
        """Settle a version without a request."""
        before = self.latest(version.key)
        after = latest_after(before, version, outcome, self.run)
        if after is not None:
            self.put(version.key, version.stream, after)
        self._add_outcome(version, outcome, self.run)

    def _add_outcome(self, version: Version, outcome: Outcome, run: int) -> None:
        state = _settled(version, outcome, run)
        self._unwritten.states.setdefault(version.record_key, []).append(state)
        row = SettledVersion(
            version=version, outcome=outcome, run=run, is_claimed=False
        )
        self._append(self._unwritten.settled, row)

    def put(
        self, key: Key, stream: int, after: Latest, before: Latest | None = None
    ) -> None:
        """Change an entity's last state.

        `before` is that in the database, for an entity that is not of the block.
        """
        rows = self._unwritten.latest
        if (known := self._expected.last.get(key) or rows.get(key)) is not None:
            known.latest = after
        else:
            before = before or self._block.latest.get(key)
            rows[key] = LatestRow(key, stream, after, before)

    def share(self, key: Key, person: Key, stream: int) -> None:
        """Move a key's last state to its person, and mark the key as shared."""
        expected = self._expected.last.pop(key, None)
        last = self.latest(key)
        if last is not None and not (expected and expected.is_claimed):
            self.put(person, stream, replace(last, record_entity=key[0]))
        if expected is not None:
            self._expected.last[person] = expected
        for signal in self._expected.of_record.get(key, ()):
            signal.key = person if signal.key == key else signal.key
        self.put(key, stream, Latest(is_shared=True, run=self.run))

    def see_again(
        self, record_key: Key, state: bytes | None, content: bytes | None
    ) -> None:
        """Note that the run read a state again that was sent before."""
        run = self.run
        self._append(self._unwritten.seen_again, (run, *record_key, state, content))
        outcome = str(Outcome.ACCEPTED)
        again = Settled(state or b"", content, outcome, run, b"")
        self._unwritten.states.setdefault(record_key, []).append(again)
        for signal in self._expected.of_record.get(record_key, ()):
            if signal.state.state_digest == state:
                signal.state = replace(signal.state, run=run)

    def add_dead_letter(self, dead_letter: DeadLetter) -> None:
        """Keep the dead letter of a record that cannot become a signal."""
        self._append(self._unwritten.dead_letters, dead_letter)

    def read_again(self, version: Version) -> None:
        """Note that the run read a state again that has a dead letter."""
        self._append(self._unwritten.read_again, version)

    def discard(self, dead_letter: int | None) -> None:
        """Remove a dead letter, if it is one, because a newer version was sent."""
        if dead_letter is not None:
            self._append(self._unwritten.discarded, dead_letter)

    def _append(self, rows: list[T], row: T) -> None:
        if not self._is_kept:
            rows.append(row)

    # Signals in the queue

    def expect(self, number: int, version: Version, *, is_last: bool = True) -> None:
        """Note the last state that a signal in the queue will leave.

        `is_last` is whether it is sent after any outcome of the signals before it.
        """
        run = version.read_in or self.run
        before = self.latest(version.key)
        after = latest_after(before, version, Outcome.ACCEPTED, run)
        assert after is not None  # noqa: S101 - an accepted state is the last one
        state = _settled(version, Outcome.ACCEPTED, run)
        signal = _Signal(number, version.key, version, state, before, after, after)
        self._expected.signals[number] = signal
        if is_last:
            self._expected.last[version.key] = signal
        self._expected.of_record.setdefault(version.record_key, []).append(signal)
        self.claims += number < 0

    def remember(self, stream: int, made: dict[tuple[int, str], KnownMapping]) -> None:
        """Note new mappings of a stream for its first claim, as a kill ends no run."""
        self._made[stream] = made

    def finish(self, number: int, outcome: Outcome) -> None:
        """Forget a signal that left the queue; the database has its outcome.

        Changes of its state by later records count only if the state is the last one.
        """
        if (signal := self._expected.signals.get(number)) is None:
            return
        self.claims -= number < 0
        is_last = self._expected.remove(signal)
        key, version, latest = signal.key, signal.version, signal.latest
        if EFFECTS[outcome].leaves_state:
            if latest is not signal.row:
                row = LatestRow(key, version.stream, latest, signal.row)
                self._unwritten.latest.setdefault(key, row)
        elif is_last:
            if outcome is Outcome.FILTERED and latest.state_digest is None:
                # A later state of its row ended it. It counts as sent; otherwise the
                # next run that reads both states would send it.
                self._add_outcome(version, Outcome.BASELINED, signal.state.run)
                before = signal.before
                cleared = replace(latest, done=bool(before and before.done))
                self.put(version.key, version.stream, cleared, before)
            beside = self._expected.of_record.get(version.record_key)
            if beside and beside[0].key == key:
                self._expected.last[key] = beside[0]

    # Writing

    def write(self, transaction: Transaction) -> None:
        """Write everything."""
        rows = self._unwritten
        insert_settled(transaction, rows.settled)
        write_latest(transaction, rows.latest.values())
        transaction.execute(_SEE_AGAIN, rows.seen_again)
        for dead_letter in rows.dead_letters:
            dead_letters.add(transaction, dead_letter)
        dead_letters.read_again(transaction, rows.read_again)
        dead_letters.discard(transaction, rows.discarded)

    def write_before(self, transaction: Transaction, claimed: dict[int, int]) -> None:
        """Write new mappings of the streams of signals that are claimed next.

        Write everything if the signals, each with its stream, replace unwritten states.
        """
        signals = self._expected.signals
        known = [signal for n in claimed if (signal := signals.get(n)) is not None]
        for signal in known:
            signal.is_claimed = True
        if any(signal.key in self._unwritten.latest for signal in known):
            self.write(transaction)
            self.clear()
        for stream in {*claimed.values()}:
            transaction.keep_mappings(self._made.pop(stream, {}))

    def clear(self) -> None:
        """Forget everything that is on disk now."""
        self._unwritten = _Unwritten()


def _settled(version: Version, outcome: Outcome, run: int) -> Settled:
    return Settled(
        version.state_digest,
        version.content_digest,
        str(outcome),
        run,
        version.mapping_digest,
    )
