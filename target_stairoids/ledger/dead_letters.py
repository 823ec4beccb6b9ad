"""Dead letters: store, list, discard and resolve failed records."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, select, update

from target_stairoids.dedup.rules import Outcome
from target_stairoids.ledger.schema import dead_letters, latest, settled, streams
from target_stairoids.ledger.transaction import Transaction, timestamp

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.structs import DeadLetter


def add(transaction: Transaction, dead_letter: DeadLetter) -> None:
    """Keep a dead letter. A second one of the same version counts up."""
    version, at = dead_letter.version, timestamp()
    values = {
        "state_digest": version.state_digest,
        "mapping": version.mapping,
        "stream": version.stream,
        "stream_name": dead_letter.stream_name,
        "outcome": str(dead_letter.outcome),
        "reason": dead_letter.reason,
        "record": dead_letter.record,
        "signal": dead_letter.signal,
        "request_id": dead_letter.request_id,
        "attempts": dead_letter.attempts,
        "first_at": at,
        "last_at": at,
    }
    transaction.write(transaction.statements.add_dead_letter, [values])


def exists(transaction: Transaction, number: int) -> bool:
    """Return whether a dead letter is still there."""
    query = select(dead_letters.c.id).where(dead_letters.c.id == number)
    return transaction.scalar(query) is not None


def discard(transaction: Transaction, numbers: Collection[int]) -> int:
    """Delete dead letters; return how many there were."""
    if not numbers:
        return 0
    return transaction.write(delete(dead_letters).where(dead_letters.c.id.in_(numbers)))


def resolve(
    transaction: Transaction, numbers: Collection[int], outcome: Outcome
) -> int:
    """Settle unknown signals by a person's decision.

    Args:
        numbers: Dead letters.
        outcome: ACCEPTED, or REJECTED so that they can be sent again.

    Returns:
        How many of these dead letters were of unknown signals.
    """
    are_unknown = dead_letters.c.id.in_(numbers) & (
        dead_letters.c.outcome == Outcome.UNKNOWN
    )
    found = transaction.all(select(dead_letters).where(are_unknown))
    for row in found:
        transaction.write(
            update(settled)
            .where(_is_version(row, settled))
            .values(outcome=str(outcome))
        )
    if outcome is Outcome.ACCEPTED:
        transaction.write(delete(dead_letters).where(are_unknown))
        return len(found)
    transaction.write(
        update(dead_letters).where(are_unknown).values(outcome=str(outcome))
    )
    for row in found:  # nothing was sent, so the same content is new again
        transaction.write(
            update(latest)
            .where(_is_version(row, latest))
            .values(content_digest=None, done=False)
        )
    return len(found)


def _is_version(row: Any, table: Any) -> Any:  # noqa: ANN401 - SQL expressions
    is_state = table.c.state_digest == row.state_digest
    return is_state & (table.c.mapping == row.mapping)


def dead_letters_of(
    ledger: Ledger,
    *,
    ids: Collection[int] = (),
    stream: str | None = None,
    reason: str | None = None,
    older_than: datetime | None = None,
    limit: int | None = None,
) -> list[Row[Any]]:
    """Return the dead letters of the ledger's scope, the oldest first.

    Args:
        ids: Only these; none for all.
        reason: A part of the reason; case does not matter.
        older_than: Only those that were there before.
    """
    query = (
        select(dead_letters, streams.c.schema)
        .join(streams, streams.c.stream == dead_letters.c.stream)
        .where(streams.c.scope == ledger.scope)
        .order_by(dead_letters.c.id)
        .limit(limit)
    )
    if ids:
        query = query.where(dead_letters.c.id.in_(ids))
    if stream is not None:
        query = query.where(dead_letters.c.stream_name == stream)
    if reason is not None:
        query = query.where(dead_letters.c.reason.icontains(reason, autoescape=True))
    if older_than is not None:
        query = query.where(dead_letters.c.first_at < timestamp(older_than))
    with ledger.reading() as connection:
        return list(connection.execute(query).all())
