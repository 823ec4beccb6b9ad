"""The ledger's statements that run for every signal, made once for each ledger.

SQLAlchemy takes longer to make a statement than to execute it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, Insert, Table, func
from sqlalchemy.dialects import sqlite

from target_stairoids.ledger.schema import (
    claims,
    dead_letters,
    known_signals,
    latest,
    settled,
    signals,
)

#: The columns that `Statements.claim` fills.
CLAIMED = claims.c.keys()
#: The columns of the sync log that `Statements.log` fills.
LOGGED = [column.name for column in signals.c if column.name != "sequence"]


class Statements:
    """The statements of a dialect.

    Texts are for the driver. Their rows are tuples in the order of the table's columns.

    Attributes:
        note_known: INSERT of a row of `known_signals` that replaces the former one.
        end_claim: DELETE of a claim. Parameters: entity, mapping, run.
        claim_again: UPDATE of a claim. Parameters: attempts, time of the last one, and
            as for `end_claim`.
        close_dead_letters: DELETE of the dead letters of a state, or of all states of
            its record except `unknown` ones. Parameters: entity, mapping, state digest,
            and whether older states are closed.
        log: INSERT of signals into the sync log, in the order of `LOGGED`.
        add_dead_letter: INSERT of a dead letter. A second one of a version counts up.
        replace_latest: INSERT of last states that replaces one state digest and
            bookmark value only. These are two more parameters; NULL for none.
        touch_latest: UPDATE of the bookmark value and text digest of a last state.
            Parameters: these, entity, mapping, and as for `replace_latest`.
        set_latest: INSERT of last states that replaces those of the same entity.
        settle: INSERT of outcomes that replaces those of the same state.
        see_again: UPDATE of outcomes' runs. Parameters: run, entity, mapping, and the
            digests of state and content, either of which is enough.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._is_sqlite = dialect.name == "sqlite"
        dialect_class: Any = type(dialect)
        style = "qmark" if self._is_sqlite else "format"
        self._positional = dialect_class(paramstyle=style)
        self.add_dead_letter = self._add_dead_letter()
        self.settle = self._upsert(settled, "entity", "mapping", "state_digest")
        self.set_latest = self._upsert(latest, "entity", "mapping")
        self.note_known = self._upsert(known_signals, "scope", "source", "type")
        mark, same = ("?", "IS") if self._is_sqlite else ("%s", "IS NOT DISTINCT FROM")
        is_its = (
            f"{latest.name}.state_digest {same} {mark}"
            f" AND {latest.name}.bookmark_value {same} {mark}"
        )
        self.replace_latest = f"{self.set_latest} WHERE {is_its}"
        our_key = f"entity = {mark} AND mapping = {mark}"
        self.touch_latest = (
            f"UPDATE {latest.name} SET bookmark_value = {mark}, text_digest = {mark}"  # noqa: S608 - names of our own table
            f" WHERE {our_key} AND {is_its}"
        )
        self.end_claim = f"DELETE FROM {claims.name} WHERE {our_key} AND run = {mark}"  # noqa: S608 - same
        self.claim_again = (
            f"UPDATE {claims.name} SET attempts = {mark}, attempted_at = {mark}"  # noqa: S608 - same
            f" WHERE {our_key} AND run = {mark}"
        )
        self.close_dead_letters = (
            f"DELETE FROM {dead_letters.name} WHERE {our_key}"  # noqa: S608 - same
            f" AND (state_digest = {mark} OR ({mark} AND outcome <> 'unknown'))"
        )
        marks = ", ".join([mark] * len(LOGGED))
        self._claim_marks = f"({', '.join([mark] * len(CLAIMED))})"
        self.log = f"INSERT INTO {signals.name} ({', '.join(LOGGED)}) VALUES ({marks})"  # noqa: S608 - same
        self.see_again = (
            f"UPDATE {settled.name} SET run = {mark} WHERE entity = {mark}"  # noqa: S608 - names of our own table
            f" AND mapping = {mark}"
            f" AND (state_digest = {mark} OR content_digest = {mark})"
        )

    def claim(self, count: int) -> str:
        """Return the INSERT of some claims. It returns the keys of the new ones."""
        return (
            f"INSERT INTO {claims.name} ({', '.join(CLAIMED)})"  # noqa: S608 - names of our own table
            f" VALUES {', '.join([self._claim_marks] * count)}"
            " ON CONFLICT DO NOTHING RETURNING entity, mapping"
        )

    def insert_into(self, table: Table) -> Any:  # noqa: ANN401 - of either dialect
        """Return an INSERT with the dialect's ON CONFLICT."""
        if self._is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - takes a tenth of a second

        return postgresql.insert(table)

    def _upsert(self, table: Table, *key: str) -> str:
        statement = self.insert_into(table)
        others: dict[str, Any] = {
            c.name: statement.excluded[c.name] for c in table.c if c.name not in key
        }
        if table is settled:  # a known id stays known
            known = statement.excluded.signal_id
            others["signal_id"] = func.coalesce(known, table.c.signal_id)
        replaced = statement.on_conflict_do_update(index_elements=key, set_=others)
        keys = table.c.keys()
        return str(replaced.compile(dialect=self._positional, column_keys=keys))

    def _add_dead_letter(self) -> Insert:
        statement = self.insert_into(dead_letters)
        new = statement.excluded
        kept = {"id", "entity", "mapping", "state_digest", "stream", "stream_name"}
        kept |= {"first_at", "attempts"}
        replaced = [column.name for column in dead_letters.c if column.name not in kept]
        added: Insert = statement.on_conflict_do_update(
            index_elements=["entity", "mapping", "state_digest"],
            set_={
                **{name: new[name] for name in replaced},
                "attempts": dead_letters.c.attempts + new.attempts,
            },
        )
        return added
