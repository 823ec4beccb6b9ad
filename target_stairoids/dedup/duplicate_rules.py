"""Rules: is a state of an entity new, or was it sent before?

Pure functions over the states in the ledger and in this run. The rules are in
`docs/concepts/same-signal.md`, and `test_duplicate_rules.py` has a row for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum, auto
from hashlib import blake2b
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup.order import (
    are_ordered,
    is_before,
    is_log_position,
    run_of,
)
from target_stairoids.dedup.outcome import DONE, Outcome

_State = TypeVar("_State", bound="State")
#: Entity digest and name of the mapping: the ledger's key for a kind of signal.
Key = tuple[bytes, str]


class State(msgspec.Struct, frozen=True, gc=False):
    """One state of an entity.

    Attributes:
        state_digest: Digest of the record.
        content_digest: Digest of the signal; None while unknown.
        bookmark_value: As `order.bookmark_value` returns it.
        source_digest: Digest of the record's part that the content is made of.
        email: Digest of the person's address; None if it is unknown.
        domain: Digest of the company's domain; None if it is unknown.
        has_null_key: Whether the record lacks a key that its stream declares.
        read_order: As `order.read_order` returns it. A dead letter keeps it.
    """

    state_digest: bytes | None = None
    content_digest: bytes | None = None
    bookmark_value: str | None = None
    source_digest: bytes | None = None
    text_digest: bytes | None = None
    email: bytes | None = None
    domain: bytes | None = None
    has_null_key: bool = False
    read_order: int = 0


class Version(State, frozen=True, kw_only=True, gc=False):
    """A state of an entity under one mapping, as a record has it.

    Attributes:
        key: Digest of the entity, and name of the mapping. The entity is the record's
            key, or a person if several people share that key.
        record_key: Like `key`, but the entity is always the record's key.
        stream: Number of the stream in the ledger.
    """

    key: Key
    record_key: Key
    stream: int
    state_digest: bytes
    mapping_digest: bytes

    @property
    def mapping(self) -> str:
        """Name of the mapping."""
        return self.key[1]

    @property
    def read_in(self) -> int:
        """The run that read its record."""
        return run_of(self.read_order)


class Latest(State, frozen=True, gc=False):
    """The state of an entity that was sent last under one mapping.

    The ledger has a column for each attribute. The state digest is None if a later
    state was filtered, or if the key is shared. The content digest is None also if no
    signal was sent.

    Attributes:
        run: The run in which it was sent.
        done: Whether a signal of the entity was ever sent, or kept back on purpose.
        is_shared: Whether several people share the key. Each is an entity then.
        is_several: Whether several rows about one person have the key.
        record_entity: The digest of the shared key, if the entity is a person.
    """

    run: int = 0
    done: bool = False
    is_shared: bool = False
    is_several: bool = False
    record_entity: bytes | None = None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one state, as the ledger has it.

    Attributes:
        run: The run in which the state was last sent or seen again; 0 if its
            signal never arrived, and a later state was settled.
        mapping_digest: Digest of the mapping at that time.
    """

    state_digest: bytes
    content_digest: bytes | None
    outcome: str
    run: int
    mapping_digest: bytes


class Read(IntEnum):
    """Whether another record of an entity was read earlier in this run."""

    NOT_YET = 0
    AS_LATEST = 1  # only in the state that was sent last
    AS_OTHER = 2
    AS_BOTH = 3


class RecordAction(Enum):
    """The next step for a record."""

    SEND = auto()
    DUPLICATE = auto()
    UNCHANGED = auto()
    SUPERSEDED = auto()
    HOLD = auto()  # decide at the end of the input
    SHARE = auto()  # several people share the key; decide again for this person


