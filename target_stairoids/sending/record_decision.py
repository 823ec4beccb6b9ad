"""The signal of a record, or why it has none.

`draft_of` is pure. `record_outcomes` passes its result to `identity`, which applies the
rules for duplicates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup import order
from target_stairoids.dedup.duplicate_rules import Key, Latest, Version, is_older
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import (
    content_digest,
    entity_digest,
    is_null_key,
    json_array,
    key_digest,
    keyed_digest,
    keyless_digest,
    person_digest,
    value_at,
    values_at,
)
from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.ledger.structs import Claim, DeadLetter
from target_stairoids.mapping.people_and_companies import is_domain, is_email
from target_stairoids.mapping.privacy import is_deleted
from target_stairoids.mapping.schema import chosen
from target_stairoids.sending.queue import QueuedSignal, lanes_of

if TYPE_CHECKING:
    from target_stairoids.dedup.record import Record
    from target_stairoids.mapping.signal import CompiledMapping, Signal
    from target_stairoids.sending.identity import Decided
    from target_stairoids.sending.streams import Stream
    from target_stairoids.settings import Settings

#: Column of an exported dead letter: its `mark_of`, and the name of the mapping.
DEAD_LETTER_FIELD = "_sdc_stairoids_dead_letter"
FOREIGN = 0  # the number of a dead letter of another ledger

#: Reason of a signal whose person or company is on the suppression list.
SUPPRESSED = "suppressed"


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record's signal, before the rules for duplicates.

    Attributes:
        outcome: If the record's state is new. PENDING if its signal is to be sent.
        version: With content and person, if there is a signal.
        request: The JSON text of the signal's request, if it is to be sent.
        has_unread_time: Whether the signal lacks a time that could not be read.
    """

    outcome: Outcome
    reason: str = ""
    version: Version | None = None
    signal: Signal | None = None
    request: bytes = b""
    has_unread_time: bool = False
    is_mapped: bool = True


_NOT_DRAFTED = Draft(Outcome.PENDING)


