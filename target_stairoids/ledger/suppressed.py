"""The people and companies that data put on the suppression list.

The table has keyed digests only. The remark on the table says why a person may have
several entries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.dedup.record import keyed_digest
from target_stairoids.ledger.lookup import rows_in, upsert_text
from target_stairoids.ledger.schema import suppressed
from target_stairoids.ledger.structs import Effect

if TYPE_CHECKING:
    from target_stairoids.dedup.duplicate_rules import Key
    from target_stairoids.ledger.ledger import Ledger

#: Entity and mapping of the row that made the entry, and the digest of its name.
_Entry = tuple[bytes, str, bytes]
_COLUMNS = ("entity", "mapping", "digest")
_ADD = upsert_text(suppressed, (*_COLUMNS, "stream"))
_REMOVE = (
    f"DELETE FROM {suppressed.name} WHERE entity = ? AND mapping = ? AND digest = ?"  # noqa: S608 - names of our own table
)


class SuppressionRow(msgspec.Struct, frozen=True, gc=False):
    """A record of a mapping with `suppress`.

    Attributes:
        name: The address or domain.
        is_removed: Whether the record was deleted at its source, or `when` excludes it.
    """

    key: Key
    stream: int
    name: str | None
    is_removed: bool


class SuppressedByData:
    """The entries of a ledger. A dry run keeps its own in memory."""

    def __init__(self, ledger: Ledger, *, is_dry: bool) -> None:
        self._ledger = ledger
        self._is_dry = is_dry
        self._unwritten: dict[_Entry, bool] = {}  # entry -> whether it exists now

    def is_empty(self) -> bool:
        """Return whether there is no entry."""
        if any(self._unwritten.values()):
            return False
        with self._ledger.reading() as connection:
            query = f"SELECT 1 FROM {suppressed.name} LIMIT 1"  # noqa: S608 - our own table
            return connection.exec_driver_sql(query).first() is None

    def listed(self, names: Collection[str]) -> set[str]:
        """Return the names that are on the list now."""
        by_digest = {self._digest(name): name for name in names}
        with self._ledger.reading() as connection:
            found = rows_in(connection, suppressed.c.digest, _COLUMNS, by_digest)
            entries = self._with_unwritten(found)
        return {by_digest[digest] for *_, digest in entries if digest in by_digest}

    def apply(self, rows: Sequence[SuppressionRow]) -> list[Effect]:
        """Add and remove the entries of rows, in order; return the effect of each.

        Afterwards they are on disk. A row adds its own entry. A removed row takes away
        its own entry only, or all entries of its key if it has no name any more.
        """
        entities = {row.key[0] for row in rows}
        with self._ledger.reading() as connection:
            found = rows_in(connection, suppressed.c.entity, _COLUMNS, entities)
            entries = self._with_unwritten(found)
        own: defaultdict[Key, set[bytes]] = defaultdict(set)
        for entity, mapping, digest in entries:
            own[entity, mapping].add(digest)
        changes: dict[_Entry, int | None] = {}  # entry -> its stream; None if removed
        effects = [self._effect(row, own[row.key], changes) for row in rows]
        if self._is_dry:
            self._unwritten |= {e: stream is not None for e, stream in changes.items()}
        elif changes:
            self._write(changes)
        return effects

    def _effect(
        self, row: SuppressionRow, own: set[bytes], changes: dict[_Entry, int | None]
    ) -> Effect:
        """Add or remove a row's entry in `own` and `changes`; return the effect."""
        digest = self._digest(row.name) if row.name else None
        if row.is_removed:
            gone = own & {digest} if digest else set(own)
            own -= gone
            changes |= {(*row.key, one): None for one in gone}
            return Effect.REMOVED if gone else Effect.ABSENT
        if digest is None or digest in own:
            return Effect.KEPT
        own.add(digest)
        changes[*row.key, digest] = row.stream
        return Effect.ADDED

    def _write(self, changes: dict[_Entry, int | None]) -> None:
        removed = [entry for entry, stream in changes.items() if stream is None]
        added = [(*e, stream) for e, stream in changes.items() if stream is not None]
        with self._ledger.transaction() as transaction:
            transaction.execute(_REMOVE, removed)
            transaction.execute(_ADD, added)

    def _with_unwritten(self, rows: Iterable[Sequence[Any]]) -> set[_Entry]:
        found = {(entity, mapping, digest) for entity, mapping, digest in rows}
        for entry, exists in self._unwritten.items():
            (found.add if exists else found.discard)(entry)
        return found

    def _digest(self, name: str) -> bytes:
        """Return the digest of an address or a domain, for all namespaces of an API."""
        fields = {"origin": self._ledger.scope.partition(" ")[0], "name": name}
        return keyed_digest(self._ledger.secret, fields)
