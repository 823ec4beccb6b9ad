"""Tables of the event store, and the values that go in and out of them.

A body is stored as the bytes that Stairoids signed. A JSON column would refuse bodies
that do not parse, and could not prove a signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import asdict

from stairoids_common.database import BIG_ID, key, optional, required
from tap_stairoids_webhooks.event import Delivery
from tap_stairoids_webhooks.store.event_filter import EventFilter

SCHEMA_VERSION = 4

METADATA = sa.MetaData()
EVENTS = sa.Table(
    "webhook_events",
    METADATA,
    *key("sequence", kind=BIG_ID),
    *required(sa.Text, "dedupe_key", "variant"),
    *optional(sa.Text, "event", "event_id", "malformed"),
    *required(sa.Boolean, "conflict"),
    *required(sa.Text, "received_at"),
    *required(sa.LargeBinary, "body"),
    *required(sa.Text, "body_sha256", "signature", "headers", "key_id"),
    *optional(sa.Text, "erased_at"),
    sa.UniqueConstraint("dedupe_key", "variant"),
    sa.Index("webhook_events_by_type", "event", "sequence"),
    sa.Index(
        "webhook_events_malformed",
        "sequence",
        sqlite_where=sa.text("malformed IS NOT NULL"),
        postgresql_where=sa.text("malformed IS NOT NULL"),
    ),
    # Without it SQLite gives the sequence of a removed row to the next row.
    sqlite_autoincrement=True,
)
#: Digests of removed events, so that a redelivery is recognised.
PRUNED = sa.Table(
    "webhook_pruned",
    METADATA,
    *key("dedupe_key", "variant"),
    sa.Column("sequence", sa.BigInteger, nullable=False, unique=True),
    *required(sa.Text, "received_at", "body_sha256"),
    sa.Column("pruned_at", sa.Text, nullable=False, index=True),
)
#: Erased events, in the order of their erasure.
ERASURES = sa.Table(
    "webhook_erasures",
    METADATA,
    *key("number", kind=BIG_ID),
    *required(sa.BigInteger, "sequence"),
    *optional(sa.Text, "event", "event_id"),
    *required(sa.Text, "received_at", "body_sha256", "erased_at"),
    sqlite_autoincrement=True,
)
STORE = sa.Table(
    "webhook_store",
    METADATA,
    *key("store_id"),
    *required(sa.Integer, "generation", "schema_version"),
    *required(sa.BigInteger, "pruned_through"),
)
CONSUMERS = sa.Table(
    "webhook_consumers",
    METADATA,
    *key("consumer", "wanted"),
    *required(sa.BigInteger, "sequence"),
    *required(sa.Text, "updated_at"),
)
#: The consumers that are forwarders.
FORWARDERS = sa.Table(
    "webhook_forwarders",
    METADATA,
    *key("consumer"),
    *optional(sa.Text, "since"),
    *required(sa.Text, "began_at"),
)
#: Events that a forwarder has taken, and not delivered yet or in vain.
FORWARDS = sa.Table(
    "webhook_forwards",
    METADATA,
    *key("consumer"),
    *key("sequence", kind=sa.BigInteger),
    *required(sa.Text, "lane"),
    *required(sa.Integer, "attempts"),
    *required(sa.Double, "due_at"),
    *optional(sa.Text, "reason", "failed_at"),
)
REFUSALS = sa.Table(
    "webhook_refusals",
    METADATA,
    *key("day", "reason"),
    *required(sa.BigInteger, "number"),
    *required(sa.Text, "last_at"),
)
READ_COLUMNS = [c for c in EVENTS.c if c.name not in {"dedupe_key", "variant"}]
_HEADERS = [column.name for column in READ_COLUMNS].index("headers")


class Outcome(StrEnum):
    """Outcome of storing one delivery."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the same event is in the store already
    CONFLICT = "conflict"  # stored, though its id came before with another body


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """One row of the store. The signature proves the body, not the headers.

    The fields have the order of `READ_COLUMNS`.
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
        """Show the sequence only, because the rest may be personal data."""
        return f"<StoredEvent {self.sequence}>"


class Erasure(msgspec.Struct, frozen=True):
    """One row of the erasures, with the columns of `ERASURES`."""

    number: int
    sequence: int
    event: str | None
    event_id: str | None
    received_at: str
    body_sha256: str
    erased_at: str

    @property
    def row_digest(self) -> str:
        """A digest that differs for another event, or another time."""
        return row_digest_of(self.erased_at, self.body_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalCount:
    """Number of deliveries that were refused for one reason, and the last time."""

    number: int
    last_at: str


def row_digest_of(time: str, body_sha256: str) -> str:
    """Return the digest of a row that bookmarks carry."""
    text = f"{time} {body_sha256}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def conditions_of(selected: EventFilter) -> list[sa.ColumnElement[bool]]:
    """Return a filter as SQL conditions."""
    found: list[sa.ColumnElement[bool]] = []
    if selected.types is not None:
        found.append(EVENTS.c.event.in_(sorted(selected.types)))
    if selected.malformed:
        found.append(EVENTS.c.malformed.is_not(None))
    if selected.since is not None:
        found.append(EVENTS.c.received_at >= selected.since)
    if not selected.erased:
        found.append(EVENTS.c.erased_at.is_(None))
    return found


def row_of(delivery: Delivery, *, conflict: bool) -> dict[str, object]:
    """Return the columns of a delivery."""
    return asdict(delivery.event) | {
        "conflict": conflict,
        "received_at": delivery.received_at,
        "body": delivery.body,
        "signature": delivery.signature,
        "headers": msgspec.json.encode(delivery.headers).decode(),
        "key_id": delivery.key_id,
    }


def copy_into(table: sa.Table, found: sa.ColumnElement[bool], at: str) -> sa.Insert:
    """Return the INSERT of events into `PRUNED` or `ERASURES`, with their last time."""
    *names, last = (c.name for c in table.c if c.name != "number")
    columns = [*(EVENTS.c[name] for name in names), sa.literal(at)]
    events = sa.select(*columns).where(found).order_by(EVENTS.c.sequence)
    return sa.insert(table).from_select([*names, last], events)


def pairs(connection: sa.Connection, query: sa.Select[Any]) -> dict[Any, Any]:
    """Return the first column of a query -> the second one."""
    return {name: value for name, value in connection.execute(query)}  # noqa: C416 -- mypy does not take rows for pairs


def stored_event(row: sa.Row[tuple[Any, ...]]) -> StoredEvent:
    """Return a row of `READ_COLUMNS` as a stored event."""
    values: list[Any] = list(row)
    values[_HEADERS] = msgspec.json.decode(values[_HEADERS])
    return StoredEvent(*values)
