"""The gate: may this state of an entity go out, or is it settled?

Pure rules over what the ledger remembers; `docs/delivery.md` has them as a table, and
`tests/target/dedup/test_rules.py` has a row for each.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup.digests import is_before


class Outcome(StrEnum):
    """What became of a signal; every signal of a run ends in exactly one."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNCHANGED = "unchanged"
    FILTERED = "filtered"
    TOO_OLD = "too_old"
    BASELINED = "baselined"
    INVALID = "invalid"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    PENDING = "pending"
    WOULD_SEND = "would_send"

    __hash__ = str.__hash__  # an enum's own takes longer than all else of a count


#: Outcomes after which a `send: once` entity is done.
DONE = {
    Outcome.ACCEPTED,
    Outcome.BASELINED,
    Outcome.TOO_OLD,
    Outcome.UNKNOWN,
    Outcome.WOULD_SEND,
}


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What the ledger remembers of one version.

    Attributes:
        run: The run that settled it; runs count up.
        fingerprint: Of the mapping by which it was settled.
    """

    outcome: str
    run: int
    fingerprint: bytes


class Latest(msgspec.Struct, frozen=True, gc=False):
    """What the ledger remembers of an entity: its latest version.

    Attributes:
        content: What was said; None if nothing was.
        done: Whether any version of the entity was ever said or kept back on purpose.
        basis: What the content was made of; None if that is not known.
        spelling: The digest of the version's text; None if that is not known.
    """

    version: bytes
    content: bytes | None
    position: str | None
    done: bool
    basis: bytes | None = None
    spelling: bytes | None = None


def latest_after(
    before: Latest | None,
    outcome: Outcome,
    *,
    version: bytes,
    content: bytes | None,
    position: str | None,
    basis: bytes | None = None,
    spelling: bytes | None = None,
) -> Latest | None:
    """Return an entity's latest version once one more is settled.

    A rejected version has said nothing, so what was said before still stands; nor does
    an older position take the place of a newer one. An unchanged one is so only beside
    what it says too: if another run has said something since, that stands.
    """
    if outcome is Outcome.REJECTED:
        if before and before.version == version:
            return replace(before, content=None)
        return before
    if outcome is Outcome.UNCHANGED and before and before.content != content:
        return before
    done = outcome in DONE or bool(before and before.done)
    if (
        before
        and position is not None
        and before.position is not None
        and is_before(position, before.position)
    ):
        return replace(before, done=done)
    return Latest(version, content, position, done, basis, spelling)


def is_said_already(latest: Latest | None, basis: bytes | None) -> bool:
    """Say whether a version can say nothing but what was said, being made of the same.

    Args:
        basis: What its content would be made of; None if that cannot be told.
    """
    return (
        latest is not None
        and latest.content is not None
        and basis is not None
        and latest.basis == basis
    )


def is_implied(
    before: Latest | None, after: Latest | None, outcome: Outcome, version: bytes
) -> bool:
    """Say whether the entity's latest version is all there is to remember of one.

    That is so of an unchanged one that is newer than what came before it: as long as it
    is the latest it is known by that, and afterwards it is superseded.
    """
    return (
        outcome is Outcome.UNCHANGED
        and after is not None
        and after.version == version
        and _supersedes(after, before)
    )


def is_left_behind(before: Latest | None, after: Latest) -> bool:
    """Say whether what was the latest version must be remembered by itself from now on.

    That is so if it may have been an implied one, and is not superseded.
    """
    return (
        before is not None
        and before.version != after.version
        and before.content is not None
        and before.position is not None
        and not _supersedes(after, before)
    )


def _supersedes(after: Latest, before: Latest | None) -> bool:
    return before is not None and is_newer(after.position, before.position)


def is_newer(position: str | None, other: str | None) -> bool:
    """Say whether a state is newer than another, as far as positions tell."""
    return position is not None and other is not None and is_before(other, position)


def is_current(latest: Latest | None, version: bytes) -> bool:
    """Say whether a version is what was said last of its entity."""
    return (
        latest is not None and latest.version == version and latest.content is not None
    )


class Known(msgspec.Struct, frozen=True):
    """What the ledger answered for a block of records.

    Attributes:
        settled: (version, mapping's name) -> what became of it.
        latest: (entity, mapping's name) -> the latest version.
    """

    settled: dict[tuple[bytes, str], Settled]
    latest: dict[tuple[bytes, str], Latest]


def is_settled(
    settled: Settled | None,
    latest: Latest | None,
    *,
    version: bytes,
    position: str | None,
    fingerprint: bytes,
    send: str,
    last_complete_run: int,
) -> bool:
    """Say whether a version is done with, before its signal is even looked at.

    Args:
        settled: What became of this very version, if anything.
        latest: The entity's latest version, if any.
        fingerprint: Of the mapping as it is now.
        last_complete_run: The newest run that settled all it read; 0 if none did.
    """
    if settled and settled.outcome == Outcome.REJECTED:
        return settled.fingerprint == fingerprint
    if position is not None:
        if settled or is_current(latest, version):
            return True
        if send == "always" or not latest or latest.position is None:
            return False
        return is_before(position, latest.position)
    if not settled:
        return False
    if latest and latest.version == version:
        return True
    return settled.run > last_complete_run


def without_news(latest: Latest | None, *, send: str, content: bytes) -> Outcome | None:
    """Say why a new version is no reason to send its signal; None if it is one."""
    if latest is None or send == "always":
        return None
    if send == "once":
        return Outcome.DUPLICATE if latest.done else None
    return Outcome.UNCHANGED if latest.content == content else None
