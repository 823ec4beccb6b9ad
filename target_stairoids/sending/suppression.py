"""Suppression while records are read: apply opt-outs, and mark suppressed records."""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.rules import Key, Outcome
from target_stairoids.exceptions import InvalidSignalError, MessageError
from target_stairoids.ledger.suppressed import Effect, SuppressionRow
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.mapping.privacy import is_deleted
from target_stairoids.mapping.signal import names_of
from target_stairoids.sending.queue import QueuedSignal, Stage
from target_stairoids.sending.record_decision import Draft, MappedRecord

#: Mapped records, and STATE messages in their places.
Items = list[MappedRecord | str]
Decisions = list[tuple[MappedRecord, Draft]]


def hidden_among(
    signals: Iterable[QueuedSignal], suppression: Suppression, transaction: Transaction
) -> set[QueuedSignal]:
    """Return the signals to send whose people were suppressed since they were read."""
    names = {
        signal: names_of(body.get("account", {}), body.get("contact", {}))
        for signal in signals
        if signal.stage in {Stage.CLAIM, Stage.SEND}
        and (body := msgspec.json.decode(signal.claim.signal))
    }
    return set(suppression.hidden(names, transaction))


def apply_opt_outs(
    items: Items, suppression: Suppression
) -> tuple[Items, Decisions, MessageError | None]:
    """Apply the records that suppress people.

    Returns the other items before the first record that cannot be decoded, the
    decisions on the opt-outs, and the error. All entries are on disk.
    """
    rest: Items = []
    decisions: Decisions = []
    rows: list[tuple[MappedRecord, SuppressionRow]] = []
    error = None
    for item in items:
        if isinstance(item, str) or item.mapping.suppress is None:
            rest.append(item)
            continue
        try:
            rows.append((item, _row_of(item)))
        except InvalidSignalError as invalid:
            decision = Draft(Outcome.INVALID, invalid.reason)
            decisions.append((item, decision))
        except MessageError as raised:
            error = _named(item, raised)
            break
    if rows:
        effects = suppression.by_data.apply([row for _, row in rows])
        for (item, row), effect in zip(rows, effects, strict=True):
            decisions.append((item, _decision_on(item, row, effect)))
    return rest, decisions, error


def _row_of(item: MappedRecord) -> SuppressionRow:
    """Return the entry that a record adds or removes.

    Raises:
        InvalidSignalError: It has no name, but would add an entry.
    """
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


def _decision_on(item: MappedRecord, row: SuppressionRow, effect: Effect) -> Draft:
    reason = effect.value
    if effect is Effect.ABSENT:
        reason = item.why_filtered or "deleted at its source"
    discards = item.dead_letter is not None and not row.is_removed
    return Draft(Outcome.FILTERED, reason, discards=discards)


def mark_suppressed(
    items: Items, suppression: Suppression, new: Container[Key] | None = None
) -> tuple[Items, MessageError | None]:
    """Mark the records whose person or company gets no signal now.

    Returns the items before the first record that cannot be decoded, and the error.

    Args:
        new: The keys that need a decision. None before these are known, for people that
            data has suppressed: then the function looks at all records. A change of the
            settings makes all records new.
    """
    names: dict[MappedRecord, list[str]] = {}
    error = None
    for place, item in enumerate(items):
        if isinstance(item, str) or item.mapping.is_left_out:
            continue
        if new is not None and item.key not in new:
            continue
        try:
            names[item] = item.mapping.names(item.record.fields)
        except InvalidSignalError:
            continue  # the decision on the record says so
        except MessageError as raised:
            items, error = items[:place], _named(item, raised)
            break
    for item in suppression.hidden(names):
        item.is_suppressed = True
    return items, error


def _named(item: MappedRecord, error: MessageError) -> MessageError:
    return MessageError(f"Stream `{item.stream.schema.name}`: {error}")
