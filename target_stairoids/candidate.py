"""Candidates: the signals that a record may become, and what makes each the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.gate import Outcome
from target_stairoids.identity import entity_of, position_of, version_of
from target_stairoids.ledger.entries import Claim, DeadLetter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_stairoids.signal_map import SignalMap
    from target_stairoids.streams import Stream

#: Marks a record of `dead-letters export`: "<id> <mapping>".
LETTER_FIELD = "_sdc_stairoids_dead_letter"


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A signal a record may become.

    Attributes:
        letter: The dead letter that a person sends again, if it is one.
    """

    stream: Stream
    signal_map: SignalMap
    record: dict[str, Any]
    entity: bytes
    version: bytes
    letter: int | None

    @property
    def position(self) -> str | None:
        """Where this state stands in time, if the stream has a bookmark column."""
        bookmark = self.stream.shape.bookmark
        return position_of(self.record.get(bookmark)) if bookmark else None

    @property
    def basis(self) -> bytes | None:
        """The digest of all that the signal's content is made of, if that can be told.

        Where it is the same, so is the content, and no signal need be made to know it.
        """
        silent = self.signal_map.silent
        if silent is None:
            return None
        said = {n: value for n, value in self.record.items() if n not in silent}
        return version_of(self.signal_map.maker, said)

    def claim(self, content: bytes, basis: bytes | None) -> Claim:
        """Return a claim without texts, which only a signal that goes out needs."""
        return Claim(
            entity=self.entity,
            version=self.version,
            mapping=self.signal_map.name,
            stream=self.stream.number,
            stream_name=self.stream.shape.name,
            content=content,
            position=self.position,
            fingerprint=self.signal_map.fingerprint,
            signal=b"",
            record=b"",
            basis=basis,
        )

    def dead_letter(self, reason: str, record: bytes) -> DeadLetter:
        """Return the dead letter of a record that cannot become a signal.

        Args:
            record: Its text, as far as it is to be kept.
        """
        return DeadLetter(
            version=self.version,
            mapping=self.signal_map.name,
            stream=self.stream.number,
            stream_name=self.stream.shape.name,
            outcome=Outcome.INVALID,
            reason=reason,
            record=record,
        )


def candidates_of(
    stream: Stream, record: dict[str, Any], *, scope: str
) -> list[Candidate]:
    """Return a candidate for each mapping of a record's stream.

    A dead letter that is sent again is one for the mapping that failed only.
    """
    shape = stream.shape
    letter = mapping = None
    if LETTER_FIELD in record:
        letter, mapping = _letter_of(record)
    found = []
    key: tuple[str, ...] | None = None
    entity = version = b""
    for signal_map in stream.maps:
        if letter is not None and signal_map.name != mapping:
            continue
        if key is None or signal_map.key != key:
            key = signal_map.key
            entity = entity_of(scope, shape.name, record, key)
            version = version_of(entity, record)
        found.append(Candidate(stream, signal_map, record, entity, version, letter))
    return found


def _letter_of(record: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return id and mapping of the dead letter that an exported record is."""
    marker = record.get(LETTER_FIELD)
    if not isinstance(marker, str):
        return None, ""
    number, _, mapping = marker.partition(" ")
    return (int(number), mapping) if number.isdecimal() else (None, "")
