"""The memory of a run: unwritten states, and entities that it read."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from target_stairoids.dedup.duplicate_rules import (
    Key,
    Latest,
    Outcome,
    Read,
    Settled,
    Version,
)

_BLOCK = 1 << 16  # notes in one sorted block
_NEWEST = 1 << 13  # notes in the set
_OTHER = 1 << 56


class Memory(Protocol):
    """The states of entities that are not in the ledger's database yet."""

    def latest(self, key: Key) -> Latest | None:
        """Return an entity's last state, if it is unwritten."""

    def states(self, record_key: Key) -> list[Settled]:
        """Return the unwritten outcomes of states of a record's key."""

    def settle(
        self, version: Version, outcome: Outcome, before: Latest | None, run: int
    ) -> None:
        """Settle a version without a request, in a run."""

    def put(self, key: Key, stream: int, before: Latest | None, after: Latest) -> None:
        """Change an entity's last state; `before` is that of the database."""

    @property
    def has_claims(self) -> bool:
        """Whether a claim of an earlier run is open."""

    def open_claim(self, key: Key) -> int:
        """Return the number of an earlier run's open claim; 0 if there is none."""

    def share(
        self, key: Key, person: Key, stream: int, stored: Latest | None, run: int
    ) -> None:
        """Move a key's last state to its person, and mark the key as shared."""

    def see_again(
        self, record_key: Key, state: bytes | None, content: bytes | None, run: int
    ) -> None:
        """Note that a run read a state again that was sent before."""


class SeenEntities:
    """Entities of one mapping, and which of their states were read.

    A note is a number: seven bytes of the entity's digest, and above them one bit. The
    newest notes are a set. The others are sorted blocks, made when a question comes.
    """

    def __init__(self) -> None:
        self._newest: set[int] = set()
        self._unsorted = array("Q")
        self._blocks: list[array[int]] = []

    def add_latest(self, entities: Sequence[bytes]) -> None:
        """Note entities, each read in its latest state."""
        notes = array("Q", b"\0".join([entity[:7] for entity in entities]) + b"\0")
        if sys.byteorder == "big":
            notes.byteswap()
        self._unsorted.extend(notes)

    def add(self, entity: bytes, read: Read) -> None:
        """Note one entity."""
        number = int.from_bytes(entity[:7], "little")
        if read & Read.AS_LATEST:
            self._newest.add(number)
        if read & Read.AS_OTHER:
            self._newest.add(number | _OTHER)
        if len(self._newest) >= _NEWEST:
            self._unsorted.extend(self._newest)
            self._newest.clear()

    def read(self, entity: bytes) -> Read:
        """Return how an entity was read so far."""
        if self._unsorted:
            self._sort()
        number = int.from_bytes(entity[:7], "little")
        if self._has(number | _OTHER):
            return Read.AS_BOTH if self._has(number) else Read.AS_OTHER
        return Read.AS_LATEST if self._has(number) else Read.NOT_YET

    def _has(self, number: int) -> bool:
        if number in self._newest:
            return True
        for block in self._blocks:
            place = bisect_left(block, number)
            if place < len(block) and block[place] == number:
                return True
        return False

    def _sort(self) -> None:
        """Sort the notes, and merge blocks so that few are left."""
        new, self._unsorted = self._unsorted, array("Q")
        for start in range(0, len(new), _BLOCK):
            self._blocks.append(array("Q", sorted(new[start : start + _BLOCK])))
            while len(self._blocks) > 1:
                one, other = self._blocks[-2:]
                if len(one) > 2 * len(other) or len(one) + len(other) > _BLOCK:
                    break
                self._blocks[-2:] = [array("Q", sorted([*one, *other]))]
