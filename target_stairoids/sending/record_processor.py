"""Process records: look up blocks of them, decide, and apply the decisions.

A new signal enters the send queue, where the rules are applied once more when it is
claimed. STATE messages keep their place among the records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from stairoids_common.text import as_code
from target_stairoids.checks.stream_checks import SAMPLE
from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup import order
from target_stairoids.dedup.duplicate_rules import Key, Latest, Version, people_in
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.exceptions import ConfigError, MessageError, MissingKeyError
from target_stairoids.ledger import queries
from target_stairoids.ledger.dead_letters import read_order_in
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.write_buffer import FULL
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.sending.checkpoint import Checkpoint
from target_stairoids.sending.identity import SettledRecord
from target_stairoids.sending.observer import Observer
from target_stairoids.sending.opt_outs import Items, apply_opt_outs, mark_suppressed
from target_stairoids.sending.record_decision import (
    DEAD_LETTER_FIELD,
    FOREIGN,
    MappedRecord,
    draft_of,
    known_outcome,
    mapped_records,
    version_with_person,
)
from target_stairoids.sending.record_outcomes import RecordOutcomes
from target_stairoids.sending.streams import Stream, Streams
from target_stairoids.settings import Settings

_BLOCK = 998  # records
_FEW_OPT_OUTS, _NEARLY_ALL = 25, 0.9  # invalid ones that stop the run
_NOT_READ = "people who opted out are not known"


@dataclass(eq=False)
class RecordProcessor:
    """Takes records in blocks, and looks up their states in the ledger.

    `baselined` has the source and type of records that are remembered and not sent.
    """

    settings: Settings
    ledger: Ledger
    checkpoint: Checkpoint
    outcomes: RecordOutcomes
    suppression: Suppression

    def __post_init__(self) -> None:
        self._block: list[MappedRecord | str] = []
        self._has_held = self._has_opt_outs = False
        # By stream: how many opt-outs are invalid (True), and how many are not.
        self._opt_outs: defaultdict[str, Counter[bool]] = defaultdict(Counter)
        self._awaited = 0  # the place before the first stream, which holds STATE back
        self.baselined: set[tuple[str, str]] = set()
        suppressed = self.suppression.by_settings.digest
        self.streams = Streams(self.settings, self.ledger, suppressed)

    def await_stream(self) -> None:
        """Emit no STATE before a stream is opened."""
        self._awaited = self.checkpoint.open()

    def stream(self, schema: StreamSchema, message: Mapping[str, Any]) -> Stream:
        """Open a stream, or raise the errors of `Streams.open`."""
        stream = self.streams.open(schema, message)
        self.outcomes.opened(stream)
        self.checkpoint.close(self._awaited)
        self._has_opt_outs |= any(mapping.suppress for mapping in stream.maps)
        (self.outcomes.records.observer or Observer()).opened(stream)
        return stream

    def take(
        self, stream: Stream, records: Iterable[dict[str, Any] | msgspec.Raw]
    ) -> None:
        """Take records, as columns or JSON texts.

        `MessageError` if one is no object or lacks its key, or if an earlier one cannot
        be decoded. All before that one are decided.
        """
        scope, report = self.settings.scope, self.outcomes.records.report
        run = self.ledger.buffer.run
        for sent in records:
            record = stream.reader.read(sent)
            if not stream.keys <= record.key.keys() and (
                lack := stream.schema.lack_of(record.key)
            ):
                raise MissingKeyError(lack)
            stream.counts.taken += 1
            place = order.read_order(run, report.read)
            found = mapped_records(stream, record, scope, place)
            if DEAD_LETTER_FIELD in record.key:
                if not found:
                    self.outcomes.filtered(stream, record.fields, "its mapping is gone")
                    continue
                if found[0].dead_letter is not None:
                    mark = record.key[DEAD_LETTER_FIELD].split(" ")[0]
                    if (known := read_order_in(self.ledger, mark)) is None:
                        found[0].dead_letter = FOREIGN
                    found[0].read_order = known or place
            report.read += 1
            if found and found[0].has_null_key:
                stream.counts.null_keys += 1
                stream.counts.null_columns |= found[0].null_columns
            self._block += found
            if len(self._block) >= _BLOCK:
                self.flush()

    def state(self, text: str) -> None:
        """Take a STATE message, in its place behind all records so far."""
        self._block.append(text)

    def flush(self) -> None:
        """Decide on all that was taken, or on all before a `MessageError`."""
        if not self._block:
            return
        items, self._block = self._block, []
        if self._has_opt_outs:
            items = self._without_opt_outs(items)
        if has_data := not self.suppression.by_data.is_empty():
            mark_suppressed(items, self.suppression)
        changed = self._changed_in(items)
        items = self._without_duplicates(items, changed)
        if not has_data and self.suppression.by_settings.digest:
            mark_suppressed(items, self.suppression, changed)
        broken = self._decide_all(items, changed) if items else None
        if self.ledger.buffer.size >= FULL:
            self.ledger.flush()
        if broken:
            raise broken

    def _without_opt_outs(self, items: Items) -> Items:
        """Apply the opt-outs. Stop if so few are valid that others may get signals."""
        items, opt_outs = apply_opt_outs(items, self.suppression)
        for opt_out in opt_outs:
            self.outcomes.end_opt_out(opt_out)
            if opt_out.dead_letter is None:  # these are invalid by selection
                is_invalid = opt_out.draft.outcome is Outcome.INVALID
                self._opt_outs[opt_out.stream.schema.name][is_invalid] += 1
        for name, of in self._opt_outs.items():
            if of[True] < _FEW_OPT_OUTS or of[True] < _NEARLY_ALL * of.total():
                continue
            problem = ConfigError(
                f"Stream {as_code(name)}: nearly all its opt-outs are invalid, so "
                "signals could reach people who opted out. Correct `suppress` in the "
                "mapping, or leave rows without an address out by `when`, and run "
                "again."
            )
            if not self.settings.dry_run:
                self._leave(items)
                raise problem
            self.outcomes.gate.set_aside[name] = str(problem)
        return items

    def _leave(self, items: Items) -> None:
        """Leave records to the next run."""
        for item in items:
            if not isinstance(item, str):
                self.outcomes.records.count(item, Outcome.PENDING, _NOT_READ)

    def _changed_in(self, items: list[MappedRecord | str]) -> dict[Key, Latest | None]:
        """Return the keys that need a decision, with their last states.

        All others are duplicates: their record is the last state, word for word.
        """
        changed: dict[Key, Latest | None] = {}
        marks: defaultdict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
        unsure: set[Key] = set()
        identity = self.outcomes.identity
        self._has_held = has_held = identity.has_held
        for mapped in items:
            if isinstance(mapped, str):
                continue
            key, text = mapped.key, mapped.record.text_digest
            if mapped.mapping.is_left_out:
                changed[key] = None
            elif (text is None and self._is_unsure(mapped)) or (
                mapped.is_suppressed or (has_held and identity.is_held(key))
            ):
                unsure.add(key)
            else:
                marks[key[1]].append((key[0], text or mapped.mark))
        return changed | self.ledger.changed_entities(marks, unsure)

    def _is_unsure(self, mapped: MappedRecord) -> bool:
        """Return whether it may be filtered, or is sent again by a person."""
        if mapped.dead_letter is not None or mapped.is_suppressed:
            return True
        if mapped.record.text is not None:  # its digest has the conditions
            return False
        has_list = bool(self.suppression.by_settings.digest)
        return has_list or mapped.mapping.when is not None or mapped.is_deleted

    def _decide_all(
        self, items: list[MappedRecord | str], changed: dict[Key, Latest | None]
    ) -> MessageError | None:
        """Decide on all records before one that cannot be decoded; return its error."""
        records = [item for item in items if not isinstance(item, str)]
        sharing = self._sharing_in(records, changed)
        people = self._people_in(sharing)
        before, broken = _until_broken(items, changed, people)
        if broken is not None:
            self._decide_all(before, changed)
            return broken
        often = Counter(record.key for record in records)
        same = self._same_in(records, changed, often, people)
        known = people.keys() | same.keys()
        others = [r for r in records if r.key in changed and r not in known]
        self._draft(others, changed)
        settled = same | _withheld(others, changed, often)
        self.outcomes.note_settled(settled)
        for item in items:
            if isinstance(item, str):
                self.checkpoint.state(item)
            elif item in settled:
                self.outcomes.records.observe(item, settled[item][-1], "")
            elif item.key not in changed:
                self.outcomes.records.observe(item, Outcome.DUPLICATE, "")
            elif item in people:
                self.outcomes.note_sharing(item, people[item])
            else:
                self.outcomes.decide(item)
        return None

    def _same_in(
        self,
        items: list[MappedRecord],
        latest: dict[Key, Latest | None],
        often: Mapping[Key, int],
        known_records: Container[MappedRecord],
    ) -> dict[MappedRecord, SettledRecord]:
        """Return the records that repeat the last signal, with the facts for it.

        Another record of their key may change the last state before their turn, so
        these are left to the rules.
        """
        is_held = self.outcomes.identity.is_held
        return {
            item: (known[0], last, known[1])
            for item in items
            if (last := latest.get(item.key)) is not None
            and often[item.key] == 1
            and item.dead_letter is None
            and item not in known_records
            and not (self._has_held and is_held(item.key))
            and (known := known_outcome(item, last, self.settings)) is not None
        }

    def _sharing_in(
        self, items: list[MappedRecord], latest: dict[Key, Latest | None]
    ) -> dict[Key, list[MappedRecord]]:
        """Return the records of keys that several people share, by key.

        Keys with an unsure record are left out.
        """
        found: defaultdict[Key, list[MappedRecord]] = defaultdict(list)
        for item in items:
            if (last := latest.get(item.key)) is not None and last.is_shared:
                found[item.key].append(item)
        return {
            key: records
            for key, records in found.items()
            if not any(map(self._is_unsure, records))
        }

    def _people_in(
        self, sharing: dict[Key, list[MappedRecord]]
    ) -> dict[MappedRecord, Key]:
        """Return the records that are known word for word as a person's last state."""
        marks: dict[str, list[tuple[bytes, bytes]]] = {}
        for key, records in sharing.items():
            asked = marks.setdefault(key[1], [])
            asked += [(key[0], record.mark) for record in records]
        known = self.ledger.people_known(marks) if marks else {}
        is_held = self.outcomes.identity.is_held
        found: dict[MappedRecord, Key] = {}
        for key, records in sharing.items():
            people = [known.get((key, record.mark)) for record in records]
            if all(person is not None and not is_held(person) for person in people):
                found |= {r: p for r, p in zip(records, people, strict=True) if p}
        return found

    def _without_duplicates(
        self, items: list[MappedRecord | str], changed: dict[Key, Latest | None]
    ) -> list[MappedRecord | str]:
        """Count the records that are known word for word, and return all others.

        An observer sees them later, in their places.
        """
        entities: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        others: list[MappedRecord | str] = []
        records = self.outcomes.records
        for item in items:
            if isinstance(item, str) or item.key in changed:
                others.append(item)
            else:
                if records.closing.invalid:
                    records.note_repeat(item, Outcome.DUPLICATE)
                entity, mapping = item.key
                entities[mapping, item.stream.schema.name].append(entity)
        for (mapping, name), known in entities.items():
            self.outcomes.count_duplicates(name, mapping, known)
        return others if records.observer is None else items

    def _draft(
        self, items: list[MappedRecord], latest: dict[Key, Latest | None]
    ) -> None:
        """Make the signals of records; the write buffer learns their states."""
        people: set[Key] = set()
        known: list[Version] = []
        read: set[Key] = set()
        for item in items:
            draft, last = draft_of(item, self.settings), latest[item.key]
            is_shared = last is not None and last.is_shared
            is_sent = last is not None and last.content_digest is not None
            is_sent |= item.key in read  # it may be sent now
            read.add(item.key)
            if draft.outcome is Outcome.FILTERED and (is_sent or is_shared):
                draft = replace(draft, version=version_with_person(item))
            item.add_draft(draft)
            if draft.outcome is Outcome.BASELINED and draft.signal is not None:
                self.baselined.add((draft.signal.source, draft.signal.type))
            version = draft.version
            if version is None:
                continue
            by_person = item.is_by_person or is_shared
            if by_person:
                people |= set(people_in(version, version.record_key))
            if last is not None:
                known.append(version)
            elif (
                draft.request
                and item.stream.counts.compared < SAMPLE
                and item.may_be_rekeyed
            ):
                item.stream.counts.new.append(version)
        for stream in {item.stream.schema.name: item.stream for item in items}.values():
            self._compare_keys(stream, read)
        if people or known:
            latest_of_people = self.ledger.latest_of(people)
            self.ledger.buffer.also_know(latest_of_people, self.ledger.states_of(known))

    def _compare_keys(self, stream: Stream, read: Container[Key]) -> None:
        """Set a stream aside if the ledger knows its new records under other keys.

        Each comparison reads all rows, so it waits until their number has doubled.
        """
        counts = stream.counts
        left = SAMPLE - counts.compared
        new = counts.new[:left]
        if not new or len(new) < min(counts.compared, left):
            return
        has_read = self.outcomes.identity.has_read
        sources = [version.source_digest for version in new]
        gone = {
            key: (source, key[1], value)
            for key, source, name, value in queries.records_like(self.ledger, sources)
            if name == stream.schema.name and key not in read and not has_read(key)
        }
        known = {*gone.values()}
        counts.compared += len(new)
        others = queries.namespaces_with(
            self.ledger,
            stream.schema.name,
            {*sources},
            mappings=stream.made,
            api_key=stream.api_key,
        )
        counts.namespaces.update(others.values())
        counts.rekeyed += sum(
            v.source_digest in others
            or (v.source_digest, v.mapping, v.bookmark_value) in known
            for v in new
        )
        counts.new.clear()
        self.outcomes.gate.rekeyed(stream)


def _withheld(
    items: Iterable[MappedRecord],
    latest: Mapping[Key, Latest | None],
    often: Mapping[Key, int],
) -> dict[MappedRecord, SettledRecord]:
    """Return the first states that are not sent on purpose, with the facts for them."""
    return {
        item: (item.version, None, item.draft.outcome)
        for item in items
        if EFFECTS[item.draft.outcome].is_withheld
        and latest[item.key] is None
        and often[item.key] == 1
        and item.dead_letter is None
        and not item.is_by_person
    }


def _until_broken(
    items: list[MappedRecord | str],
    changed: dict[Key, Latest | None],
    known: Container[MappedRecord],
) -> tuple[list[MappedRecord | str], MessageError | None]:
    """Return the items before the first undecodable record, and the error.

    Those that are known word for word are not decoded.
    """
    for place, item in enumerate(items if changed else ()):
        if isinstance(item, str) or item.key not in changed or item.mapping.is_left_out:
            continue
        if item in known or item.record.text is None:
            continue
        try:
            _ = item.record.canonical
        except MessageError as error:
            msg = f"Stream `{item.stream.schema.name}`: {error}"
            return items[:place], MessageError(msg)
    return items, None
