"""Records without a signal: opt-outs, suppressed people, and their dead letters."""

from __future__ import annotations

import contextlib
from collections.abc import Container
from typing import Any

from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup import order
from target_stairoids.dedup.duplicate_rules import Key, Outcome
from target_stairoids.dedup.record import json_value
from target_stairoids.exceptions import InvalidSignalError, MessageError
from target_stairoids.ledger.dead_letters import discard, replayable
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.lookup import PARAMETERS, blocks
from target_stairoids.ledger.structs import Effect
from target_stairoids.ledger.suppressed import SuppressionRow
from target_stairoids.mapping.people_and_companies import is_domain, is_email
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


class FilteredRecords:
    """Closes the dead letters of records that a run filters, as these are old states.

    So are the `invalid` ones whose row returned to the state that was sent last. The
    filtered state is about the same person, and newer. Other people who share the
    key keep their dead letters. Without an order, a dead letter stays if the run has a
    failed record of its key and person, because both may have several rows.

    Attributes:
        invalid: The keys that had `invalid` dead letters before the run.
        replayed: The numbers of dead letters that the run sends again.
    """

    def __init__(self, ledger: Ledger, queue: SendQueue) -> None:
        self._ledger, self._queue = ledger, queue
        # The newest bookmark value for each person; and its mapping and SCHEMA.
        self._filtered: dict[Key, dict[str | None, str | None]] = {}
        self._mapped: dict[Key, MappedRecord] = {}
        rows = replayable(ledger)
        self._before = {row[:2] for row in rows}
        self._keys = {(row.entity, row.mapping) for row in rows}
        self.invalid = {
            (row.entity, row.mapping) for row in rows if row.outcome == Outcome.INVALID
        }
        self._failed: dict[Key, set[str | None]] = {}
        self._repeated: set[Key] = set()
        self.replayed: set[int | None] = set()

    def add(self, mapped: MappedRecord) -> None:
        """Note a filtered record. A dead letter that a person sends again ends."""
        if mapped.dead_letter is not None:
            self.close(mapped)
            return
        key = mapped.key
        if mapped.is_by_person or not (
            key in self._keys or key in self._failed or key[0] in self._queue.lanes
        ):
            return
        person = _person_in(mapped, mapped.record.fields)
        last = self._ledger.buffer.latest(key) if person is None else None
        if last is None or not (last.is_shared or last.is_several):
            people = self._filtered.setdefault(key, {})
            value = order.value_in(mapped.record.key, mapped.stream.schema)
            before = people.get(person)
            people[person] = before if order.is_before(value, before) else value
            self._mapped[key] = mapped

    def repeat(self, mapped: MappedRecord, outcome: Outcome) -> None:
        """Note a record for which the last signal stands."""
        is_repeated = outcome in {Outcome.DUPLICATE, Outcome.UNCHANGED}
        key = mapped.key
        if is_repeated and key in self.invalid and key not in self._failed:
            self._repeated.add(key)
            self.add(mapped)

    def close(self, mapped: MappedRecord) -> None:
        """Close the dead letter of a record, unless the run sends a copy of it."""
        if mapped.dead_letter not in self.replayed:
            self._ledger.buffer.discard(mapped.dead_letter)

    def add_failed(self, mapped: MappedRecord) -> None:
        """Note a record that has a dead letter."""
        person = _person_in(mapped, mapped.record.fields)
        self._failed.setdefault(mapped.key, set()).add(person)

    def close_dead_letters(self) -> None:
        """Close the dead letters at the end of the run."""
        if not self._filtered:
            return
        listed = replayable(self._ledger)
        ids = [row.id for row in listed if (row.entity, row.mapping) in self._filtered]
        asked = blocks(ids, PARAMETERS // 2)
        rows = [row for block in asked for row in replayable(self._ledger, block)]
        for row in rows:
            if row[:2] not in self._before:
                key = row.entity, row.mapping
                people = self._failed.setdefault(key, set())
                people.add(_person_in(self._mapped[key], _fields_of(row)))
        old = [row.id for row in rows if self._is_old(row)]
        with self._ledger.transaction() as transaction:
            discard(transaction, old)

    def _is_old(self, row: Any) -> bool:  # noqa: ANN401 - a row of `dead_letters`
        key, fields = (row.entity, row.mapping), _fields_of(row)
        people, mapped = self._filtered[key], self._mapped[key]
        person = _person_in(mapped, fields)
        if person is not None and None not in people and person not in people:
            return False
        last = self._ledger.latest_of([key]).get(key)
        if person is None and last is not None and (last.is_shared or last.is_several):
            return False  # it may be another row's
        value = order.value_in(fields, mapped.stream.schema)
        theirs = [people[person]] if person in people else [*people.values()]
        if key not in self._repeated and all(
            order.are_ordered(value, newest) for newest in theirs
        ):
            is_known = person in people or order.is_log_position(value)
            if is_known:
                return not any(order.is_before(newest, value) for newest in theirs)
        failed = self._failed.get(key, set())
        is_alone = not failed if person is None else failed.isdisjoint({person, None})
        return is_alone and not any(order.is_before(n, value) for n in theirs)


def _fields_of(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of `dead_letters`
    fields: dict[str, Any] = json_value(row.record or "{}")
    return fields


def _person_in(mapped: MappedRecord, fields: dict[str, Any]) -> str | None:
    """Return the address of a record's person, else the domain; None if unknown."""
    try:
        person = next(iter(mapped.mapping.names(fields)), "")
    except InvalidSignalError:
        return None
    return person if is_email(person) or is_domain(person) else None
