"""Process records: look up blocks of them, decide, and apply the decisions.

A new signal enters the send queue, where the rules are applied once more when it is
claimed. STATE messages keep their place among the records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from target_stairoids.checks.bulk_change import BulkChangeCheck
from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.digests import is_newer
from target_stairoids.dedup.record import Record
from target_stairoids.dedup.rules import Key, Known, Latest, Outcome, Policy
from target_stairoids.exceptions import MessageError, MissingKeyError
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import Claim, DeadLetter
from target_stairoids.ledger.write_buffer import FULL
from target_stairoids.mapping.expressions.template import Path
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.reporting.report import Report
from target_stairoids.sending.checkpoint import Checkpoint
from target_stairoids.sending.observer import Observation, Observer
from target_stairoids.sending.queue import QueuedSignal, SendQueue, lanes_of
from target_stairoids.sending.record_decision import (
    DEAD_LETTER_FIELD,
    Checks,
    Decision,
    Facts,
    MappedRecord,
    decide,
    mapped_records,
    only_replaces_latest,
)
from target_stairoids.sending.stop import Stop
from target_stairoids.sending.streams import Stream, Streams, warn_if_left_out
from target_stairoids.sending.suppression import apply_opt_outs, mark_suppressed
from target_stairoids.settings import Settings

_BLOCK = 998  # two queries on SQLite builds that are still in use
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


@dataclass(eq=False)
class RecordProcessor:
    """Takes records in blocks, and applies the decision on each.

    Signals go to the queue, STATE messages to the checkpoint. The bulk-change check may
    set `stop`.
    """

    settings: Settings
    ledger: Ledger
    report: Report
    queue: SendQueue
    checkpoint: Checkpoint
    stop: Stop
    observer: Observer | None
    suppression: Suppression

    def __post_init__(self) -> None:
        """Make the streams and the checks."""
        settings = self.settings
        self._bulk_change = None if settings.allow_surge else BulkChangeCheck()
        self._checks = Checks(settings.max_event_age_days, settings.dry_run)
        self._block: list[tuple[Stream, Record] | str] = []
        self.streams = Streams(
            settings, self.ledger, self.suppression.by_settings.digest
        )

    def stream(self, schema: StreamSchema, message: Mapping[str, Any]) -> Stream:
        """Open a stream as `Streams.open` does, and warn if it is left out."""
        stream = self.streams.open(schema, message)
        if self.observer is None:
            warn_if_left_out(stream)
        else:
            self.observer.opened(stream)
        return stream

    def take(self, stream: Stream, sent: dict[str, Any] | msgspec.Raw) -> None:
        """Take a record, as columns or JSON text.

        Raises:
            MessageError: It is no object or lacks its key; or a record before it cannot
                be decoded. All before that one are decided.
        """
        record = stream.reader.read(sent)
        if not stream.keys <= record.key.keys() and (
            lack := stream.schema.lack_of(record.key)
        ):
            raise MissingKeyError(lack)
        stream.taken += 1
        self._block.append((stream, record))
        if len(self._block) >= _BLOCK:
            self.flush()

    def state(self, text: str) -> None:
        """Take a STATE message, in its place behind all records so far."""
        self._block.append(text)

    def filtered(self, stream: Stream, record: dict[str, Any], reason: str) -> None:
        """Count a record that no mapping sees."""
        self.report.read += 1
        self.report.signals += 1
        self.report.count(stream.schema.name, Outcome.FILTERED, reason)
        if self.observer is not None:
            filtered = Observation(stream, None, record, Outcome.FILTERED, reason)
            self.observer.decided(filtered)

    def flush(self) -> None:
        """Decide on all that was taken.

        Raises:
            MessageError: A record cannot be decoded. All before it are decided.
        """
        if not self._block:
            return
        block, self._block = self._block, []
        items: list[MappedRecord | str] = []
        for taken in block:
            if isinstance(taken, str):
                items.append(taken)
                continue
            stream, record = taken
            found = list(mapped_records(stream, record, self.settings.scope))
            if found or DEAD_LETTER_FIELD not in record.key:
                items += found
                self.report.read += 1
            else:
                self.filtered(stream, record.fields, "its mapping is gone")
        items, opt_outs, unreadable = apply_opt_outs(items, self.suppression)
        for mapped, decision in opt_outs:
            self._apply(mapped, decision, Known({}, {}))
        items, cut = mark_suppressed(items, self.suppression)
        new = self._new_in(items)
        if cut is None:
            items, cut = mark_suppressed(items, self.suppression, new)
        items, changed, broken = _changed(items, new)
        self._decide_all(items, changed, new)
        if self.ledger.buffer.size >= FULL:
            self.ledger.flush()
        if broken := broken or cut or unreadable:
            raise broken

    def _new_in(self, items: list[MappedRecord | str]) -> dict[Key, Latest | None]:
        """Return the keys that need a decision, with the latest version of each.

        All others are duplicates: their record is the latest version, word for word.
        """
        new: dict[Key, Latest | None] = {}
        marks: dict[str, list[tuple[bytes, bytes]]] = {}
        unsure: set[Key] = set()
        for mapped in items:
            if isinstance(mapped, str):
                continue
            key, record = mapped.key, mapped.record
            if mapped.mapping.is_left_out:
                new[key] = None
            elif (
                mapped.dead_letter is not None
                or mapped.is_suppressed
                or (record.text is None and self._is_filtered(mapped.mapping))
                or key[0] in self.queue.lanes
            ):
                unsure.add(key)
            else:
                mark = record.text_digest or record.state_digest(key[0])
                marks.setdefault(key[1], []).append((key[0], mark))
        new |= self.ledger.changed_entities(marks)
        if unsure:
            latest = self.ledger.look_up((), unsure).latest
            new |= {key: latest.get(key) for key in unsure}
        return new

    def _is_filtered(self, mapping: CompiledMapping) -> bool:
        """Return whether records of a mapping may be filtered."""
        has_list = bool(self.suppression.by_settings.digest)
        return has_list or mapping.when is not None

    def _decide_all(
        self,
        items: list[MappedRecord | str],
        changed: list[MappedRecord],
        new: dict[Key, Latest | None],
    ) -> None:
        often = Counter(mapped.key for mapped in changed)
        replacing: set[MappedRecord] = set()
        states: list[Key] = []
        for mapped in changed:
            if often[mapped.key] == 1 and self._may_replace(mapped, new[mapped.key]):
                replacing.add(mapped)
            else:
                states.append((mapped.version.state_digest, mapped.key[1]))
        settled = self.ledger.look_up(states, ()).settled if states else {}
        duplicates = Counter(
            item.stream.schema.name
            for item in items
            if not isinstance(item, str) and item.key not in new
        )
        for name, times in duplicates.items():
            self.report.signals += times
            self.report.count(name, Outcome.DUPLICATE, times=times)
        known = Known(settled, {key: latest for key, latest in new.items() if latest})
        for item in items:
            if isinstance(item, str):
                self.checkpoint.state(item)
            elif item.key not in new:
                self._observe(item, Outcome.DUPLICATE, "")
            elif item in replacing:
                self._replace_latest(item, known.latest[item.key])
            else:
                facts = self._facts_of(item, known)
                self._apply(item, decide(item, facts, self._checks), known)

    def _may_replace(self, mapped: MappedRecord, latest: Latest | None) -> bool:
        return (
            mapped.dead_letter is None
            and mapped.key[0] not in self.queue.lanes
            and mapped.key not in self.ledger.buffer.known.latest
            and only_replaces_latest(mapped, latest, self._checks)
        )

    def _replace_latest(self, mapped: MappedRecord, latest: Latest) -> None:
        self._note_fields(mapped.stream, mapped.record)
        same = replace(mapped.version, content_digest=latest.content_digest)
        self.ledger.buffer.replace_latest(same, latest)
        is_same_state = same.state_digest == latest.state_digest
        outcome = Outcome.DUPLICATE if is_same_state else Outcome.UNCHANGED
        self._count(mapped, outcome, "")

    def _note_fields(self, stream: Stream, record: Record) -> None:
        """Note which fields of its mappings a record has."""
        stream.is_seen = True
        if stream.unseen:
            stream.unseen -= {p for p in stream.unseen if _has(record.fields, p)}

    def _facts_of(self, mapped: MappedRecord, known: Known) -> Facts:
        key, latest, settled = mapped.key, known.latest.get(mapped.key), None
        if not mapped.mapping.is_left_out:
            settled = known.settled.get((mapped.version.state_digest, key[1]))
        return Facts(
            settled,
            latest,
            Policy(mapped.mapping.send, mapped.stream.complete_run),
            is_queued=key[0] in self.queue.lanes,
            is_superseded=mapped.dead_letter is not None
            and self._is_superseded(mapped, mapped.dead_letter, latest),
        )

    def _is_superseded(
        self, mapped: MappedRecord, dead_letter: int, latest: Latest | None
    ) -> bool:
        """Return whether a newer version than a dead letter's was sent."""
        if latest is None or latest.content_digest is None:
            return False
        version = mapped.version
        is_same = latest.state_digest == version.state_digest
        if mapped.mapping.send == "always" or is_same:
            return False
        if version.bookmark_value is None or latest.bookmark_value is None:
            return self.ledger.was_sent_since(dead_letter, mapped.key)
        return is_newer(latest.bookmark_value, version.bookmark_value)

    def _apply(self, mapped: MappedRecord, decision: Decision, known: Known) -> None:
        """Write the decision's effects to the ledger's buffer or the send queue."""
        outcome, buffer, stream = decision.outcome, self.ledger.buffer, mapped.stream
        if decision.is_mapped:
            self._note_fields(stream, mapped.record)
        stream.unread_times += decision.has_unread_time
        if stream.known_entities is None and decision.version is not None:
            stream.known_entities = self.ledger.entities_of(stream.number)
        if decision.discards and mapped.dead_letter is not None:
            buffer.discard(mapped.dead_letter)
        if outcome is Outcome.PENDING:
            self._enqueue(mapped, decision, known)
            return
        if decision.version is not None:
            if outcome is Outcome.INVALID:
                buffer.add_dead_letter(
                    DeadLetter(
                        version=mapped.version,
                        stream_name=stream.schema.name,
                        outcome=outcome,
                        reason=decision.reason,
                        record=self._kept(mapped.record),
                    )
                )
            elif outcome is not Outcome.DUPLICATE:
                buffer.settle(decision.version, outcome, known, self.ledger.run)
        if outcome is Outcome.WOULD_SEND and self.observer is not None:
            self.observer.would_send(stream, decision.text)
        self._count(mapped, outcome, decision.reason)

    def _enqueue(self, mapped: MappedRecord, decision: Decision, known: Known) -> None:
        version, signal, stream = decision.version, decision.signal, mapped.stream
        assert version is not None  # noqa: S101 - a signal that is sent has both
        assert signal is not None  # noqa: S101 - same
        if mapped.key in known.latest and self._bulk_change is not None:
            known_entities = stream.known_entities or 0
            self.stop.set(
                self._bulk_change.changed(stream.schema.name, known=known_entities)
            )
        self.report.signals += 1
        self.queue.add(
            QueuedSignal(
                number=self.checkpoint.open(),
                claim=Claim(
                    version=version,
                    stream_name=stream.schema.name,
                    signal=decision.text,
                    record=self._kept(mapped.record),
                ),
                source=signal.source,
                policy=Policy(mapped.mapping.send, stream.complete_run),
                lanes=lanes_of(version.key[0], signal.account, signal.contact),
                dead_letter=mapped.dead_letter,
            )
        )

    def _kept(self, record: Record) -> bytes:
        """Return a record's text, or none if records are not kept."""
        if not self.settings.keep_records:
            return b""
        if record.text is not None:
            return record.text
        fields = {n: v for n, v in record.key.items() if n != DEAD_LETTER_FIELD}
        try:
            return _encoder.encode(fields)
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            return json.dumps(fields, default=str).encode()

    def _count(self, mapped: MappedRecord, outcome: Outcome, reason: str) -> None:
        self.report.signals += 1
        self.report.count(mapped.stream.schema.name, outcome, reason)
        self._observe(mapped, outcome, reason)

    def _observe(self, mapped: MappedRecord, outcome: Outcome, reason: str) -> None:
        if self.observer is not None:
            stream, fields = mapped.stream, mapped.record.fields
            self.observer.decided(
                Observation(stream, mapped.mapping, fields, outcome, reason)
            )


def _changed(
    items: list[MappedRecord | str], new: dict[Key, Latest | None]
) -> tuple[list[MappedRecord | str], list[MappedRecord], MessageError | None]:
    """Return the items before the first record that cannot be decoded.

    Returns also the records in them that need a decision, and the error.
    """
    changed: list[MappedRecord] = []
    for place, item in enumerate(items if new else ()):
        if isinstance(item, str) or item.key not in new or item.mapping.is_left_out:
            continue
        try:
            _ = item.version
        except MessageError as error:
            msg = f"Stream `{item.stream.schema.name}`: {error}"
            return items[:place], changed, MessageError(msg)
        changed.append(item)
    return items, changed, None


def _has(record: Mapping[str, Any], path: Path) -> bool:
    value: Any = record
    for part in path:
        if isinstance(value, list):
            return True  # items of lists differ
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
