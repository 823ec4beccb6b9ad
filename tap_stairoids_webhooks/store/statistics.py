"""Statistics: what the operator asks of a store, beyond its totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tap_stairoids_webhooks.store.consumers import Lag, lags
from tap_stairoids_webhooks.store.schema import EVENTS, REFUSALS, Refused

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.schema import Stats
    from tap_stairoids_webhooks.store.store import EventStore

_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything `stairoids-webhooks stats` prints.

    Attributes:
        stats: Totals.
        erased: How many events were emptied.
        days: For the last days with events: their number by type.
        refused: What was not stored, by reason.
        consumers: How far each is behind.
    """

    stats: Stats
    erased: int
    days: dict[str, dict[str | None, int]]
    refused: dict[str, Refused]
    consumers: dict[str, Lag]


def report_on(store: EventStore) -> Report:
    """Count what the store holds and what was refused.

    Raises:
        StoreUnavailableError: The store cannot be read now.
    """
    # Literals: PostgreSQL takes two parameters for two different expressions.
    first_ten = [sa.literal_column(n, sa.Integer) for n in ("1", "10")]
    day, number = sa.func.substr(EVENTS.c.received_at, *first_ten), sa.func.count()
    by_day = sa.select(day, EVENTS.c.event, number).group_by(day, EVENTS.c.event)
    by_reason = sa.select(
        REFUSALS.c.reason,
        sa.func.sum(REFUSALS.c.number),
        sa.func.max(REFUSALS.c.last_at),
    ).group_by(REFUSALS.c.reason)
    days: dict[str, dict[str | None, int]] = {}
    with store.transaction("cannot be read") as connection:
        for on, event, events in connection.execute(by_day.order_by(day.desc())):
            if on not in days and len(days) == _DAYS:
                break
            days.setdefault(on, {})[event] = events
        refused = {
            reason: Refused(number=int(many), last_at=last_at)
            for reason, many, last_at in connection.execute(by_reason)
        }
        erased = connection.execute(sa.select(sa.func.count(EVENTS.c.erased_at)))
        erased_number = erased.scalar_one()
    return Report(
        stats=store.stats(),
        erased=erased_number,
        days=days,
        refused=refused,
        consumers=lags(store),
    )