class MappedRecord(msgspec.Struct, gc=False, eq=False):
    """A record under one mapping of its stream, from its reading to its outcome.

    Attributes:
        read_order: As for a version.
        has_null_key: Whether it lacks a key that its stream declares.
        is_by_person: Whether the person identifies it, because no key does (`once`).
        draft: Its signal, unless it is known word for word.
        reason: Of the outcome `would_send`, `invalid` or `superseded`.
        number: In the checkpoint, once the record waits; else 0.
        size: How many bytes of memory it takes while it waits.
        signal: Its signal in the queue.
        is_superseded: Whether it is older than the state that was sent last.
    """

    stream: Stream
    mapping: CompiledMapping
    record: Record
    key: Key
    read_order: int
    has_null_key: bool = False
    is_by_person: bool = False
    dead_letter: int | None = None
    is_suppressed: bool = False
    draft: Draft = _NOT_DRAFTED
    reason: str = ""
    number: int = 0
    size: int = 0
    signal: QueuedSignal | None = None
    is_superseded: bool = False
    _version: Version | None = None

    def add_draft(self, draft: Draft) -> None:
        """Add its signal. Its version has the content and the person from now on."""
        self.draft, self.reason = draft, draft.reason
        self._version = draft.version or self._version

    @property
    def why_filtered(self) -> str:
        """Why the record becomes no signal, or `InvalidSignalError`; "" if it may."""
        record, mapping = self.record, self.mapping
        names = tuple(record.canonical if record.text else record.key)
        return mapping.why_filtered(record.fields) if mapping.may_filter(names) else ""

    @property
    def is_deleted(self) -> bool:
        """Whether a column that its mapping does not read marks its row as deleted."""
        record, columns = self.record.key, self.mapping.deleted_columns
        return not record.keys().isdisjoint(columns) and is_deleted(record, columns)

    @property
    def version(self) -> Version:
        """Its version; without content and person before its signal is made."""
        if self._version is None:
            value = order.value_in(self.record.key, self.stream.schema)
            self._version = self._version_of(value)
        return self._version

    def _version_of(self, value: str | None, state: bytes | None = None) -> Version:
        record, columns = self.record, self.mapping.columns
        if state is None:
            state = record.state_digest(self.key[0], columns.stateless)
        return Version(
            key=self.key,
            record_key=self.key,
            stream=self.stream.number,
            state_digest=state,
            mapping_digest=self.mapping.mapping_digest,
            bookmark_value=value,
            source_digest=record.source_digest(columns.ignored),
            text_digest=record.mark(self.key[0], columns.stateless),
            has_null_key=self.has_null_key,
            read_order=self.read_order,
        )

    def touched(self, latest: Latest) -> Version | None:
        """Return its version if the bookmark column shows that it is a newer state.

        It has the last state's digest, because a further digest is slow.
        """
        value = order.value_in(self.record.key, self.stream.schema)
        last = latest.state_digest
        is_newer = order.is_before(latest.bookmark_value, value)
        if last is None or order.is_log_position(value) or not is_newer:
            return None
        return self._version_of(value, last)

    @property
    def may_be_rekeyed(self) -> bool:
        """Whether earlier runs may have known it under another key."""
        mapping, stream = self.mapping, self.stream
        is_same = mapping.name in stream.known and mapping.name in stream.same_mappings
        has_key = bool(mapping.key) and not self.is_by_person
        is_new = is_same and has_key and self.dead_letter is None
        return is_new and mapping.bulk_changes != "expected"

    @property
    def ignored(self) -> frozenset[str | None]:
        """The properties whose change alone sends nothing."""
        if self.mapping.send == "always":
            return frozenset()
        return self.mapping.ignore_changes | {self.stream.schema.bookmark}

    @property
    def null_columns(self) -> set[str]:
        """The columns of its key that are null or empty."""
        names = self.mapping.key
        return {n for n in names if is_null_key([value_at(self.record.key, n)])}

    @property
    def person(self) -> bytes | None:
        """The digest of its person's address, else of its domain; None if unknown."""
        return self.person_in(self.record.fields)

    def person_in(self, fields: dict[str, Any]) -> bytes | None:
        """Return the same for the columns of another record."""
        with contextlib.suppress(InvalidSignalError):
            name = next(iter(self.mapping.names(fields)), "")
            if is_email(name) or is_domain(name):
                return person_digest(self.stream.secret, name)
        return None

    @property
    def mark(self) -> bytes:
        """The digest by which an unchanged record is recognised."""
        return self.record.mark(self.key[0], self.mapping.columns.stateless)

    def kept(self, settings: Settings) -> tuple[bytes, str | None]:
        """Return its record for a dead letter, and its key as a JSON array or digest.

        The record is empty if records are not kept.
        """
        is_kept, names = settings.keep_records, self.mapping.key
        record = self.record.text_but(DEAD_LETTER_FIELD) if is_kept else b""
        if not names or self.has_null_key:
            return record, None
        text = json_array(values_at(self.record.key, names))
        return record, text if settings.keep_keys else key_digest(text)

    @property
    def digests(self) -> frozenset[bytes]:
        """Digests of its source and content, as it is and as in earlier layouts."""
        record, of, signal = self.record, self.mapping.columns, self.draft.signal
        found = {record.source_digest(of.ignored)}
        for key, columns in self.stream.layouts:
            fields = record.without(of.ignored_with(key))
            known = {name: v for name, v in fields.items() if name in columns}
            found |= {keyed_digest(b"", fields), keyed_digest(b"", known)}
            if signal is not None:
                ignored = _ignored_in(self, signal, key, record.fields)
                found.add(content_digest(signal, ignored))
        return frozenset(found)

    def as_dead_letter(self, settings: Settings) -> DeadLetter:
        """Return the dead letter of an invalid record."""
        kept, key = self.kept(settings)
        return DeadLetter(
            version=version_with_person(self),
            stream_name=self.stream.schema.name,
            outcome=Outcome.INVALID,
            reason=self.reason,
            record=kept,
            key_values=key,
        )

    def queued(self, decided: Decided, settings: Settings) -> QueuedSignal:
        """Return its signal for the queue."""
        signal, latest = self.draft.signal, decided.latest
        assert signal is not None  # noqa: S101 - it is to be sent
        version = decided.version
        kept, key = self.kept(settings)
        return QueuedSignal(
            number=self.number,
            claim=Claim(
                version=version,
                stream_name=self.stream.schema.name,
                request=self.draft.request,
                record=kept,
                key_values=key,
                dead_letter=self.dead_letter,
            ),
            source=signal.source,
            send=self.mapping.send,
            decided_on=(decided.last_sent_in, latest.run if latest else 0),
            ignored=self.ignored,
            names_row=bool(self.mapping.key)
            and signal.properties.keys() >= {*self.mapping.key},
            lanes=lanes_of(version, signal.account, signal.contact),
        )


