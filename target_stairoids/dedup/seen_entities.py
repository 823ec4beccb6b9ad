"""The memory of a run: the entities that it read."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence

from target_stairoids.dedup.duplicate_rules import Read

_BLOCK = 1 << 16  # notes in one sorted block
_NEWEST = 1 << 13  # notes in the set
_OTHER = 1 << 56


class SeenEntities:
    """Entities of one mapping, and which of their states were read.

    A note is an integer: seven bytes of the entity's digest, and one bit above them for
    another state than the latest. The newest notes are in a set. The others are in
    sorted blocks, which `read` makes when it needs them.
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
