"""Recent events and refusals, without the bodies: what an operator glances at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tap_stairoids_webhooks.store.schema import EVENTS, REFUSALS, Wanted

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.schema import StoredEvent
    from tap_stairoids_webhooks.store.store import EventStore

_COLUMNS = [
    EVENTS.c.sequence,
    EVENTS.c.event,
    EVENTS.c.event_id,
    EVENTS.c.malformed,
    EVENTS.c.conflict,
    EVENTS.c.received_at,
    EVENTS.c.key_id,
    EVENTS.c.erased_at,
    sa.func.length(EVENTS.c.body).label("size"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """An event without its body.

    Attributes:
        size: Of the body, in bytes.
    """

    sequence: int
    event: str | None
    event_id: str | None
    malformed: str | None
    conflict: bool
    received_at: str
    key_id: str
    erased_at: str | None
    size: int


def latest(
    store: EventStore,
    *,
    number: int,
    before: int | None = None,
    kind: str | None = None,
    untyped: bool = False,
) -> list[Glimpse]:
    """List events, the newest first.

    Args:
        store: Opened to read.
        number: How many at most.
        before: Only those with a smaller sequence.
        kind: Only those of this type.
        untyped: Only those without a type.

    Raises:
        StoreUnavailableError: The store cannot be read now.
    """
    query = sa.select(*_COLUMNS).order_by(EVENTS.c.sequence.desc()).limit(number)
    if before is not None:
        query = query.where(EVENTS.c.sequence < before)
    if kind is not None:
        query = query.where(EVENTS.c.event == kind)
    if untyped:
        query = query.where(EVENTS.c.event.is_(None))
    with store.transaction("cannot be read") as connection:
        return [Glimpse(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 -- SQLAlchemy's public name for it


def event_at(store: EventStore, sequence: int) -> StoredEvent | None:
    """Return one event with its body; None if there is none.

    Raises:
        StoreUnavailableError: The store cannot be read now.
    """
    wanted = Wanted(erased=True)
    found = store.read_after(sequence - 1, upper=sequence, limit=1, wanted=wanted)
    return found[0] if found else None


def refusals_since(store: EventStore, day: str) -> dict[str, dict[str, int]]:
    """Count what was refused, by reason and by day.

    Args:
        store: Opened to read.
        day: The first one, as in 2026-01-31.

    Raises:
        StoreUnavailableError: The store cannot be read now.
    """
    query = (
        sa.select(REFUSALS.c.reason, REFUSALS.c.day, REFUSALS.c.number)
        .where(REFUSALS.c.day >= day)
        .order_by(REFUSALS.c.reason, REFUSALS.c.day)
    )
    found: dict[str, dict[str, int]] = {}
    with store.transaction("cannot be read") as connection:
        for reason, on, number in connection.execute(query):
            found.setdefault(reason, {})[on] = int(number)
    return found