def mapped_records(
    stream: Stream, record: Record, scope: str, read_order: int
) -> list[MappedRecord]:
    """Return a record once for each mapping of its stream.

    A dead letter that is sent again is mapped by the mapping that failed only.
    """
    number = only = None
    if DEAD_LETTER_FIELD in record.key:
        number, only = _dead_letter_of(record.key[DEAD_LETTER_FIELD])
    columns: tuple[str, ...] = ()
    entity, is_null = b"", False
    found = []
    for mapping in stream.maps:
        if number is not None and mapping.name != only:
            continue
        if mapping.key and mapping.key != columns:
            columns = mapping.key
            values = values_at(record.key, sorted(columns))  # in any order
            is_null = is_null_key(values)
            entity = b"" if is_null else entity_digest(scope, stream.identity, values)
        own, has_null_key = entity, is_null and bool(mapping.key)
        if has_no_key := has_null_key or not mapping.key:
            own = _keyless(stream, mapping, record, scope)
        key, is_by_person = (own, mapping.name), has_no_key and mapping.send == "once"
        found.append(
            MappedRecord(
                stream,
                mapping,
                record,
                key,
                read_order,
                has_null_key,
                is_by_person,
                number,
            )
        )
    return found


def _keyless(
    stream: Stream, mapping: CompiledMapping, record: Record, scope: str
) -> bytes:
    identity: object = "person"  # with `once`; a company's name alone is none
    if mapping.send != "once" or mapping.is_by_name:
        identity = mapping.columns.identity_of(record.canonical)
    return keyless_digest(scope, stream.identity, identity)


def _dead_letter_of(marker: object) -> tuple[int | None, str]:
    if not isinstance(marker, str):
        return None, ""
    mark, _, mapping = marker.partition(" ")
    number = mark.partition(".")[0]
    is_number = number.isdecimal() and len(number) < 19  # databases have 64 bits
    return (int(number), mapping) if is_number else (None, "")


_SUPPRESSED = Draft(Outcome.FILTERED, SUPPRESSED)
_LEFT_OUT = Draft(Outcome.FILTERED, "its stream is left out", is_mapped=False)
_DELETED = Draft(Outcome.FILTERED, "deleted at its source", is_mapped=False)


def draft_of(mapped: MappedRecord, settings: Settings) -> Draft:
    """Return a record's signal with its version, or the outcome without a signal."""
    if mapped.mapping.is_left_out:
        return _LEFT_OUT
    if mapped.is_deleted:
        return _DELETED
    if mapped.is_suppressed:
        return _SUPPRESSED
    try:
        if reason := mapped.why_filtered:
            return Draft(Outcome.FILTERED, reason)
        return _signal_draft(mapped, settings)
    except InvalidSignalError as error:
        return Draft(Outcome.INVALID, error.reason)


