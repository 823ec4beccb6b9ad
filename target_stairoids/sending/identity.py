"""Identity: which entity a record belongs to, and which records wait for more input.

`duplicate_rules.decide` has the rules. This module gives them the facts of the run: the
last states, the entities that were read, and the records that are held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup.duplicate_rules import (
    IF_REJECTED,
    NOT_ANOTHER,
    REJECTED,
    SEND,
    Facts,
    Key,
    Latest,
    Outcome,
    Read,
    RecordAction,
    Settled,
    Step,
    Version,
    decide,
    differ,
    filled_in,
    is_older,
    last_sent,
    people_in,
    unchanged_after,
)
from target_stairoids.dedup.order import is_before, is_replaced
from target_stairoids.dedup.seen_entities import SeenEntities
from target_stairoids.ledger.write_buffer import WriteBuffer

if TYPE_CHECKING:
    from target_stairoids.sending.record_decision import MappedRecord

#: A record that needs no request: its version, its entity's last state, its outcome.
SettledRecord = tuple[Version, Latest | None, Outcome]

_SAME_AS_HELD = Step(RecordAction.DUPLICATE)


class Decided(msgspec.Struct, frozen=True, gc=False):
    """A decision, and the state of the entity before it.

    Attributes:
        version: With the entity that the record belongs to.
        latest: The entity's last state before.
        last_sent_in: The last run that sent the state; 0 if none.
        sharing: By how much the count of records that share a key grows.
        follows_latest: Whether this run has read that last state before.
    """

    record: MappedRecord
    version: Version
    step: Step
    latest: Latest | None = None
    last_sent_in: int = 0
    sharing: int = 0
    follows_latest: bool = False

    def changes_earlier(self, run: int, *, is_first: bool) -> bool:
        """Return whether the last state was sent before this run, or filtered since.

        Without a complete run (`is_first`) the input begins again. Then a state that
        follows the last one is no change. Nor is one that is sent only if the signal of
        the last one is rejected.
        """
        is_unsure = self.step is IF_REJECTED or (is_first and self.follows_latest)
        if self.latest is None or is_unsure:
            return False
        return self.latest.done and self.latest.run != run

    @property
    def repeats_last(self) -> bool:
        """Whether the signal of the last state stands for the record."""
        last = self.latest.content_digest if self.latest else None
        return self.record.mapping.send == "once" or last == self.version.content_digest

    @property
    def why_new(self) -> str:
        """Why a dry run would send its signal."""
        if self.latest is None:
            is_person = self.version.key != self.version.record_key
            return "another person has its key" if is_person else "new"
        was_sent = self.latest.content_digest is not None
        return "its content changed" if was_sent else "was rejected before"


#: A record that waits: the decision on it, unless another record of its key comes. And
#: the outcomes of its states.
_Held = tuple[Decided, list[Settled]]


class Identity:
    """Decides on the records of one run, in the order of the input.

    `others` are keys that were sent for people of whom this run has read none, though
    it has read others.
    """

    def __init__(self, buffer: WriteBuffer) -> None:
        self._buffer = buffer
        self._seen: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._counted: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._alone: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._held: dict[Key, _Held] = {}
        self.others: set[Key] = set()

    @property
    def has_held(self) -> bool:
        """Whether `is_held` is true for any entity."""
        return bool(self._held or self._buffer.claims)

    def is_held(self, key: Key) -> bool:
        """Return whether a record or an open claim of an entity waits."""
        return key in self._held or bool(self._buffer.open_claim(key))

    @property
    def held(self) -> list[MappedRecord]:
        """The records that wait."""
        return [at_end.record for at_end, _ in self._held.values()]

    def has_read(self, key: Key) -> bool:
        """Return whether this run has read a record of an entity."""
        return bool(self._seen[key[1]].read(key[0]))

    def saw_latest(self, mapping: str, entities: list[bytes]) -> int:
        """Note entities read in the state sent last; return the growth of `sharing`."""
        self._seen[mapping].add_latest(entities)
        return self._met_latest(mapping, entities)

    def _met_latest(self, mapping: str, entities: list[bytes]) -> int:
        """Count keys whose last state comes after another state in this input."""
        if (alone := self._alone.get(mapping)) is None:
            return 0
        met = [one for one in {*entities} if alone.read(one) is Read.AS_OTHER]
        for entity in met:
            alone.add(entity, Read.AS_LATEST)
        return sum(self._count((entity, mapping)) for entity in met)

    def filtered(self, record: MappedRecord) -> list[Decided]:
        """Note that a record became no signal, so that the state before may return.

        Returns the decision on a record of its entity that was held until now.
        """
        version, _ = self.placed(record)
        was_read = self.has_read(version.key)
        self._note(version.key, Read.AS_OTHER)
        held = self._held.pop(version.key, None)
        released = [self._resolve(held)] if held else []
        latest = self._buffer.latest(version.key)
        if (
            latest is not None
            and latest.content_digest is not None
            and not (is_older(version, latest) or differ(version, latest))
        ):
            cleared = replace(
                latest,
                state_digest=None,
                content_digest=None,
                bookmark_value=version.bookmark_value or latest.bookmark_value,
                source_digest=None,
                run=version.read_in,
                read_order=version.read_order,
            )
            if was_read:
                self._see_again(version.record_key, latest, record.mapping.send)
            self.others.discard(version.record_key)
            self._buffer.put(version.key, version.stream, cleared)
        return released

    def settle(self, records: Iterable[SettledRecord]) -> int:
        """Settle records of different entities; return the growth of `sharing`.

        They have the content of the last state, or are the first state themselves.
        """
        entities: defaultdict[str, list[bytes]] = defaultdict(list)
        for version, latest, outcome in records:
            if latest is None:
                self._buffer.settle(version, outcome)
            elif (after := unchanged_after(latest, version)) != latest:
                self._buffer.put(version.key, version.stream, after)
            entities[version.key[1]].append(version.key[0])
        return sum(self.saw_latest(mapping, read) for mapping, read in entities.items())

    def take(self, record: MappedRecord) -> list[Decided]:
        """Decide on a record; the last decision is on the record itself.

        Those before are on records that were held until now.
        """
        version, latest = self.placed(record)
        held = self._held.get(version.key)
        if held is None:
            states = self._buffer.states(version.record_key)
            return [self._decide(record, version, latest, states)]
        if _is_same(held[0].version, version, record.mapping.send):
            return [Decided(record, version, _SAME_AS_HELD, latest)]
        del self._held[version.key]
        # Not held again, because another state of its key was read. It is counted with
        # the record that follows.
        first = self._resolve(held)
        return [first, *self.take(record)]

    def is_superseded(self, record: MappedRecord) -> bool:
        """Return whether a newer version than a dead letter's was sent or filtered."""
        version, latest = self.placed(record)
        if latest is None:
            return False
        is_always = record.mapping.send == "always" and is_older(version, latest)
        if latest.state_digest is not None and (is_always or not latest.content_digest):
            return False  # no newer version was sent; it may have been rejected
        is_followed = any(  # its signal was lost, and a later state was settled
            state.state_digest == version.state_digest and not state.run
            for state in self._buffer.states(version.record_key)
        )
        return is_followed or is_replaced(version, latest)

    def release(self) -> list[Decided]:
        """Return the decisions on all held records; call it at the end of the input."""
        released = [at_end for at_end, _ in self._held.values()]
        if released:
            self._held.clear()
            self._buffer.know({item.version.key: item.latest for item in released})
        return released

    # Which entity

    def placed(self, record: MappedRecord) -> tuple[Version, Latest | None]:
        """Return the version with its entity, and the last state of that."""
        version = record.version
        latest = self._buffer.latest(version.record_key)
        if latest is not None and latest.is_shared:
            return self._of_person(version)
        if record.is_by_person:
            placed, latest = self._of_person(version)
            return replace(placed, record_key=placed.key), latest
        return version, latest

    def _of_person(self, version: Version) -> tuple[Version, Latest | None]:
        """Return the version as one of its person's, and the person's last state.

        A person goes by the email, or else by the domain.
        """
        people = people_in(version, version.record_key)
        for key in people:
            latest = self._buffer.latest(key)
            if latest is not None and not differ(latest, version):
                return replace(version, key=key), latest
        key = people[0] if people else version.key
        return replace(version, key=key), self._buffer.latest(key)

    def _share(self, version: Version) -> None:
        """Move the last state of the record's key to its person."""
        key = version.record_key
        latest = self._buffer.latest(key)
        assert latest is not None  # noqa: S101 - it is about another person
        person = people_in(latest, key)[0]
        self._buffer.share(key, person, version.stream)
        if read := self._seen[key[1]].read(key[0]):
            self._note(person, read)

    # Decisions

    def _resolve(self, held: _Held) -> Decided:
        before, its = held
        version = before.version
        latest = self._buffer.latest(version.key)
        states = [*its, *self._buffer.states(version.record_key)]
        return self._decide(before.record, version, latest, states, counts=False)

    def _decide(
        self,
        record: MappedRecord,
        version: Version,
        latest: Latest | None,
        states: Sequence[Settled],
        *,
        counts: bool = True,
    ) -> Decided:
        """Decide on a record; with `counts`, it may count as one that shares a key."""
        if latest is not None and latest.is_shared:
            latest = None  # several people share the key, and this record names none
        is_person = version.key != record.version.record_key
        entity, mapping = version.key
        read = Read.NOT_YET if latest is None else self._seen[mapping].read(entity)
        facts = Facts(
            latest=latest,
            states=states,
            run=self._buffer.run,
            send=record.mapping.send,
            read=read,
            is_person=is_person,
            is_replay=record.dead_letter is not None,
            may_fail=self._buffer.may_fail(version.key),
        )
        step = decide(version, facts)
        before = last_sent(version, facts.states, facts.send)
        if step.action is RecordAction.SHARE:
            assert latest is not None  # noqa: S101 - it is about another person
            if latest.run != self._buffer.run and not read & Read.AS_LATEST:
                self.others.add(version.record_key)
            self._share(version)
            person, latest = self._of_person(version)
            return self._decide(record, person, latest, states, counts=counts)
        sharing = 0
        if is_person and not record.is_by_person:
            self._note_other(version.record_key, latest)
            sharing = self.note_shared(version.record_key) if counts else 0
        elif step.is_seen_again and not (read and counts):
            self._alone[mapping].add(entity, Read.AS_OTHER)
        elif step.is_seen_again or (read and _is_other_row(step, version, latest)):
            sharing = self._count(version.record_key)
        self._apply(version, step, latest, facts.send)
        if step is IF_REJECTED and latest is not None:
            version = filled_in(version, latest)
        note = _note_of(step, version, latest, read)
        if note is Read.AS_LATEST:
            sharing += self._met_latest(mapping, [entity])
        self._note(version.key, note)
        if step.action is RecordAction.HOLD:
            self._hold(Decided(record, version, SEND, latest, before), facts)
        follows = bool(read & Read.AS_LATEST)
        return Decided(record, version, step, latest, before, sharing, follows)

    def _hold(self, decided: Decided, facts: Facts) -> None:
        """Let a record wait. At the end, another person is not sent with `once`."""
        version, latest = decided.version, decided.latest
        if latest and differ(version, latest) and not facts.is_person:
            at_end = IF_REJECTED if facts.may_fail else NOT_ANOTHER
            decided = replace(decided, step=at_end)
        own = self._buffer.states(version.record_key)
        self._held[version.key] = decided, own

    def note_shared(self, record_key: Key, person: Key | None = None) -> int:
        """Note a record of a shared key; return the growth of `sharing`.

        It is the last state of `person`, if that is known.
        """
        is_read = self.has_read(record_key)
        self._note(record_key, Read.AS_OTHER)
        if person is not None:
            self._note(person, Read.AS_LATEST)
            self.others.discard(record_key)
        return self._count(record_key) if is_read else 0

    def _note_other(self, record_key: Key, latest: Latest | None) -> None:
        """Note a record of a shared key, and the last state of its person."""
        if latest is None and not self.has_read(record_key):
            self.others.add(record_key)
        elif latest is not None and latest.run != self._buffer.run:
            self.others.discard(record_key)

    def _count(self, record_key: Key) -> int:
        """Count a further record of a key, and at first the one before it as well."""
        entity, mapping = record_key
        if self._counted[mapping].read(entity):
            return 1
        self._counted[mapping].add(entity, Read.AS_LATEST)
        return 2

    def _apply(
        self, version: Version, step: Step, latest: Latest | None, send: str
    ) -> None:
        """Change the last state, and note states that were seen again."""
        if step.is_seen_again:
            self._see_again(version.record_key, version, send)
        if latest is None or step is REJECTED:
            return
        if step.leaves_behind:
            self._see_again(version.record_key, latest, send)
        after = latest
        is_same = latest.state_digest == version.state_digest
        is_known = step.action is RecordAction.DUPLICATE
        is_its = not differ(version, latest)
        if step.action is RecordAction.UNCHANGED or (is_same and step is not SEND):
            after = unchanged_after(latest, version)
        elif send == "once" and is_its and (is_known or step is IF_REJECTED):
            after = filled_in(latest, version)
        if step.is_several:
            after = replace(after, is_several=True)
        if after != latest:
            self._buffer.put(version.key, version.stream, after)

    def _see_again(self, record_key: Key, state: Version | Latest, send: str) -> None:
        """Note that this run read a state of a key that was sent before."""
        content = None if send == "always" else state.content_digest
        self._buffer.see_again(record_key, state.state_digest, content)

    def _note(self, key: Key, read: Read) -> None:
        self._seen[key[1]].add(key[0], read)


def _is_same(held: Version, version: Version, send: str) -> bool:
    """Return whether a record says the same as a held one."""
    if send == "once":
        return not differ(held, version)
    if send == "always":
        return held.state_digest == version.state_digest
    return held.content_digest == version.content_digest


def _is_other_row(step: Step, version: Version, latest: Latest | None) -> bool:
    """Return whether a state to send is no later state of the row that was read."""
    last = latest.bookmark_value if latest else None
    is_sent = step.action is RecordAction.SEND and step is not IF_REJECTED
    return is_sent and not is_before(last, version.bookmark_value)


def _note_of(step: Step, version: Version, latest: Latest | None, read: Read) -> Read:
    """Return how an entity was read, by the decision on a record."""
    if step.action is RecordAction.SEND:
        return Read.AS_OTHER if read else Read.AS_LATEST
    is_latest = step.action is RecordAction.UNCHANGED or (
        latest is not None and latest.state_digest == version.state_digest
    )
    return Read.AS_LATEST if is_latest else Read.AS_OTHER
