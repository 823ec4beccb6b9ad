"""The write buffer: outcomes without a request, on their way to the ledger.

Thousands are written in one transaction. Keys are random, so a small commit rewrites
about one page of the database per row, and a large one shares pages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from target_stairoids.dedup.rules import (
    Key,
    Known,
    Latest,
    Outcome,
    Settled,
    Version,
    latest_after,
)
from target_stairoids.ledger import dead_letters
from target_stairoids.ledger.structs import DeadLetter, SettledVersion

if TYPE_CHECKING:
    from target_stairoids.ledger.lookup import Mark
    from target_stairoids.ledger.transaction import Transaction

T = TypeVar("T")

#: Rows after which it is time to write; each takes about a kilobyte of memory.
FULL = 10_000


class WriteBuffer:
    """Outcomes and dead letters that are not in the database yet.

    Args:
        is_kept: Whether to keep them and never write, as a dry run does.

    Attributes:
        known: The unwritten outcomes; lookups put them over the database's.
        size: How many rows are unwritten.
    """

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self.known = Known({}, {})
        self._settled: list[SettledVersion] = []
        self._dead_letters: list[DeadLetter] = []
        self._discarded: list[int] = []
        self.size = 0

    def overlay(
        self, found: dict[Key, Latest | None], marks: Mapping[str, Sequence[Mark]]
    ) -> dict[Key, Latest | None]:
        """Return changed entities with the unwritten latest versions over them."""
        changed: dict[Key, Latest | None] = {}
        for mapping, asked in marks.items():
            for entity, mark in asked:
                if newest := self.known.latest.get((entity, mapping)):
                    found.pop((entity, mapping), None)
                    is_same = mark in {newest.state_digest, newest.text_digest}
                    if newest.content_digest is None or not is_same:
                        changed[entity, mapping] = newest
        return found | changed

    def settle(
        self, version: Version, outcome: Outcome, known: Known, run: int
    ) -> None:
        """Settle a version in a run (0 for a dry run).

        The outcome is added to `known` as well, for the rest of a block.
        """
        settled = Settled(outcome, run or sys.maxsize, version.mapping_digest)
        state = version.state_digest, version.mapping
        is_first = state not in known.settled
        now = latest_after(known.latest.get(version.key), version, outcome)
        for memory in (known, self.known):
            memory.settled[state] = settled
            if now is not None:
                memory.latest[version.key] = now
        row = SettledVersion(
            version=version, outcome=outcome, is_claimed=False, is_first=is_first
        )
        self._append(self._settled, row)

    def replace_latest(self, version: Version, before: Latest) -> None:
        """Put a version with the same content in the place of the latest one.

        No version of the entity is unwritten, so `before` is in the database.
        """
        self.known.latest[version.key] = replace(
            before,
            state_digest=version.state_digest,
            bookmark_value=version.bookmark_value,
            text_digest=version.text_digest,
        )
        row = SettledVersion(
            version=version,
            outcome=Outcome.UNCHANGED,
            is_claimed=False,
            replaces=before.state_digest,
        )
        self._append(self._settled, row)

    def add_dead_letter(self, dead_letter: DeadLetter) -> None:
        """Keep the dead letter of a record that cannot become a signal."""
        self._append(self._dead_letters, dead_letter)

    def discard(self, dead_letter: int) -> None:
        """Remove a dead letter, because a newer version was sent."""
        self._append(self._discarded, dead_letter)

    def _append(self, rows: list[T], row: T) -> None:
        if not self._is_kept:
            self.size += 1
            rows.append(row)

    def write(self, transaction: Transaction) -> None:
        """Write everything."""
        transaction.settle(self._settled)
        for dead_letter in self._dead_letters:
            dead_letters.add(transaction, dead_letter)
        dead_letters.discard(transaction, self._discarded)

    def clear(self) -> None:
        """Forget everything; call it once the transaction is on disk."""
        self.size = 0
        for rows in (self._settled, self._dead_letters, self._discarded):
            rows.clear()
        self.known = Known({}, {})
