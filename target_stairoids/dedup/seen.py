"""The entities that a run has read, in eight bytes each."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence

from target_stairoids.dedup.rules import Read

_BLOCK = 1 << 16  # notes in one sorted block
_OTHER = 1 << 56


class SeenEntities:
    """Entities of one mapping, and whether each was read in its latest state only.

    A note is a number: seven bytes of the entity's digest, and above them one bit. The
    numbers are sorted when the first question comes, because most runs ask none.
    """

    def __init__(self) -> None:
        self._new = array("Q")
        self._blocks: list[array[int]] = []

    def add_latest(self, entities: Sequence[bytes]) -> None:
        """Note entities, each read in its latest state."""
        notes = array("Q", b"\0".join([entity[:7] for entity in entities]) + b"\0")
        if sys.byteorder == "big":
            notes.byteswap()
        self._new.extend(notes)

    def add(self, entity: bytes, read: Read) -> None:
        """Note one entity."""
        self._new.append(_number(entity) | (_OTHER if read is Read.AS_OTHER else 0))

    def read(self, entity: bytes) -> Read:
        """Return how an entity was read so far."""
        if self._new:
            self._sort()
        number = _number(entity)
        if self._has(number | _OTHER):
            return Read.AS_OTHER
        return Read.AS_LATEST if self._has(number) else Read.NOT_YET

    def _has(self, number: int) -> bool:
        for block in self._blocks:
            place = bisect_left(block, number)
            if place < len(block) and block[place] == number:
                return True
        return False

    def _sort(self) -> None:
        """Sort the new notes, and merge blocks so that few are left."""
        new, self._new = self._new, array("Q")
        for start in range(0, len(new), _BLOCK):
            self._blocks.append(array("Q", sorted(new[start : start + _BLOCK])))
            while len(self._blocks) > 1:
                one, other = self._blocks[-2:]
                if len(one) > 2 * len(other) or len(one) + len(other) > _BLOCK:
                    break
                self._blocks[-2:] = [array("Q", sorted([*one, *other]))]


def _number(entity: bytes) -> int:
    return int.from_bytes(entity[:7], "little")