def _signal_draft(mapped: MappedRecord, settings: Settings) -> Draft:
    mapping, fields = mapped.mapping, mapped.record.fields
    has_no_key = mapped.has_null_key and mapped.null_columns >= {*mapping.key}
    if has_no_key and mapping.has_own_key:
        names = ", ".join(f"`{name}`" for name in mapping.key)
        raise InvalidSignalError(f"key: {names} of the mapping is null or empty")
    signal = mapping.signal_from(fields)
    ignored = _ignored_in(mapped, signal, mapping.key, fields)
    email, domain = signal.contact.get("email"), signal.account.get("domain")
    version = _of_person(mapped, email, domain, content_digest(signal, ignored))
    if mapping.name in mapped.stream.baselines:
        return Draft(Outcome.BASELINED, "", version, signal)
    has_unread = mapping.has_unread_time if signal.occurred_at is None else None
    is_unread = has_unread is not None and has_unread(fields)
    if is_unread and settings.max_event_age_days is not None:
        raise InvalidSignalError(
            "occurred_at: cannot be read, and `max_event_age_days` needs it"
        )
    if _is_too_old(signal, settings.max_event_age_days):
        return Draft(Outcome.TOO_OLD, "", version, signal, b"", is_unread)
    outcome = Outcome.WOULD_SEND if settings.dry_run else Outcome.PENDING
    return Draft(outcome, "", version, signal, signal.checked_text(), is_unread)


def _ignored_in(
    mapped: MappedRecord, signal: Signal, key: Iterable[str], fields: dict[str, Any]
) -> set[str | None]:
    """Return the properties that have no part in a signal's content, given a key."""
    mapping, sent = mapped.mapping, signal.properties
    loaders = chosen(mapping.columns.loaders, tuple(sent))
    ignored = {*mapping.ignore_changes, mapped.stream.schema.bookmark, *loaders}
    # The key's columns may change their type, or be null.
    return ignored | {n for n in key if n in sent and sent[n] == fields.get(n)}


def _of_person(
    mapped: MappedRecord,
    email: str | None,
    domain: str | None,
    content: bytes | None = None,
) -> Version:
    secret = mapped.stream.secret
    return replace(
        mapped.version,
        content_digest=content,
        email=person_digest(secret, email),
        domain=person_digest(secret, domain),
    )


def version_with_person(mapped: MappedRecord) -> Version:
    """Return the version of a record without a signal, with its person if readable."""
    # An address that cannot be read does not make it the row of another person.
    try:
        email, domain = mapped.mapping.person_in(mapped.record.fields)
    except InvalidSignalError:
        return mapped.version
    return _of_person(mapped, email, domain)


def _is_too_old(signal: Signal, max_age_days: int | None) -> bool:
    if max_age_days is None or signal.occurred_at is None:
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(signal.occurred_at)
    return age / timedelta(days=1) > max_age_days


def known_outcome(
    mapped: MappedRecord, latest: Latest, settings: Settings
) -> tuple[Version, Outcome] | None:
    """Return version and outcome of a record that certainly repeats the last signal."""
    if latest.content_digest is None or mapped.is_suppressed or mapped.is_deleted:
        return None
    with contextlib.suppress(InvalidSignalError):
        if mapped.why_filtered:
            return None
    columns = mapped.mapping.columns
    is_same_content = (
        columns.knows_content
        and latest.source_digest == mapped.record.source_digest(columns.ignored)
        and settings.max_event_age_days is None
        and mapped.mapping.name not in mapped.stream.baselines
    )
    if is_same_content and columns.has_bookmark and (version := mapped.touched(latest)):
        return version, Outcome.UNCHANGED
    version = mapped.version
    if latest.state_digest == version.state_digest:
        return version, Outcome.DUPLICATE
    if not is_same_content or is_older(version, latest):
        return None
    return version, Outcome.UNCHANGED
