"""Entries: the values that a turn of the ledger writes."""

from __future__ import annotations

from typing import Any

import msgspec

from target_stairoids.dedup.rules import Outcome


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal that this run is sending; also what a crash leaves behind.

    Attributes:
        record: The RECORD's JSON text, for the dead letter it may become.
        signal: The request's JSON text.
        basis: What the content is made of; not kept, a crash forgets it.
        spelling: The digest of the record's text; not kept either.
        claimed_at: When it was first sent, RFC 3339 in UTC; set by the ledger.
        attempted_at: When it was last sent; set by the ledger.
    """

    entity: bytes
    version: bytes
    mapping: str
    stream: int
    stream_name: str
    content: bytes
    position: str | None
    fingerprint: bytes
    signal: bytes
    record: bytes
    basis: bytes | None = None
    spelling: bytes | None = None
    attempts: int = 0
    claimed_at: str = ""
    attempted_at: str = ""
    run: int = 0

    def verdict(
        self,
        outcome: Outcome,
        *,
        is_claimed: bool,
        is_first: bool = False,
        signal_id: str | None = None,
    ) -> Verdict:
        """Return how it is settled; a rejected signal has said nothing."""
        return Verdict(
            entity=self.entity,
            version=self.version,
            mapping=self.mapping,
            stream=self.stream,
            outcome=outcome,
            fingerprint=self.fingerprint,
            content=None if outcome is Outcome.REJECTED else self.content,
            position=self.position,
            basis=self.basis,
            spelling=self.spelling,
            signal_id=signal_id,
            is_claimed=is_claimed,
            is_first=is_first,
        )


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a version is settled.

    Attributes:
        is_claimed: Whether this run's claim on the entity ends with it.
        is_first: Whether it is known that none was remembered of this version.
        moves_on_from: The entity's latest version, where this one only takes its place:
            it says the same and is newer, or is the same spelt otherwise.
    """

    entity: bytes
    version: bytes
    mapping: str
    stream: int
    outcome: Outcome
    fingerprint: bytes
    content: bytes | None
    position: str | None
    basis: bytes | None = None
    spelling: bytes | None = None
    signal_id: str | None = None
    is_claimed: bool = True
    is_first: bool = False
    moves_on_from: bytes | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal given up on, kept with its reason for a person or another run."""

    version: bytes
    mapping: str
    stream: int
    stream_name: str
    outcome: Outcome
    reason: str
    record: bytes
    signal: bytes | None = None
    request_id: str | None = None
    attempts: int = 1


_NOT_KEPT = {"basis", "spelling"}
_KEPT = [name for name in Claim.__struct_fields__ if name not in _NOT_KEPT]
#: What a new claim brings; the ledger sets the rest.
CLAIM_COLUMNS = [
    name
    for name in _KEPT
    if name not in {"claimed_at", "attempted_at", "run", "attempts"}
]


def claim_from(row: Any) -> Claim:  # noqa: ANN401 - a row of `claims`
    """Return the claim that a row holds."""
    values: dict[str, Any] = {name: getattr(row, name) for name in _KEPT}
    return Claim(**values)
