"""Records that become no signal: opt-outs, and those of suppressed people."""

from __future__ import annotations

import contextlib
from collections.abc import Container

from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.duplicate_rules import Key
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.exceptions import InvalidSignalError, MessageError
from target_stairoids.ledger.structs import Effect
from target_stairoids.ledger.suppressed import SuppressionRow
from target_stairoids.mapping.privacy import is_deleted
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
        except MessageError:
            rest.append(item)
            break
        decided.append(item)
    if rows:
        effects = suppression.by_data.apply([row for _, row in rows])
        for (item, _), effect in zip(rows, effects, strict=True):
            reason = effect.value
            if effect is Effect.ABSENT:
                is_gone = is_deleted(item.record.fields, item.mapping.deleted_columns)
                reason = "deleted at its source" if is_gone else item.why_filtered
            item.add_draft(Draft(Outcome.FILTERED, reason))
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
