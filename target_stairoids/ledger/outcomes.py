"""Write the outcomes of versions: the tables `settled` and `latest`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from target_stairoids.dedup.rules import (
    Key,
    Latest,
    Outcome,
    Version,
    is_implied,
    is_left_behind,
    latest_after,
)
from target_stairoids.ledger import sql
from target_stairoids.ledger.lookup import known_versions

if TYPE_CHECKING:
    from target_stairoids.ledger.structs import SettledVersion
    from target_stairoids.ledger.transaction import Transaction

Row = tuple[Any, ...]


def write_outcomes(
    transaction: Transaction, versions: Collection[SettledVersion]
) -> None:
    """Write outcomes, and delete the claims and dead letters that end with them."""
    replacing = [item for item in versions if item.replaces]
    others = [item for item in versions if not item.replaces]
    late = _replace_latest(transaction, replacing)
    _write_rows(transaction, late + others)
    claimed = [
        {
            "key_entity": item.version.entity,
            "key_mapping": item.version.mapping,
            "key_run": transaction.run,
        }
        for item in versions
        if item.is_claimed
    ]
    if claimed:
        transaction.connection.execute(sql.DELETE_CLAIM, claimed)
    accepted = [
        {"key_state": item.version.state_digest, "key_mapping": item.version.mapping}
        for item in versions
        if item.outcome is Outcome.ACCEPTED
    ]
    if accepted:
        transaction.connection.execute(sql.DELETE_DEAD_LETTER, accepted)


def _replace_latest(
    transaction: Transaction, versions: list[SettledVersion]
) -> list[SettledVersion]:
    """Put versions in the place of the latest ones with the same content.

    Return the versions whose latest one was changed by another run in the meantime.
    """
    if not versions:
        return []
    rows = [
        (
            item.version.state_digest,
            item.version.bookmark_value,
            item.version.text_digest,
            transaction.run,
            *item.version.key,
            item.replaces,
        )
        for item in versions
    ]
    if _execute(transaction, transaction.statements.replace_latest, rows) == len(rows):
        return []
    newest = _latest_before(transaction, versions)
    return [
        replace(item, replaces=None)
        for item in versions
        if (now := newest.get(item.version.key)) is None
        or now.state_digest != item.version.state_digest
    ]


def _latest_before(
    transaction: Transaction, versions: list[SettledVersion]
) -> dict[Key, Latest]:
    entities = {item.version.entity for item in versions}
    return known_versions(transaction.connection, [], entities).latest


def _write_rows(transaction: Transaction, versions: list[SettledVersion]) -> None:
    statements, run = transaction.statements, transaction.run
    known = _latest_before(transaction, versions)
    newest: dict[Key, Row] = {}
    outcomes: list[Row] = []
    left_behind: list[Row] = []
    for item in versions:
        version = item.version
        before = known.get(version.key)
        now = latest_after(before, version, item.outcome)
        if not (item.is_first and is_implied(before, now, version, item.outcome)):
            outcomes.append(_settled_row(item, run))
        if now is None or now == before:
            continue
        if before is not None and is_left_behind(before, now):
            state = replace(version, state_digest=before.state_digest)
            unchanged = replace(
                item, version=state, outcome=Outcome.UNCHANGED, signal_id=None
            )
            left_behind.append(_settled_row(unchanged, run))
        known[version.key] = now
        newest[version.key] = _latest_row(version, now, run)
    _execute(transaction, statements.settle_missing, left_behind)
    _execute(transaction, statements.settle, outcomes)
    _execute(transaction, statements.set_latest, list(newest.values()))


def _latest_row(version: Version, now: Latest, run: int) -> Row:
    return (
        *version.key,
        version.stream,
        now.state_digest,
        now.content_digest,
        now.bookmark_value,
        now.done,
        run,
        now.source_digest,
        now.text_digest,
    )


def _settled_row(item: SettledVersion, run: int) -> Row:
    return (
        item.version.state_digest,
        item.version.mapping,
        item.version.stream,
        item.outcome.value,
        run,
        item.version.mapping_digest,
        item.signal_id,
    )


def _execute(transaction: Transaction, text: str, rows: list[Row]) -> int:
    """Execute a text of the driver for each row; return how many rows it changed."""
    return transaction.connection.exec_driver_sql(text, rows).rowcount if rows else 0
