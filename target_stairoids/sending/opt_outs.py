"""Records without a signal: opt-outs, suppressed people, and their dead letters."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Container

from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.duplicate_rules import Key, Outcome
from target_stairoids.exceptions import InvalidSignalError, MessageError
from target_stairoids.ledger.closing import Ended, before_run, close_without_signals
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import Effect
from target_stairoids.ledger.suppressed import SuppressionRow
from target_stairoids.mapping.privacy import is_deleted
from target_stairoids.sending.queue import SendQueue
from target_stairoids.sending.record_decision import Draft, MappedRecord

#: Mapped records, and STATE messages in their places.
Items = list[MappedRecord | str]


def apply_opt_outs(
    items: Items, suppression: Suppression
) -> tuple[Items, list[MappedRecord]]:
    """Apply the records that suppress people; their entries are on disk then.

    Returns the other items, and the opt-outs with their outcomes. An opt-out that
    cannot be decoded is the last of the other items, and the items behind it are left
    out.
    """
    rest: Items = []
    decided: list[MappedRecord] = []
    rows: list[tuple[MappedRecord, SuppressionRow]] = []
    for item in items:
        if isinstance(item, str) or item.mapping.suppress is None:
            rest.append(item)
            continue
        try:
            rows.append((item, _row_of(item)))
        except InvalidSignalError as invalid:
            item.add_draft(Draft(Outcome.INVALID, invalid.reason))
            decided.append(item)
        except MessageError:
            rest.append(item)
            break
    if rows:
        effects = suppression.by_data.apply([row for _, row in rows])
        for (item, _), effect in zip(rows, effects, strict=True):
            reason = effect.value
            if effect is Effect.ABSENT:
                reason = item.why_filtered or "deleted at its source"
            item.add_draft(Draft(Outcome.FILTERED, reason))
            decided.append(item)
    return rest, decided


def _row_of(item: MappedRecord) -> SuppressionRow:
    """Return the entry that a record adds or removes, or raise `InvalidSignalError`."""
    mapping, fields = item.mapping, item.record.fields
    assert mapping.suppress is not None  # noqa: S101 - the caller has looked
    is_removed = is_deleted(fields, mapping.deleted_columns)
    is_removed = is_removed or bool(mapping.why_filtered(fields))
    try:
        name = mapping.suppress(fields)
    except InvalidSignalError:
        if not is_removed:
            raise
        name = None
    if name is None and not is_removed:
        raise InvalidSignalError("suppress: neither an email address nor a domain")
    return SuppressionRow(item.key, item.stream.number, name, is_removed)


def mark_suppressed(
    items: Items, suppression: Suppression, new: Container[Key] | None = None
) -> None:
    """Mark the records whose person or company gets no signal now.

    `new` are the keys to look at; None for all. If only the settings have a list, new
    keys are enough, because its change makes all records new.
    """
    names: dict[MappedRecord, list[str]] = {}
    for item in items:
        if isinstance(item, str) or item.mapping.is_left_out:
            continue
        if new is None or item.key in new:
            # The decision on the record raises the errors.
            with contextlib.suppress(InvalidSignalError, MessageError):
                names[item] = item.mapping.names(item.record.fields)
    for item in suppression.hidden(names):
        item.is_suppressed = True


class Closing:
    """Closes the dead letters of records that a run filters, as these are old states.

    So are the `invalid` ones whose row returned to the state that was sent last. The
    rules are in `ledger.closing`.

    Attributes:
        invalid: The keys that had `invalid` dead letters before the run.
        replayed: The numbers of dead letters that the run sends again.
    """

    def __init__(self, ledger: Ledger, queue: SendQueue) -> None:
        self._ledger, self._queue = ledger, queue
        rows = before_run(ledger)
        self._before = {(row.id, row.attempts) for row in rows}
        self._keys = {(row.entity, row.mapping) for row in rows}
        self.invalid = {
            (row.entity, row.mapping) for row in rows if row.outcome == Outcome.INVALID
        }
        self._ended: defaultdict[Key, Ended] = defaultdict(Ended)
        self.replayed: set[int | None] = set()

    def add(self, record: MappedRecord) -> None:
        """Note a filtered record. A dead letter that a person sends again ends."""
        key = record.key
        if record.dead_letter is not None:
            self.close(record)
        elif not record.is_by_person and (
            key in self._keys or key in self._ended or key[0] in self._queue.lanes
        ):
            self._ended[key].add(record.person, record.version.bookmark_value)

    def repeat(self, record: MappedRecord, outcome: Outcome) -> None:
        """Note a record for which the last signal stands."""
        is_repeated = outcome in {Outcome.DUPLICATE, Outcome.UNCHANGED}
        if is_repeated and record.key in self.invalid:
            ended = self._ended[record.key]
            if not ended.failed:
                ended.is_repeated = True
                self.add(record)

    def close(self, record: MappedRecord) -> None:
        """Close the dead letter of a record, unless the run sends a copy of it."""
        if record.dead_letter not in self.replayed:
            self._ledger.buffer.discard(record.dead_letter)

    def add_failed(self, record: MappedRecord) -> None:
        """Note a record that has a dead letter."""
        self._ended[record.key].failed.add(record.person)

    def close_dead_letters(self) -> None:
        """Close the dead letters at the end of the run."""
        ended = {key: its for key, its in self._ended.items() if its.people}
        if ended:
            with self._ledger.transaction() as transaction:
                close_without_signals(transaction, ended, self._before)