class Step(msgspec.Struct, frozen=True, gc=False):
    """The decision on a record.

    Attributes:
        reason: For people; "" if the action needs none.
        is_seen_again: Whether the ledger notes that this run read the state again.
        leaves_behind: Whether the ledger notes that this run read the last state too.
        is_several: Whether the key turns out to have several rows about one person.
    """

    action: RecordAction
    reason: str = ""
    is_seen_again: bool = False
    leaves_behind: bool = False
    is_several: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of the ledger and of the run that a decision depends on.

    Attributes:
        latest: The entity's last state.
        states: The outcomes of this state, and of states with the same content.
        run: The number of this run.
        send: `once`, `on_change` or `always`.
        is_person: Whether the entity is a person instead of the record's key.
        is_replay: Whether a person sends a dead letter again.
        may_fail: Whether the entity's last signal is in the queue and may be rejected.
    """

    latest: Latest | None
    states: Sequence[Settled]
    run: int
    send: str
    read: Read = Read.NOT_YET
    is_person: bool = False
    is_replay: bool = False
    may_fail: bool = False


SEND = Step(RecordAction.SEND)
_DUPLICATE = Step(RecordAction.DUPLICATE)
_UNCHANGED = Step(RecordAction.UNCHANGED)
REJECTED = Step(RecordAction.DUPLICATE, "was rejected before")
_SEEN_AGAIN = Step(RecordAction.DUPLICATE, is_seen_again=True)
_RETURNED = Step(
    RecordAction.SUPERSEDED,
    "this state was sent before in this run",
    is_seen_again=True,
)
_SEVERAL = Step(RecordAction.DUPLICATE, is_seen_again=True, is_several=True)
OLDER = Step(RecordAction.SUPERSEDED, "a newer state was sent")
NOT_ANOTHER = Step(
    RecordAction.SUPERSEDED, "this key was already sent for another person"
)
_HOLD = Step(RecordAction.HOLD)
_SHARE = Step(RecordAction.SHARE)
_LEAVES_BEHIND = Step(RecordAction.SEND, leaves_behind=True)
#: `its` is the signal before this one. It may still be rejected.
IF_REJECTED = Step(RecordAction.SEND, "its signal was rejected")


def _repeated(version: Version, facts: Facts) -> Step | None:
    """Return the step for a rejected state, or for the last one; None for others."""
    latest = facts.latest
    if not facts.is_replay and was_rejected(version, facts.states):
        return REJECTED
    if latest is None or latest.content_digest is None:
        return None
    if latest.state_digest == version.state_digest and not facts.is_replay:
        return _DUPLICATE
    is_same_content = latest.content_digest == version.content_digest
    return _UNCHANGED if is_same_content and facts.send != "always" else None


def decide(version: Version, facts: Facts) -> Step:
    """Return the next step for a record's version, whose content is known."""
    latest, send = facts.latest, facts.send
    if (repeated := _repeated(version, facts)) is not None:
        return repeated
    before = last_sent(version, facts.states, send)
    if latest is None:
        return _DUPLICATE if before and not facts.is_replay else SEND
    if not facts.is_person and differ(version, latest):
        is_sure = facts.read or latest.run == facts.run
        if send == "once" and not is_sure:
            return _DUPLICATE if before else _HOLD
        return _SHARE
    if send == "once" and latest.done:
        return IF_REJECTED if facts.may_fail and not before else _DUPLICATE
    if facts.is_replay:
        return SEND
    return _decide_by_order(version, latest, facts, before)


def _decide_by_order(
    version: Version, latest: Latest, facts: Facts, before: int
) -> Step:
    """Decide on another state of the same person."""
    mine, last, run = version.bookmark_value, latest.bookmark_value, facts.run
    ordered = are_ordered(mine, last)
    if is_before(mine, last):
        if before:
            return _DUPLICATE
        is_newer_read = facts.read & Read.AS_LATEST or latest.run == run
        return SEND if is_newer_read else OLDER
    if not before:
        return _LEAVES_BEHIND if facts.read and not ordered else SEND
    is_sent_now = latest.run == run
    if is_before(last, mine) and (is_log_position(mine) or is_sent_now):
        return SEND
    # Sent before, but not last: it came back, or another row has the same key.
    if not ordered and before == run and is_sent_now and not latest.is_several:
        return _RETURNED
    if latest.is_several or (not ordered and before >= latest.run):
        return _SEEN_AGAIN
    is_other_row = facts.read >= Read.AS_OTHER or (
        not ordered and (facts.read or is_sent_now)
    )
    if facts.read and mine == last and last_sent(version, facts.states, "always"):
        is_other_row = True  # this very state was sent, at the time of the last one
    if is_other_row:
        return _SEEN_AGAIN if is_sent_now else _SEVERAL
    return _HOLD


