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
    from sqlalchemy import Connection

    from target_stairoids.ledger.sql import Statements
    from target_stairoids.ledger.structs import SettledVersion

Row = tuple[Any, ...]


def write_outcomes(
    connection: Connection,
    statements: Statements,
    run: int,
    versions: Collection[SettledVersion],
) -> None:
    """Write outcomes, and delete the claims and dead letters that end with them."""
    replacing = [item for item in versions if item.replaces]
    others = [item for item in versions if not item.replaces]
    late = _replace_latest(connection, statements, run, replacing)
    _write_rows(connection, statements, run, late + others)
    claimed = [
        {
            "key_entity": item.version.entity,
            "key_mapping": item.version.mapping,
            "key_run": run,
        }
        for item in versions
        if item.is_claimed
    ]
    if claimed:
        connection.execute(sql.DELETE_CLAIM, claimed)
    accepted = [
        {"key_state": item.version.state_digest, "key_mapping": item.version.mapping}
        for item in versions
        if item.outcome is Outcome.ACCEPTED
    ]
    if accepted:
        connection.execute(sql.DELETE_DEAD_LETTER, accepted)


def _replace_latest(
    connection: Connection,
    statements: Statements,
    run: int,
    versions: list[SettledVersion],
) -> list[SettledVersion]:
    """Put versions in the place of the latest ones with the same content.

    Returns:
        The versions whose latest one was changed by another run in the meantime.
    """
    rows = [
        (
            item.version.state_digest,
            item.version.bookmark_value,
            item.version.text_digest,
            run,
            item.version.entity,
            item.version.mapping,
            item.replaces,
        )
        for item in versions
    ]
    if not rows:
        return []
    written = connection.exec_driver_sql(statements.replace_latest, rows)
    if written.rowcount == len(rows):
        return []
    newest = known_versions(connection, [], {i.version.entity for i in versions}).latest
    return [
        replace(item, replaces=None)
        for item in versions
        if (now := newest.get(item.version.key)) is None
        or now.state_digest != item.version.state_digest
    ]


def _write_rows(
    connection: Connection,
    statements: Statements,
    run: int,
    versions: Collection[SettledVersion],
) -> None:
    if not versions:
        return
    known = known_versions(connection, [], {i.version.entity for i in versions}).latest
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
    _execute(connection, statements.settle_missing, left_behind)
    _execute(connection, statements.settle, outcomes)
    _execute(connection, statements.set_latest, list(newest.values()))


def _latest_row(version: Version, now: Latest, run: int) -> Row:
    return (
        version.entity,
        version.mapping,
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


def _execute(connection: Connection, text: str, rows: list[Row]) -> None:
    if rows:
        connection.exec_driver_sql(text, rows)
