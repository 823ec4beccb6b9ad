"""The backlog: what is settled without a request, on its way to the ledger.

It is written thousands at a time: keys come in no order, so each commit rewrites about
as many pages of the database as it has rows, until it has so many that they share them.
What is not written yet counts all the same, here; a rehearsal never writes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from msgspec.structs import replace

from target_stairoids.dedup.rules import Known, Outcome, Settled, latest_after

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_stairoids.dedup.rules import Latest
    from target_stairoids.ledger.entries import Claim, DeadLetter, Verdict
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.sending.mapped_record import Candidate

_FULL = 10_000  # verdicts; each takes about a kilobyte of memory


class WriteBuffer:
    """Verdicts and dead letters that the ledger does not have yet.

    Args:
        is_dry_run: Whether they are only to be remembered, for all of the run.
    """

    def __init__(self, ledger: Ledger, *, is_dry_run: bool) -> None:
        self._ledger = ledger
        self._is_rehearsal = is_dry_run
        self._known = Known({}, {})
        self._verdicts: list[Verdict] = []
        self._letters: list[DeadLetter] = []
        self._moot: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._known.latest)

    @property
    def is_full(self) -> bool:
        """Whether it is time to write."""
        return len(self._verdicts) + len(self._letters) >= _FULL

    def speaks_of(self, candidate: Candidate) -> bool:
        """Say whether something of a candidate's entity was settled here."""
        return candidate.key in self._known.latest

    def add_to(self, known: Known, asked: Iterable[Candidate]) -> None:
        """Add to what the ledger said of candidates what it does not know yet."""
        mine = self._known
        for candidate in asked:
            version = candidate.version, candidate.compiled_mapping.name
            if version in mine.settled:
                known.settled[version] = mine.settled[version]
            if candidate.key in mine.latest:
                known.latest[candidate.key] = mine.latest[candidate.key]

    def settle(self, claim: Claim, outcome: Outcome, known: Known) -> None:
        """Settle a version, also for those who hold what was known so far."""
        # A rehearsal has no run of its own; what it settles is newer than any.
        run = self._ledger.run or sys.maxsize
        settled = Settled(outcome, run, claim.fingerprint)
        version = claim.version, claim.mapping
        is_first = version not in known.settled
        key = claim.entity, claim.mapping
        now = latest_after(
            known.latest.get(key),
            outcome,
            version=claim.version,
            content=claim.content,
            position=claim.position,
            basis=claim.basis,
            spelling=claim.spelling,
        )
        for memory in (known, self._known):
            memory.settled[version] = settled
            if now is not None:
                memory.latest[key] = now
        if not self._is_rehearsal:
            verdict = claim.verdict(outcome, is_claimed=False, is_first=is_first)
            self._verdicts.append(verdict)

    def move_on(self, verdict: Verdict, before: Latest) -> Outcome:
        """Put a version in the place of the latest one, which says the same.

        Args:
            before: The latest one; the backlog must not have spoken of its entity yet.

        Returns:
            Duplicate if it is the same one spelt otherwise, else unchanged.
        """
        self._known.latest[verdict.entity, verdict.mapping] = replace(
            before,
            version=verdict.version,
            position=verdict.position,
            spelling=verdict.spelling,
        )
        if not self._is_rehearsal:
            self._verdicts.append(verdict)
        is_same = verdict.version == before.version
        return Outcome.DUPLICATE if is_same else Outcome.UNCHANGED

    def bury(self, letter: DeadLetter) -> None:
        """Keep the dead letter of a record that cannot become a signal."""
        if not self._is_rehearsal:
            self._letters.append(letter)

    def discard(self, letter: int) -> None:
        """Forget a dead letter, because a newer version has said what it was to say."""
        self._moot.append(letter)

    def write(self) -> None:
        """Write everything; when this returns, it is on disk.

        Raises:
            LedgerError: Nothing of it is.
        """
        if self._is_rehearsal or not (self._verdicts or self._letters or self._moot):
            return
        with self._ledger.transaction() as turn:
            turn.settle(*self._verdicts)
            for letter in self._letters:
                turn.bury(letter)
            turn.discard(self._moot)
        self._verdicts.clear()
        self._letters.clear()
        self._moot.clear()
        self._known.settled.clear()
        self._known.latest.clear()
