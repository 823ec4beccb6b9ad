"""The structs that the ledger stores: claims, settled versions, dead letters."""

from __future__ import annotations

from typing import Any

import msgspec

from target_stairoids.dedup.rules import Outcome, Version


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal in flight. After a crash, the next run continues from it.

    Attributes:
        signal: The request's JSON text.
        record: The RECORD's JSON text, for a dead letter.
        claimed_at: Time of the first attempt, RFC 3339 in UTC; set by the ledger.
        attempted_at: Time of the last attempt; set by the ledger.
    """

    version: Version
    stream_name: str
    signal: bytes
    record: bytes
    attempts: int = 0
    claimed_at: str = ""
    attempted_at: str = ""
    run: int = 0


class SettledVersion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A version with its outcome, to be written.

    Attributes:
        is_claimed: Whether this run's claim on the entity ends with it.
        is_first: Whether the ledger certainly has no outcome of this version.
        replaces: State digest of the latest version, if this version only takes its
            place. It has the same content and is newer, or the same state.
    """

    version: Version
    outcome: Outcome
    signal_id: str | None = None
    is_claimed: bool = True
    is_first: bool = False
    replaces: bytes | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A failed record, kept with its reason for a person."""

    version: Version
    stream_name: str
    outcome: Outcome
    reason: str
    record: bytes
    signal: bytes | None = None
    request_id: str | None = None
    attempts: int = 1


#: Columns of `claims` that hold the version, beside entity and mapping.
VERSION_COLUMNS = (
    "stream",
    "state_digest",
    "mapping_digest",
    "content_digest",
    "bookmark_value",
)


def claim_from(row: Any) -> Claim:  # noqa: ANN401 - a row of `claims`
    """Return the claim in a row of `claims`."""
    values = row._asdict()
    version = {name: values.pop(name) for name in VERSION_COLUMNS}
    key = values.pop("entity"), values.pop("mapping")
    return Claim(version=Version(key=key, **version), **values)
