"""Rules: is a state of an entity new, or was it sent before?

Pure functions over the answers of the ledger. `docs/delivery.md` lists the rules;
`tests/target/dedup/test_rules.py` has a row for each.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup.digests import is_before, is_newer

#: Entity digest and name of the mapping: the ledger's key for a kind of signal.
Key = tuple[bytes, str]


class Outcome(StrEnum):
    """The final outcome of a signal. Each signal of a run has exactly one."""

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

    __hash__ = str.__hash__  # several times faster than an enum's own


#: Outcomes after which an entity with `send: once` gets no further signal.
DONE = {
    Outcome.ACCEPTED,
    Outcome.BASELINED,
    Outcome.TOO_OLD,
    Outcome.UNKNOWN,
    Outcome.WOULD_SEND,
}


class Version(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One state of an entity under one mapping.

    Attributes:
        key: Digest of the record's key (the entity), and name of the mapping.
        stream: Number of the stream in the ledger.
        state_digest: Digest of the record.
        content_digest: Digest of the signal; None while unknown, or if it was rejected.
        bookmark_value: As `digests.bookmark_value` returns it.
        source_digest: Digest of the record's part that the content is made of.
    """

    key: Key
    stream: int
    state_digest: bytes
    mapping_digest: bytes
    content_digest: bytes | None = None
    bookmark_value: str | None = None
    source_digest: bytes | None = None
    text_digest: bytes | None = None

    @property
    def entity(self) -> bytes:
        """Digest of the record's key."""
        return self.key[0]

    @property
    def mapping(self) -> str:
        """Name of the mapping."""
        return self.key[1]


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one version, as the ledger has it.

    Attributes:
        run: The run that settled the version. Run numbers count up.
        mapping_digest: Digest of the mapping at that time.
    """

    outcome: str
    run: int
    mapping_digest: bytes


class Latest(msgspec.Struct, frozen=True, gc=False):
    """The latest version of an entity under one mapping, as the ledger has it.

    Attributes:
        content_digest: Of the last signal; None if none was sent.
        done: Whether a signal of the entity was ever sent, or kept back on purpose.
    """

    state_digest: bytes
    content_digest: bytes | None
    bookmark_value: str | None
    done: bool
    source_digest: bytes | None = None
    text_digest: bytes | None = None


class Known(msgspec.Struct, frozen=True):
    """The ledger's answer for a block of records.

    Attributes:
        settled: (state digest, name of the mapping) -> the version's outcome.
        latest: (entity, name of the mapping) -> the entity's latest version.
    """

    settled: dict[Key, Settled]
    latest: dict[Key, Latest]


class Policy(msgspec.Struct, frozen=True, gc=False):
    """The settings that the rules depend on.

    Attributes:
        send: `once`, `on_change` or `always`.
        last_complete_run: The newest run that settled all its input, or 0.
    """

    send: str
    last_complete_run: int


def decide(
    version: Version,
    settled: Settled | None,
    latest: Latest | None,
    policy: Policy,
    *,
    is_replay: bool = False,
) -> Outcome:
    """Return DUPLICATE, UNCHANGED, or PENDING if the version is to be sent.

    Args:
        version: If its content is unknown, only the rules that need no content apply.
        is_replay: Whether a person sends a dead letter again. Then only the content
            counts.
    """
    if not is_replay and _is_settled(version, settled, latest, policy):
        return Outcome.DUPLICATE
    if latest is None or policy.send == "always" or version.content_digest is None:
        return Outcome.PENDING
    if policy.send == "once":
        return Outcome.DUPLICATE if latest.done else Outcome.PENDING
    is_same = latest.content_digest == version.content_digest
    return Outcome.UNCHANGED if is_same else Outcome.PENDING


def _is_settled(
    version: Version, settled: Settled | None, latest: Latest | None, policy: Policy
) -> bool:
    if settled and settled.outcome == Outcome.REJECTED:
        return settled.mapping_digest == version.mapping_digest
    is_latest = latest is not None and latest.state_digest == version.state_digest
    if version.bookmark_value is not None:
        was_sent = latest is not None and latest.content_digest is not None
        if settled or (is_latest and was_sent):
            return True
        if policy.send == "always" or not latest or latest.bookmark_value is None:
            return False
        return is_before(version.bookmark_value, latest.bookmark_value)
    return settled is not None and (is_latest or settled.run > policy.last_complete_run)


def has_same_source(latest: Latest | None, source_digest: bytes | None) -> bool:
    """Return whether a record certainly makes the content that was sent last.

    Args:
        source_digest: Of the record; None if its content depends on more than that.
    """
    return (
        latest is not None
        and latest.content_digest is not None
        and source_digest is not None
        and latest.source_digest == source_digest
    )


def latest_after(
    before: Latest | None, version: Version, outcome: Outcome
) -> Latest | None:
    """Return an entity's latest version after one more version is settled.

    A rejected version changes nothing, because nothing was sent. An older bookmark
    value does not replace a newer one. An unchanged version replaces only a version
    with the same content, because another run may have sent something in between.
    """
    if outcome is Outcome.REJECTED:
        if before and before.state_digest == version.state_digest:
            return replace(before, content_digest=None)
        return before
    if (
        outcome is Outcome.UNCHANGED
        and before
        and before.content_digest != version.content_digest
    ):
        return before
    done = outcome in DONE or bool(before and before.done)
    if before and is_newer(before.bookmark_value, version.bookmark_value):
        return replace(before, done=done)
    return Latest(
        version.state_digest,
        version.content_digest,
        version.bookmark_value,
        done,
        version.source_digest,
        version.text_digest,
    )


def is_implied(
    before: Latest | None, after: Latest | None, version: Version, outcome: Outcome
) -> bool:
    """Return whether a version needs no row of its own beside the latest one.

    True for an unchanged version with a newer bookmark value. While it is the latest,
    the latest row identifies it. Later versions supersede it by their bookmark value.
    """
    return (
        outcome is Outcome.UNCHANGED
        and after is not None
        and after.state_digest == version.state_digest
        and _supersedes(after, before)
    )


def is_left_behind(before: Latest | None, after: Latest) -> bool:
    """Return whether the former latest version needs a row of its own from now on.

    True if it may have had none (see `is_implied`) and is not superseded.
    """
    return (
        before is not None
        and before.state_digest != after.state_digest
        and before.content_digest is not None
        and before.bookmark_value is not None
        and not _supersedes(after, before)
    )


def _supersedes(after: Latest, before: Latest | None) -> bool:
    return before is not None and is_newer(after.bookmark_value, before.bookmark_value)
