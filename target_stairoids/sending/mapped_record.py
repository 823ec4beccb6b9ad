"""Candidates: the signals that a record may become, and what makes each the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.dedup.digests import entity_of, position_of
from target_stairoids.dedup.rules import Outcome
from target_stairoids.ledger.entries import Claim, DeadLetter, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_stairoids.dedup.record import Record
    from target_stairoids.dedup.rules import Latest
    from target_stairoids.mapping.compiled import CompiledMapping
    from target_stairoids.sending.streams import Stream

#: Marks a record of `dead-letters export`: "<id> <mapping>".
DEAD_LETTER_FIELD = "_sdc_stairoids_dead_letter"


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A signal a record may become.

    Attributes:
        key: What the ledger knows it by: the digest of what it is about, and the name
            of the mapping.
        letter: The dead letter that a person sends again, if it is one.
    """

    stream: Stream
    compiled_mapping: CompiledMapping
    record: Record
    key: tuple[bytes, str]
    letter: int | None

    @property
    def entity(self) -> bytes:
        """The digest of what it is about."""
        return self.key[0]

    @property
    def is_left_out(self) -> bool:
        """Whether nothing can be said of it, whatever it is."""
        return self.compiled_mapping.is_left_out

    @property
    def mark(self) -> bytes:
        """A digest that only this state of its entity has, the cheapest there is."""
        return self.record.spelling or self.version

    @property
    def version(self) -> bytes:
        """The digest of this state of its entity, however it is spelt."""
        return self.record.version_of(self.entity)

    @property
    def position(self) -> str | None:
        """Where this state stands in time, if the stream has a bookmark column."""
        bookmark = self.stream.schema.bookmark
        return position_of(self.record.key.get(bookmark)) if bookmark else None

    @property
    def basis(self) -> bytes | None:
        """The digest of all that the signal's content is made of, if that can be told.

        Where it is the same, so is the content, and no signal need be made to know it.
        """
        silent = self.compiled_mapping.ignored_columns
        if silent is None:
            return None
        return self.record.basis(self.compiled_mapping.compiled_digest, silent)

    def still_says(self, before: Latest, position: str | None) -> Verdict:
        """Return how it is settled if it says just what was said last.

        Args:
            position: Its own, which is not made twice.
        """
        return Verdict(
            entity=self.entity,
            version=self.version,
            mapping=self.compiled_mapping.name,
            stream=self.stream.number,
            outcome=Outcome.UNCHANGED,
            fingerprint=self.compiled_mapping.mapping_digest,
            content=before.content,
            position=position,
            basis=before.basis,
            spelling=self.record.spelling,
            is_claimed=False,
            moves_on_from=before.version,
        )

    def claim(self, content: bytes) -> Claim:
        """Return a claim without texts, which only a signal that goes out needs."""
        return Claim(
            entity=self.entity,
            version=self.version,
            mapping=self.compiled_mapping.name,
            stream=self.stream.number,
            stream_name=self.stream.schema.name,
            content=content,
            position=self.position,
            fingerprint=self.compiled_mapping.mapping_digest,
            signal=b"",
            record=b"",
            basis=self.basis,
            spelling=self.record.spelling,
        )

    def dead_letter(self, reason: str, record: bytes) -> DeadLetter:
        """Return the dead letter of a record that cannot become a signal.

        Args:
            record: Its text, as far as it is to be kept.
        """
        return DeadLetter(
            version=self.version,
            mapping=self.compiled_mapping.name,
            stream=self.stream.number,
            stream_name=self.stream.schema.name,
            outcome=Outcome.INVALID,
            reason=reason,
            record=record,
        )


def candidates_of(stream: Stream, record: Record, *, scope: str) -> list[Candidate]:
    """Return a candidate for each mapping of a record's stream.

    A dead letter that is sent again is one for the mapping that failed only.
    """
    letter = mapping = None
    if DEAD_LETTER_FIELD in record.key:
        letter, mapping = _letter_of(record.key)
    found = []
    key: tuple[str, ...] | None = None
    entity = b""
    for compiled_mapping in stream.maps:
        if letter is not None and compiled_mapping.name != mapping:
            continue
        if key is None or compiled_mapping.key != key:
            key = compiled_mapping.key
            entity = entity_of(scope, stream.schema.name, record.key, key)
        name = entity, compiled_mapping.name
        found.append(Candidate(stream, compiled_mapping, record, name, letter))
    return found


def _letter_of(record: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return id and mapping of the dead letter that an exported record is."""
    marker = record.get(DEAD_LETTER_FIELD)
    if not isinstance(marker, str):
        return None, ""
    number, _, mapping = marker.partition(" ")
    return (int(number), mapping) if number.isdecimal() else (None, "")
