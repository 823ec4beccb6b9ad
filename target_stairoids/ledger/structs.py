"""The structs that the ledger stores: claims, settled versions, dead letters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from target_stairoids.dedup.duplicate_rules import Key, Latest, Version
from target_stairoids.dedup.outcome import Outcome

#: In front of a claim's time by our own clock, because the server's was unknown.
OWN_CLOCK = "~"
WRONG_BY = timedelta(days=1)  # at most, our own clock
#: The check of a stream whose baseline began and did not end; a mapping's name follows.
UNFINISHED = "unfinished baseline "
OTHER_BASELINE = "baseline of another stream"
NOT_ENDED = "its baseline did not end"


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal in flight. After a crash, the next run continues from it.

    Attributes:
        request: The JSON text that is sent. The ledger's column is `signal`.
        record: The RECORD's JSON text, for a dead letter.
        key_values: The record's key as a JSON array, or the digest of that.
        dead_letter: The dead letter that a person sends again, if it is one.
        api_key: Digest of the API key that it was sent with; set by the ledger.
        claimed_at: Time of the first attempt, RFC 3339 in UTC, or `OWN_CLOCK` and the
            time; set by the ledger.
    """

    version: Version
    stream_name: str
    request: bytes
    record: bytes
    key_values: str | None = None
    dead_letter: int | None = None
    api_key: bytes | None = None
    attempts: int = 0
    claimed_at: str = ""
    attempted_at: str = ""
    run: int = 0


class SettledVersion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A version with its outcome, to be written.

    Attributes:
        ids: Stairoids' ids of the signal, its account and its contact, if known.
        accepted_at: RFC 3339; None for now.
        request: Its JSON text; empty if there was none.
        is_claimed: Whether this run's claim on the entity ends with it.
        is_once: Whether it is the only signal of its record and person.
        run: The run that read its record, if it is not this one; 0 for this run.
    """

    version: Version
    outcome: Outcome
    run: int = 0
    ids: tuple[str | None, str | None, str | None] = (None, None, None)
    request: bytes = b""
    key_values: str | None = None
    accepted_at: str | None = None
    is_claimed: bool = True
    is_once: bool = False


class LatestRow(msgspec.Struct, gc=False):
    """The last state of an entity, to be written.

    `before` is the row in the database. A row that another run has changed stays.
    """

    key: Key
    stream: int
    latest: Latest
    before: Latest | None


class Known(msgspec.Struct, frozen=True, gc=False):
    """Up to where Stairoids' signals of a source and type are accounted for.

    Attributes:
        until: Time of the last one on the server's clock, RFC 3339 in UTC.
        signal_id: Its id, because others may have the same second. None if all signals
            of that second are accounted for.
    """

    until: str
    signal_id: str | None


class ListFacts(NamedTuple):
    """The facts of the ledger about the signals of a page.

    Attributes:
        own: The ids that the ledger has.
        known: Source and type -> up to where signals are accounted for.
        unclear: Returns the requests that may have been accepted, as JSON text.
        sent: Returns those of some ids that were sent, also by a forgotten stream. It
            reads all sent signals.
    """

    own: Collection[str]
    known: Mapping[tuple[str, str], Known]
    unclear: Callable[[], Iterable[bytes]]
    sent: Callable[[Collection[str]], Collection[str]]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A failed record, kept with its reason for a person."""

    version: Version
    stream_name: str
    outcome: Outcome
    reason: str
    record: bytes
    request: bytes | None = None
    key_values: str | None = None
    request_id: str | None = None
    attempts: int = 1


class Effect(Enum):
    """The effect of a row on the suppression list, in words."""

    ADDED = "added to the suppression list"
    KEPT = "is on the suppression list"
    REMOVED = "removed from the suppression list"
    ABSENT = "is not on the suppression list"


class PipelineFacts(NamedTuple):
    """The state of a pipeline: the runs and dead letters of a namespace and a source.

    Attributes:
        last_success: When a run last ended that left nothing over; None for never.
        newest_dead_letter: Its id; 0 for none.
    """

    last_success: str | None
    first_start: str | None
    dead_letters: int
    oldest_dead_letter: str | None
    newest_dead_letter: int


class NotifiedState(NamedTuple):
    """The state that people know: `ok`, `failing` or `incomplete`."""

    state: str
    newest_dead_letter: int


class KnownMapping(msgspec.Struct, frozen=True, gc=False):
    """A mapping of a stream, as earlier runs used it.

    Attributes:
        source: The signals' source; None if it is not the same for all records.
        identity: The columns of a record's key, as a JSON array. Without a key, `*` and
            all columns that identify a record.
    """

    source: str | None
    identity: str


def claim_from(row: Any) -> Claim:  # noqa: ANN401 - a row of `claims`
    """Return the claim in a row of `claims`."""
    values = row._asdict()
    entity, mapping = values.pop("entity"), values.pop("mapping")
    record_key = values.pop("record_entity"), mapping
    fields = Version.__struct_fields__
    version = {name: values.pop(name) for name in fields if name in values}
    known = Version(key=(entity, mapping), record_key=record_key, **version)
    values["request"] = values.pop("signal")
    return Claim(version=known, **values)
