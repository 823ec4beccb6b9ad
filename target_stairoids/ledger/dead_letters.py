"""Dead letters: store, list, discard and resolve failed records."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict
from sqlalchemy import ColumnElement, Row, Table, delete, select, update

from stairoids_common.time import parse_time, timestamp
from target_stairoids.dedup.duplicate_rules import Version
from target_stairoids.dedup.order import read_order
from target_stairoids.dedup.outcome import DONE, Outcome
from target_stairoids.dedup.record import keyed_digest, person_digest
from target_stairoids.ledger.lookup import blocks, in_scope, upsert_text
from target_stairoids.ledger.outcomes import LoggedSignal, log
from target_stairoids.ledger.schema import (
    dead_letters,
    known_signals,
    latest,
    settled,
    streams,
)
from target_stairoids.ledger.structs import OWN_CLOCK, WRONG_BY, Known
from target_stairoids.ledger.transaction import Transaction

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.structs import DeadLetter


_COLUMNS = dead_letters.c.keys()[1:]  # without the id
_ADD = upsert_text(
    dead_letters,
    _COLUMNS,
    ("entity", "mapping", "state_digest"),
    first_at=f"{dead_letters.name}.first_at",
    attempts=f"{dead_letters.name}.attempts + excluded.attempts",
)

_READ_AGAIN = (
    f"UPDATE {dead_letters.name} SET read_order = ?"  # noqa: S608 - names of our own table
    " WHERE entity = ? AND mapping = ? AND state_digest = ?"
)


def add(transaction: Transaction, dead_letter: DeadLetter) -> None:
    """Keep a dead letter. A second one of the same version counts up."""
    values = asdict(dead_letter)
    version = values.pop("version")
    values |= {
        "entity": version.record_key[0],
        "state_digest": version.state_digest,
        "mapping": version.mapping,
        "stream": version.stream,
        "bookmark_value": version.bookmark_value,
        "read_order": version.read_order,
        "email": version.email,
        "domain": version.domain,
        "outcome": str(dead_letter.outcome),
        "signal": dead_letter.request,
    }
    values["first_at"] = values["last_at"] = timestamp()
    row = tuple(values[name] for name in _COLUMNS)
    transaction.execute(_ADD, [row])


def read_again(transaction: Transaction, versions: Collection[Version]) -> None:
    """Let rejected states be replayed after all that were read before them."""
    rows = [(v.read_order, *v.record_key, v.state_digest) for v in versions]
    transaction.execute(_READ_AGAIN, rows)


def exists(transaction: Transaction, number: int) -> bool:
    """Return whether a dead letter is still there."""
    query = select(dead_letters.c.id).filter_by(id=number)
    return transaction.connection.scalar(query) is not None


def mark_of(ledger: Ledger, number: int, read_order: int) -> str:
    """Return the mark of an exported dead letter. Other ledgers make other marks."""
    digest = keyed_digest(ledger.secret, [ledger.scope, number, read_order])
    return f"{number}.{read_order}.{digest.hex()[:8]}"


def read_order_in(ledger: Ledger, mark: str) -> int | None:
    """Return the read order in a mark, also of a closed one; None if not of ours."""
    number, _, rest = mark.partition(".")
    with suppress(ValueError):
        place = int(rest.partition(".")[0])
        return place if mark == mark_of(ledger, int(number), place) else None
    return None


def discard(transaction: Transaction, numbers: Collection[int]) -> None:
    """Delete dead letters."""
    for block in blocks(numbers):
        are_they = dead_letters.c.id.in_(block)
        account_for(transaction, dead_letters, are_they)
        transaction.write(delete(dead_letters).where(are_they))


def account_for(
    transaction: Transaction, table: Table, are_they: ColumnElement[bool]
) -> None:
    """Count older signals of a source and type as explained, before rows are deleted.

    Stairoids may have the signals of dead letters and claims. Without their rows, the
    ledger cannot explain them any more. So all until the last attempt are explained.
    """
    attempted_at = table.c.last_at if table is dead_letters else table.c.attempted_at
    if table is dead_letters:
        are_they &= dead_letters.c.outcome == Outcome.UNKNOWN
    of_stream = streams.c.stream == table.c.stream
    query = select(streams.c.scope, table.c.signal, attempted_at).join(table, of_stream)
    for scope, signal, at in transaction.connection.execute(
        query.where(are_they)
    ).all():
        if signal:
            named = msgspec.json.decode(signal)
            source, type_ = named["source"], named["type"]
            until = timestamp(parse_time(at.lstrip(OWN_CLOCK)) + WRONG_BY)
            its = {"scope": scope, "source": source, "type": type_}
            known = select(known_signals.c.known_until).filter_by(**its)
            before = transaction.connection.scalar(known)
            if (before or "") < until:
                transaction.note_known(scope, source, type_, Known(until, None))


def resolve(
    transaction: Transaction, numbers: Collection[int], outcome: Outcome
) -> list[int]:
    """Settle unknown signals by a person's decision; return their ids.

    The outcome is ACCEPTED, or REJECTED so that the signals can be sent again.
    """
    parts = (_resolve(transaction, block, outcome) for block in blocks(numbers))
    return [number for part in parts for number in part]


def _resolve(
    transaction: Transaction, numbers: Collection[int], outcome: Outcome
) -> list[int]:
    are_unknown = dead_letters.c.id.in_(numbers) & (
        dead_letters.c.outcome == Outcome.UNKNOWN
    )
    query = select(dead_letters).where(are_unknown)
    found = transaction.connection.execute(query).all()
    for row in found:
        is_entity = settled.c.entity == row.entity
        of_version = update(settled).where(is_entity, _is_version(row, settled))
        transaction.write(of_version.values(outcome=str(outcome)))
        is_last = select(latest.c.entity).where(_is_version(row, latest)).exists()
        if outcome is Outcome.REJECTED:  # run 0: lost, and a later state was settled
            _forget_touches(transaction, row)
            transaction.write(of_version.where(~is_last).values(run=0))
    if outcome is Outcome.ACCEPTED:
        ids = None, None, None
        logged: list[LoggedSignal] = []
        for row in found:
            contact = msgspec.json.decode(row.signal).get("contact", {})
            email = person_digest(transaction.secret, contact.get("email"))
            logged.append((row.stream, row.signal, ids, row.key_values, email, None))
        log(transaction, logged)
        discard(transaction, [row.id for row in found])
        return [row.id for row in found]
    unknown = update(dead_letters).where(are_unknown)
    transaction.write(unknown.values(outcome=str(outcome)))
    for row in found:  # nothing was sent, so the same content is new again
        of_version = update(latest).where(_is_version(row, latest))
        its = select(settled.c.state_digest, settled.c.content_digest, settled.c.run)
        its = its.filter_by(entity=row.entity, mapping=row.mapping)
        sent = its.where(settled.c.outcome.in_(DONE)).order_by(settled.c.run.desc())
        before = transaction.connection.execute(sent.limit(1)).first()
        if before is not None:  # the last state again, unless several people share it
            last = {**before._asdict(), "source_digest": None, "text_digest": None}
            last["read_order"] = read_order(before.run)
            is_its = latest.c.entity == row.entity
            transaction.write(of_version.where(is_its).values(last))
        transaction.write(of_version.values(content_digest=None, done=False))
    return [row.id for row in found]


def _forget_touches(transaction: Transaction, row: Any) -> None:  # noqa: ANN401 - of a table
    """Let a lost state be the last one again, if later ones have the same content."""
    query = select(settled.c.content_digest).filter_by(
        entity=row.entity, mapping=row.mapping
    )
    its = query.where(_is_version(row, settled)).scalar_subquery()
    was_sent = settled.c.outcome.in_(DONE), settled.c.content_digest == its
    is_its = (latest.c.entity == row.entity) | (latest.c.record_entity == row.entity)
    touched = update(latest).where(
        is_its,
        latest.c.mapping == row.mapping,
        latest.c.content_digest == its,
        ~query.where(*was_sent).exists(),
    )
    none = {"source_digest": None, "text_digest": None}
    state = {"state_digest": row.state_digest, "bookmark_value": row.bookmark_value}
    transaction.write(touched.values(state | none))


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
    """Return the dead letters of a scope, the oldest first; without ids, all."""
    query = (
        in_scope(ledger.scope, dead_letters, dead_letters, streams.c.schema)
        .order_by(dead_letters.c.id)
        .limit(None if limit is None else min(limit, 2**63 - 1))
    )
    if stream is not None:
        query = query.where(dead_letters.c.stream_name == stream)
    if reason is not None:
        query = query.where(dead_letters.c.reason.icontains(reason, autoescape=True))
    if older_than is not None:
        query = query.where(dead_letters.c.first_at < timestamp(older_than))
    if not ids:
        return ledger.rows(query)
    found = list[Row[Any]]()
    for block in blocks(sorted({*ids})):
        found += ledger.rows(query.where(dead_letters.c.id.in_(block)))
    return found[:limit]
