"""The rows of the store: tables, and what goes in and comes out of them.

The bytes Stairoids signed are kept as bytes: a column for JSON would refuse
bodies that do not parse, and could not prove a signature.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

if TYPE_CHECKING:
    from tap_stairoids_webhooks.event import Delivery

SCHEMA_VERSION = 2  # a step of migrations.py leads to each but the first

METADATA = sa.MetaData()
EVENTS = sa.Table(
    "webhook_events",
    METADATA,
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("dedupe_key", sa.Text, nullable=False),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("event", sa.Text),
    sa.Column("event_id", sa.Text),
    sa.Column("malformed", sa.Text),
    sa.Column("conflict", sa.Boolean, nullable=False),
    sa.Column("received_at", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("body_sha256", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("erased_at", sa.Text),
    sa.UniqueConstraint("dedupe_key", "variant"),
    sa.Index("webhook_events_by_type", "event", "sequence"),
    sa.Index(
        "webhook_events_malformed",
        "sequence",
        sqlite_where=sa.text("malformed IS NOT NULL"),
        postgresql_where=sa.text("malformed IS NOT NULL"),
    ),
    # Without it SQLite gives the sequence of a removed row to the next one.
    sqlite_autoincrement=True,
)
STORE = sa.Table(
    "webhook_store",
    METADATA,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("pruned_through", sa.BigInteger, nullable=False),
)
CONSUMERS = sa.Table(
    "webhook_consumers",
    METADATA,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("wanted", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.Text, nullable=False),
)
REFUSALS = sa.Table(
    "webhook_refusals",
    METADATA,
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("last_at", sa.Text, nullable=False),
)
READ_COLUMNS = [c for c in EVENTS.c if c.name not in {"dedupe_key", "variant"}]
_HEADERS = [column.name for column in READ_COLUMNS].index("headers")


class Outcome(StrEnum):
    """What became of one appended delivery; all three are kept for good."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # this event was stored before
    CONFLICT = "conflict"  # stored, though its id was seen with another body


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """One row of the store; `headers` are unsigned, the rest is proven.

    Its fields are in the order of `READ_COLUMNS`.
    """

    sequence: int
    event: str | None
    event_id: str | None
    malformed: str | None
    conflict: bool
    received_at: str
    body: bytes
    body_sha256: str
    signature: str
    headers: dict[str, str]
    key_id: str
    erased_at: str | None

    def __repr__(self) -> str:
        """Show which one it is, and nothing a person or a key could be known by."""
        return f"<StoredEvent {self.sequence}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events a reader asks for.

    Attributes:
        events: Only these types; None for all.
        malformed: Only bodies that do not parse.
        since: Only what was received then or later, as `received_at` has it.
        erased: Also what is left of erased events.
    """

    events: frozenset[str] | None = None
    malformed: bool = False
    since: str | None = None
    erased: bool = False

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return it as SQL."""
        found: list[sa.ColumnElement[bool]] = []
        if self.events is not None:
            found.append(EVENTS.c.event.in_(sorted(self.events)))
        if self.malformed:
            found.append(EVENTS.c.malformed.is_not(None))
        if self.since is not None:
            found.append(EVENTS.c.received_at >= self.since)
        if not self.erased:
            found.append(EVENTS.c.erased_at.is_(None))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Deliveries refused for one reason: how many, and when the last of them was."""

    number: int
    last_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts over the whole store; `events` by type, None for none."""

    total: int
    conflicts: int
    malformed: int
    last_sequence: int
    last_received_at: str | None
    events: dict[str | None, int]
    keys: dict[str, int]


def row_of(delivery: Delivery, *, conflict: bool) -> dict[str, object]:
    """Return the columns of a delivery."""
    event = delivery.event
    return {
        "dedupe_key": event.dedupe_key,
        "variant": event.variant,
        "event": event.event,
        "event_id": event.event_id,
        "malformed": event.malformed,
        "conflict": conflict,
        "received_at": delivery.received_at,
        "body": delivery.body,
        "body_sha256": event.body_sha256,
        "signature": delivery.signature,
        "headers": msgspec.json.encode(delivery.headers).decode(),
        "key_id": delivery.key_id,
    }


def stored_event(row: sa.Row[tuple[Any, ...]]) -> StoredEvent:
    """Return the `READ_COLUMNS` of a row as the values a reader works with."""
    values: list[Any] = list(row)
    values[_HEADERS] = msgspec.json.decode(values[_HEADERS])
    return StoredEvent(*values)


def new_store() -> dict[str, object]:
    """Return the one row of `STORE` that begins a history."""
    return {
        "store_id": str(uuid.uuid4()),
        "generation": 1,
        "schema_version": SCHEMA_VERSION,
        "pruned_through": 0,
    }
