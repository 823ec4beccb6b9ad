"""The decision on a record: duplicate, unchanged, filtered, invalid, or to be sent.

`decide` is pure. `record_processor` looks up its arguments and applies its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup import rules
from target_stairoids.dedup.digests import (
    bookmark_value,
    content_digest,
    entity_digest,
    is_newer,
)
from target_stairoids.dedup.rules import Key, Latest, Outcome, Policy, Settled, Version
from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.schema import DELETED_AT

if TYPE_CHECKING:
    from target_stairoids.dedup.record import Record
    from target_stairoids.mapping.signal import CompiledMapping, Signal
    from target_stairoids.sending.streams import Stream

#: Column of an exported dead letter: "<number> <name of the mapping>".
DEAD_LETTER_FIELD = "_sdc_stairoids_dead_letter"


#: The reason of a signal whose person or company is on the suppression list.
SUPPRESSED = "suppressed"


class MappedRecord(msgspec.Struct, gc=False, eq=False):
    """A record under one mapping of its stream.

    Attributes:
        key: Its entity, and the name of the mapping.
        dead_letter: The dead letter that a person sends again, if it is one.
        is_suppressed: Whether its person or company must not get a signal.
    """

    stream: Stream
    mapping: CompiledMapping
    record: Record
    key: Key
    dead_letter: int | None = None
    is_suppressed: bool = False
    _version: Version | None = None
    _why_filtered: str | None = None

    @property
    def why_filtered(self) -> str:
        """Why the record becomes no signal; "" if it may, or `when` has an error."""
        if self._why_filtered is None:
            try:
                self._why_filtered = self.mapping.why_filtered(self.record.fields)
            except InvalidSignalError:
                self._why_filtered = ""
        return self._why_filtered

    @property
    def version(self) -> Version:
        """Its version, without the content digest."""
        if self._version is None:
            mapping, record = self.mapping, self.record
            state, source = record.digests(
                self.key[0], mapping.compiled_digest, mapping.ignored_columns
            )
            bookmark = self.stream.schema.bookmark
            value = record.key.get(bookmark) if bookmark else None
            self._version = Version(
                key=self.key,
                stream=self.stream.number,
                state_digest=state,
                mapping_digest=mapping.mapping_digest,
                bookmark_value=bookmark_value(value) if bookmark else None,
                source_digest=source,
                text_digest=record.text_digest,
            )
        return self._version


def mapped_records(
    stream: Stream, record: Record, scope: str
) -> Iterator[MappedRecord]:
    """Yield a record once for each mapping of its stream.

    A dead letter that is sent again is mapped by the mapping that failed only.
    """
    number = only = None
    if DEAD_LETTER_FIELD in record.key:
        number, only = _dead_letter_of(record.key[DEAD_LETTER_FIELD])
    columns: tuple[str, ...] | None = None
    entity = b""
    for mapping in stream.maps:
        if number is not None and mapping.name != only:
            continue
        if columns is None or mapping.key != columns:
            columns = mapping.key
            entity = entity_digest(scope, stream.schema.name, record.key, columns)
        yield MappedRecord(stream, mapping, record, (entity, mapping.name), number)


def _dead_letter_of(marker: object) -> tuple[int | None, str]:
    """Return number and mapping of an exported dead letter."""
    if not isinstance(marker, str):
        return None, ""
    number, _, mapping = marker.partition(" ")
    return (int(number), mapping) if number.isdecimal() else (None, "")


class Checks(msgspec.Struct, frozen=True):
    """The checks of a run that look at single signals."""

    max_age_days: int | None
    is_dry_run: bool


class Facts(msgspec.Struct, frozen=True, gc=False):
    """The state of the ledger and the queue that a decision depends on.

    Attributes:
        is_queued: Whether a signal of its entity is in the queue.
        is_superseded: Whether a dead letter has a newer version that was sent.
    """

    settled: Settled | None
    latest: Latest | None
    policy: Policy
    is_queued: bool
    is_superseded: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the ledger knows the version or the entity."""
        return self.settled is not None or self.latest is not None


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The decision on a record.

    Attributes:
        outcome: PENDING if the signal is to be sent.
        reason: For people; "" if the outcome needs none.
        version: With its content digest, once a signal was made.
        text: The signal's request, as JSON text.
        has_unread_time: Whether the signal lacks a time that could not be read.
        discards: Whether the record is a dead letter that is no longer needed.
        is_mapped: Whether a mapping looked at the record.
    """

    outcome: Outcome
    reason: str = ""
    version: Version | None = None
    signal: Signal | None = None
    text: bytes = b""
    has_unread_time: bool = False
    discards: bool = False
    is_mapped: bool = True


_SUPPRESSED = Decision(Outcome.FILTERED, SUPPRESSED)
_LEFT_OUT = Decision(Outcome.FILTERED, "its stream is left out", is_mapped=False)
_DELETED = Decision(Outcome.FILTERED, "deleted at its source", is_mapped=False)
_SUPERSEDED = Decision(
    Outcome.DUPLICATE,
    "a newer version was sent since",
    discards=True,
    is_mapped=False,
)


def decide(mapped: MappedRecord, facts: Facts, checks: Checks) -> Decision:
    """Return the decision on a record that is not known word for word."""
    if filtered := _filtered(mapped):
        return filtered
    if facts.is_superseded:
        return _SUPERSEDED
    version, latest = mapped.version, facts.latest
    if facts.is_known and mapped.dead_letter is None and not facts.is_queued:
        outcome = rules.decide(version, facts.settled, latest, facts.policy)
        if outcome is not Outcome.PENDING:
            refused = facts.settled and facts.settled.outcome == Outcome.REJECTED
            return Decision(outcome, "was rejected before" if refused else "")
        if latest is not None and _has_same_content(mapped, latest, checks):
            same = replace(version, content_digest=latest.content_digest)
            return Decision(Outcome.UNCHANGED, version=same)
    try:
        return _decide_signal(mapped, facts, checks)
    except InvalidSignalError as error:
        return Decision(Outcome.INVALID, error.reason, version)


def _filtered(mapped: MappedRecord) -> Decision | None:
    """Return why a record is kept from becoming a signal; None if it may be one."""
    mapping, record = mapped.mapping, mapped.record
    if mapping.is_left_out:
        return _LEFT_OUT
    is_deleted = record.text is None and record.key.get(DELETED_AT) is not None
    if is_deleted and not mapping.wants_deleted:
        return _DELETED
    if mapped.is_suppressed:
        return _SUPPRESSED
    reason = mapped.why_filtered
    return Decision(Outcome.FILTERED, reason) if reason else None


def only_replaces_latest(
    mapped: MappedRecord, latest: Latest | None, checks: Checks
) -> bool:
    """Return whether a record's version only takes the place of the latest one.

    It has the same content and is newer, or it is the same state with another text.
    """
    if latest is None or latest.content_digest is None:
        return False
    if mapped.is_suppressed or mapped.why_filtered:
        return False
    version = mapped.version
    if latest.state_digest == version.state_digest:
        return version.text_digest is not None
    is_new = is_newer(version.bookmark_value, latest.bookmark_value)
    return is_new and _has_same_content(mapped, latest, checks)


def _has_same_content(mapped: MappedRecord, latest: Latest, checks: Checks) -> bool:
    """Return whether the record's signal certainly equals the last one sent.

    False where another check has to see the signal.
    """
    if checks.max_age_days is not None or mapped.stream.is_baseline:
        return False
    return rules.has_same_source(latest, mapped.version.source_digest)


def _decide_signal(mapped: MappedRecord, facts: Facts, checks: Checks) -> Decision:
    """Make a record's signal, and return the decision on it."""
    mapping, stream, fields = mapped.mapping, mapped.stream, mapped.record.fields
    if mapping.when is not None:
        mapping.when(fields)  # raises an error that `why_filtered` leaves out
    signal = mapping.signal_from(fields)
    ignored = {*mapping.ignore_changes, stream.schema.bookmark}
    version = replace(mapped.version, content_digest=content_digest(signal, ignored))
    if stream.is_baseline:
        return Decision(Outcome.BASELINED, version=version)
    is_unread = signal.occurred_at is None and mapping.has_unread_time(fields)
    if is_unread and checks.max_age_days is not None:
        raise InvalidSignalError(
            "occurred_at: cannot be read, and `max_event_age_days` needs it"
        )
    if _is_too_old(signal, checks.max_age_days):
        return Decision(Outcome.TOO_OLD, version=version)
    if facts.is_known and not facts.is_queued:
        is_replay = mapped.dead_letter is not None
        outcome = rules.decide(
            version, facts.settled, facts.latest, facts.policy, is_replay=is_replay
        )
        if outcome is not Outcome.PENDING:
            return Decision(outcome, version=version, discards=is_replay)
    text = signal.checked_text()
    if not checks.is_dry_run:
        return Decision(Outcome.PENDING, "", version, signal, text, is_unread)
    reason = ""
    if facts.latest is not None:
        was_sent = facts.latest.content_digest is not None
        reason = "its content changed" if was_sent else "was rejected before"
    return Decision(Outcome.WOULD_SEND, reason, version, signal, text, is_unread)


def _is_too_old(signal: Signal, max_age_days: int | None) -> bool:
    if max_age_days is None or signal.occurred_at is None:
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(signal.occurred_at)
    return age / timedelta(days=1) > max_age_days
