"""The write buffer: outcomes without a request, on their way to the ledger.

Thousands are written in one transaction. Keys are random, so a small commit rewrites
about one page of an index per row, and a large one shares pages.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

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


class _Expected(msgspec.Struct, gc=False, eq=False):
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


class WriteBuffer:
    """Outcomes and dead letters that are not in the database yet.

    It also knows the last states that signals in the queue will leave, and the states
    in the database of one block of records. Lookups put the former over the latter.

    Args:
        is_kept: Whether to keep them and never write, as a dry run does.

    Attributes:
        run: Number of the run. A dry run has none; it comes after all runs.
        claims: How many claims of earlier runs are open. Their numbers are negative.
        size: How many rows are unwritten.
    """

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self.run = sys.maxsize
        self._stored: Mapping[Key, Latest | None] = {}
        self._stored_states: Mapping[Key, list[Settled]] = {}
        self._latest: dict[Key, LatestRow] = {}
        self._states: defaultdict[Key, list[Settled]] = defaultdict(list)
        self._signals: dict[int, _Expected] = {}  # in the queue
        self._expected: dict[Key, _Expected] = {}  # the last one that is likely sent
        self._of_record: defaultdict[Key, list[_Expected]] = defaultdict(list)
        self._settled: list[SettledVersion] = []
        self._seen_again: list[tuple[Any, ...]] = []
        self._dead_letters: list[DeadLetter] = []
        self._read_again: list[Version] = []
        self._discarded: list[int] = []
        self._made: dict[int, dict[tuple[int, str], KnownMapping]] = {}
        self.claims = self.size = 0

    def know(self, latest: Mapping[Key, Latest | None]) -> None:
        """Set the database's last states for the entities of a block of records."""
        self._stored, self._stored_states = latest, {}

    def also_know(
        self, latest: Mapping[Key, Latest], states: Mapping[Key, list[Settled]]
    ) -> None:
        """Add last states to those of a block, and set the outcomes of its states."""
        if latest:
            self._stored = {**self._stored, **latest}
        self._stored_states = states

    # Lookups

    def compared(
        self, marks: Mapping[str, Sequence[tuple[bytes, bytes]]], others: Iterable[Key]
    ) -> tuple[set[Key], dict[Key, Latest]]:
        """Compare unwritten and expected last states with records.

        Returns the entities in the marked state, and the last states of all others.
        The arguments are those of `Ledger.changed_entities`.
        """
        same, newest = set[Key](), dict[Key, Latest]()
        if not (self._latest or self._expected):
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
        return self.unwritten(key) or self._stored.get(key)

    def unwritten(self, key: Key) -> Latest | None:
        """Return an entity's last state, if it is unwritten or expected."""
        if (expected := self._expected.get(key)) is not None:
            return expected.latest
        row = self._latest.get(key)
        return None if row is None else row.latest

    def states(self, record_key: Key) -> list[Settled]:
        """Return the outcomes of states of a record's key of the block."""
        expected = [its.state for its in self._of_record.get(record_key, ())]
        stored = self._stored_states.get(record_key, ())
        return [*stored, *self._states.get(record_key, ()), *expected]

    def open_claim(self, key: Key) -> int:
        """Return the number of an earlier run's open claim; 0 if there is none."""
        expected = self._expected.get(key)
        return 0 if expected is None else min(expected.number, 0)

    def may_fail(self, key: Key) -> bool:
        """Return whether the last signal of an entity is in the queue."""
        return key in self._expected and not self._is_kept

    # Changes

    def settle(self, version: Version, outcome: Outcome) -> None:
        """Settle a version without a request."""
        before = self.latest(version.key)
        after = latest_after(before, version, outcome, self.run)
        if after is not None:
            self.put(version.key, version.stream, after)
        self._add_outcome(version, outcome, self.run)

    def _add_outcome(self, version: Version, outcome: Outcome, run: int) -> None:
        self._states[version.record_key].append(_settled(version, outcome, run))
        row = SettledVersion(
            version=version, outcome=outcome, run=run, is_claimed=False
        )
        self._append(self._settled, row)

    def put(
        self, key: Key, stream: int, after: Latest, before: Latest | None = None
    ) -> None:
        """Change an entity's last state.

        `before` is that in the database, for an entity that is not of the block.
        """
        if (expected := self._expected.get(key)) is not None:
            expected.latest = after
            return
        if (row := self._latest.get(key)) is not None:
            row.latest = after
            return
        before = before or self._stored.get(key)
        self._latest[key] = LatestRow(key, stream, after, before)
        self.size += not self._is_kept

    def share(self, key: Key, person: Key, stream: int) -> None:
        """Move a key's last state to its person, and mark the key as shared."""
        expected = self._expected.pop(key, None)
        last = self.latest(key)
        if last is not None and not (expected and expected.is_claimed):
            self.put(person, stream, replace(last, record_entity=key[0]))
        if expected is not None:
            self._expected[person] = expected
        for its in self._of_record.get(key, ()):
            its.key = person if its.key == key else its.key
        self.put(key, stream, Latest(is_shared=True, run=self.run))

    def see_again(
        self, record_key: Key, state: bytes | None, content: bytes | None
    ) -> None:
        """Note that the run read a state again that was sent before."""
        run = self.run
        self._append(self._seen_again, (run, *record_key, state, content))
        outcome = str(Outcome.ACCEPTED)
        again = Settled(state or b"", content, outcome, run, b"")
        self._states[record_key].append(again)
        for its in self._of_record.get(record_key, ()):
            if its.state.state_digest == state:
                its.state = replace(its.state, run=run)

    def add_dead_letter(self, dead_letter: DeadLetter) -> None:
        """Keep the dead letter of a record that cannot become a signal."""
        self._append(self._dead_letters, dead_letter)

    def read_again(self, version: Version) -> None:
        """Note that the run read a state again that has a dead letter."""
        self._append(self._read_again, version)

    def discard(self, dead_letter: int | None) -> None:
        """Remove a dead letter, if it is one, because a newer version was sent."""
        if dead_letter is not None:
            self._append(self._discarded, dead_letter)

    def _append(self, rows: list[T], row: T) -> None:
        if not self._is_kept:
            self.size += 1
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
        its = _Expected(number, version.key, version, state, before, after, after)
        self._signals[number] = its
        if is_last:
            self._expected[version.key] = its
        self._of_record[version.record_key].append(its)
        self.claims += number < 0

    def remember(self, stream: int, made: dict[tuple[int, str], KnownMapping]) -> None:
        """Note new mappings of a stream for its first claim, as a kill ends no run."""
        self._made[stream] = made

    def finish(self, number: int, outcome: Outcome) -> None:
        """Forget a signal that left the queue; the database has its outcome.

        Changes of its state by later records count only if the state is the last one.
        """
        if (its := self._signals.pop(number, None)) is None:
            return
        self.claims -= number < 0
        version, before, key = its.version, its.before, its.key
        of_record = self._of_record[version.record_key]
        of_record.remove(its)
        is_changed = EFFECTS[outcome].leaves_state and its.latest is not its.row
        if is_changed and key not in self._latest:
            self._latest[key] = LatestRow(key, version.stream, its.latest, its.row)
            self.size += not self._is_kept
        if self._expected.get(key) is its:
            del self._expected[key]
            if outcome is Outcome.FILTERED and its.latest.state_digest is None:
                # A later state of its row ended it. It counts as sent; otherwise the
                # next run that reads both states would send it.
                self._add_outcome(version, Outcome.BASELINED, its.state.run)
                cleared = replace(its.latest, done=bool(before and before.done))
                self.put(version.key, version.stream, cleared, before)
            if (
                of_record
                and of_record[0].key == key
                and not EFFECTS[outcome].leaves_state
            ):
                self._expected[key] = of_record[0]
        if not of_record:
            del self._of_record[version.record_key]

    # Writing

    def write(self, transaction: Transaction) -> None:
        """Write everything."""
        insert_settled(transaction, self._settled)
        write_latest(transaction, self._latest.values())
        transaction.execute(_SEE_AGAIN, self._seen_again)
        for dead_letter in self._dead_letters:
            dead_letters.add(transaction, dead_letter)
        dead_letters.read_again(transaction, self._read_again)
        dead_letters.discard(transaction, self._discarded)

    def write_before(self, transaction: Transaction, claimed: dict[int, int]) -> None:
        """Write new mappings of the streams of signals that are claimed next.

        Write everything if the signals, each with its stream, replace unwritten states.
        """
        known = [its for n in claimed if (its := self._signals.get(n)) is not None]
        for its in known:
            its.is_claimed = True
        if any(its.key in self._latest for its in known):
            self.write(transaction)
            self.clear()
        for stream in {*claimed.values()}:
            transaction.keep_mappings(self._made.pop(stream, {}))

    def clear(self) -> None:
        """Forget everything that is on disk now."""
        self.size = 0
        for rows in (
            self._settled,
            self._seen_again,
            self._dead_letters,
            self._read_again,
            self._discarded,
            self._latest,
            self._states,
        ):
            rows.clear()


def _settled(version: Version, outcome: Outcome, run: int) -> Settled:
    return Settled(
        version.state_digest,
        version.content_digest,
        str(outcome),
        run,
        version.mapping_digest,
    )
