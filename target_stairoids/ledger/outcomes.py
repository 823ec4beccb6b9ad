"""Settlement: how verdicts become rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from target_stairoids.dedup.rules import (
    Outcome,
    is_implied,
    is_left_behind,
    latest_after,
)
from target_stairoids.ledger import sql
from target_stairoids.ledger.schema import latest, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection

    from target_stairoids.dedup.rules import Known, Latest
    from target_stairoids.ledger.entries import Verdict


class Settlement:
    """Writes verdicts within a turn.

    Args:
        look_up: Versions and entities -> what is remembered of them.
    """

    def __init__(
        self,
        connection: Connection,
        run: int,
        look_up: Callable[[Collection[bytes], Collection[bytes]], Known],
    ) -> None:
        self._connection = connection
        self._run = run
        self._dialect = connection.dialect.name
        self._look_up = look_up

    def write(self, verdicts: Collection[Verdict]) -> None:
        """Write what became of versions; claims and dead letters they end are gone."""
        moved = [verdict for verdict in verdicts if verdict.moves_on_from]
        others = [verdict for verdict in verdicts if not verdict.moves_on_from]
        self._remember(self._move_on(moved) + others)
        execute = self._connection.execute
        if claimed := [verdict for verdict in verdicts if verdict.is_claimed]:
            keys = [
                {"key_entity": v.entity, "key_mapping": v.mapping, "key_run": self._run}
                for v in claimed
            ]
            execute(sql.UNCLAIM, keys)
        if accepted := [v for v in verdicts if v.outcome is Outcome.ACCEPTED]:
            keys = [
                {"key_version": v.version, "key_mapping": v.mapping} for v in accepted
            ]
            execute(sql.UNBURY, keys)

    def _move_on(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Write which versions took the place of the latest ones.

        Returns:
            Those in whose place another run has put one meanwhile.
        """
        rows = [
            (
                verdict.version,
                verdict.position,
                verdict.spelling,
                self._run,
                verdict.entity,
                verdict.mapping,
                verdict.moves_on_from,
            )
            for verdict in verdicts
        ]
        text = sql.move_on(self._dialect)
        if not rows or self._connection.exec_driver_sql(text, rows).rowcount == len(
            rows
        ):
            return []
        said = self._look_up([], {verdict.entity for verdict in verdicts}).latest
        return [
            replace(verdict, moves_on_from=None)
            for verdict in verdicts
            if (now := said.get((verdict.entity, verdict.mapping))) is None
            or now.version != verdict.version
        ]

    def _remember(self, verdicts: Collection[Verdict]) -> None:
        """Write what became of versions, and which ones are the latest now."""
        if not verdicts:
            return
        known = self._look_up([], {verdict.entity for verdict in verdicts}).latest
        newest: dict[tuple[bytes, str], tuple[Any, ...]] = {}
        became: list[tuple[Any, ...]] = []
        left: list[tuple[Any, ...]] = []
        for verdict in verdicts:
            key = verdict.entity, verdict.mapping
            before = known.get(key)
            now = latest_after(
                before,
                verdict.outcome,
                version=verdict.version,
                content=verdict.content,
                position=verdict.position,
                basis=verdict.basis,
                spelling=verdict.spelling,
            )
            is_implied_now = is_implied(before, now, verdict.outcome, verdict.version)
            if not (verdict.is_first and is_implied_now):
                became.append(self._settled_row(verdict))
            if now is None or now == before:
                continue
            if before is not None and is_left_behind(before, now):
                left.append(self._settled_row(verdict, instead=before.version))
            known[key] = now
            newest[key] = self._latest_row(verdict, now)
        self._execute(sql.add(self._dialect, settled), left)
        by_version = sql.upsert(self._dialect, settled, "version", "mapping")
        self._execute(by_version, became)
        by_entity = sql.upsert(self._dialect, latest, "entity", "mapping")
        self._execute(by_entity, list(newest.values()))

    def _latest_row(self, verdict: Verdict, now: Latest) -> tuple[Any, ...]:
        return (
            verdict.entity,
            verdict.mapping,
            verdict.stream,
            now.version,
            now.content,
            now.position,
            now.done,
            self._run,
            now.basis,
            now.spelling,
        )

    def _settled_row(
        self, verdict: Verdict, *, instead: bytes | None = None
    ) -> tuple[Any, ...]:
        """Return a row of what is settled.

        Args:
            instead: An unchanged version that this one takes the place of.
        """
        outcome = verdict.outcome if instead is None else Outcome.UNCHANGED
        return (
            verdict.version if instead is None else instead,
            verdict.mapping,
            verdict.stream,
            outcome.value,
            self._run,
            verdict.fingerprint,
            verdict.signal_id if instead is None else None,
        )

    def _execute(self, text: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            self._connection.exec_driver_sql(text, rows)