def decide_again(version: Version, facts: Facts, decided_on: tuple[int, int]) -> Step:
    """Return the next step for a signal right before it is sent; `SEND` if it is sent.

    Another run may have sent a signal of the entity since the first decision.

    Args:
        decided_on: Two runs, as of the first decision: the last one that sent this
            state, and the last one that sent any state.
    """
    latest, send = facts.latest, facts.send
    if (repeated := _repeated(version, facts)) is not None:
        return repeated
    if latest is not None and send == "once" and latest.done:
        return NOT_ANOTHER if differ(version, latest) else _DUPLICATE
    if facts.is_replay:
        return SEND
    known_runs = {0, facts.run, *decided_on}
    if last_sent(version, facts.states, send) not in known_runs:
        return _DUPLICATE
    if (
        latest is not None
        and latest.run not in known_runs
        and is_older(version, latest)
    ):
        return OLDER
    return SEND


def differ(one: State, other: State) -> bool:
    """Return whether two states are certainly about different people."""
    pairs = (one.email, other.email), (one.domain, other.domain)
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def people_in(state: State, record_key: Key) -> list[Key]:
    """Return the entities of a person on a shared key: by email, and by domain."""
    entity, mapping = record_key
    return [
        (blake2b(name + part, digest_size=16, key=entity).digest(), mapping)
        for name, part in ((b"email", state.email), (b"domain", state.domain))
        if part is not None
    ]


def was_rejected(version: Version, states: Sequence[Settled]) -> bool:
    """Return whether Stairoids rejected the state under the same mapping."""
    return any(
        state.outcome == Outcome.REJECTED
        and state.run  # else it never arrived
        and state.state_digest == version.state_digest
        and state.mapping_digest == version.mapping_digest
        for state in states
    )


def last_sent(version: Version, states: Sequence[Settled], send: str) -> int:
    """Return the last run that sent the state, or saw it again; 0 if none.

    Unless each state is sent (`always`), states with the same content count as well.
    """
    return max(
        (
            state.run
            for state in states
            if state.outcome in DONE
            and (
                state.state_digest == version.state_digest
                or (send != "always" and state.content_digest == version.content_digest)
            )
        ),
        default=0,
    )


def latest_after(
    before: Latest | None, version: Version, outcome: Outcome, run: int
) -> Latest | None:
    """Return an entity's last state after one more state is settled in a run.

    A rejected state is the last one of a new entity only, because nothing was sent. An
    older bookmark value does not replace a newer one.
    """
    if outcome is Outcome.REJECTED:
        if before is None:
            return Latest(
                state_digest=version.state_digest,
                run=run,
                has_null_key=version.has_null_key,
            )
        if before.state_digest == version.state_digest:
            return replace(before, content_digest=None)
        return before
    done = outcome in DONE or bool(before and before.done)
    record_entity = before.record_entity if before else None
    if version.key != version.record_key:
        record_entity = version.record_key[0]
    if before and is_older(version, before):
        return replace(before, done=done)
    return Latest(
        state_digest=version.state_digest,
        content_digest=version.content_digest,
        bookmark_value=version.bookmark_value,
        source_digest=version.source_digest,
        text_digest=version.text_digest,
        email=version.email,
        domain=version.domain,
        has_null_key=version.has_null_key,
        read_order=version.read_order,
        run=run,
        done=done,
        is_several=bool(before and before.is_several),
        record_entity=record_entity,
    )


def is_replaced(state: State, other: State) -> bool:
    """Return whether a state of a record is older than another one.

    Without an order of their bookmark values, the one that was read first is older.
    """
    mine, last = state.bookmark_value, other.bookmark_value
    is_newer = is_before(last, mine)
    is_first = state.read_order < other.read_order
    return is_before(mine, last) or (is_first and not is_newer)


def is_older(version: Version, latest: Latest) -> bool:
    """Return whether a bookmark value is certainly older than the last one."""
    return is_before(version.bookmark_value, latest.bookmark_value)


def unchanged_after(before: Latest, version: Version) -> Latest:
    """Return the last state after a record with the same content.

    The bookmark value moves forward only. An unknown half of the person is filled in.
    """
    after = filled_in(before, version)
    if is_older(version, before):
        return after
    return replace(
        after,
        state_digest=version.state_digest,
        bookmark_value=version.bookmark_value or before.bookmark_value,
        source_digest=version.source_digest,
        text_digest=version.text_digest,
    )


def filled_in(state: _State, other: State) -> _State:
    """Return a state with the unknown half of its person filled in."""
    email = state.email or other.email
    return replace(state, email=email, domain=state.domain or other.domain)
