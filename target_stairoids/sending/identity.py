"""Identity: which entity a record belongs to, and which records wait for more input.

`duplicate_rules.decide` has the rules. This module gives them the facts of the run: the
last states, the entities that were read, and the records that are held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

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
    Read,
    RecordAction,
    Settled,
    Step,
    Version,
    decide,
    differ,
    filled_in,
    is_older,
    is_replaced,
    last_sent,
    people_in,
    unchanged_after,
)
from target_stairoids.dedup.order import is_before
from target_stairoids.dedup.outcome import Outcome
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
        follows_latest: Whether this run has read that last state before.
    """

    record: MappedRecord
    version: Version
    step: Step
    latest: Latest | None = None
    last_sent_in: int = 0
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
    def is_other_row(self) -> bool:
        """Whether a state to send is no later state of the row that was read."""
        last = self.latest.bookmark_value if self.latest else None
        is_sent = self.step.action is RecordAction.SEND and self.step is not IF_REJECTED
        return is_sent and not is_before(last, self.version.bookmark_value)

    def read_as(self, before: Read) -> Read:
        """Return how the record was read, given how its entity was read before."""
        if self.step.action is RecordAction.SEND:
            return Read.AS_OTHER if before else Read.AS_LATEST
        is_latest = self.step.action is RecordAction.UNCHANGED or (
            self.latest is not None
            and self.latest.state_digest == self.version.state_digest
        )
        return Read.AS_LATEST if is_latest else Read.AS_OTHER

    @property
    def why_new(self) -> str:
        """Why a dry run would send its signal."""
        if self.latest is None:
            is_person = self.version.key != self.version.record_key
            return "another person has its key" if is_person else "new"
        was_sent = self.latest.content_digest is not None
        return "its content changed" if was_sent else "was rejected before"


class _Held(NamedTuple):
    """A record that waits, with the decision on it if no other one of its key comes."""

    at_end: Decided
    states: Sequence[Settled]


class SharedKeys:
    """Counts the records of keys with several rows, for the warning about them.

    `_returned` gets a key when a state that was sent before is read alone. Once the
    last state follows, `_returned` has both, and they are of two rows. `_counted` gets
    a key with its first two records.
    """

    def __init__(self) -> None:
        self._returned: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._counted: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)

    def count(self, key: Key) -> int:
        """Count a further record of a key, and at first the one before it as well."""
        entity, mapping = key
        if self._counted[mapping].read(entity):
            return 1
        self._counted[mapping].add(entity, Read.AS_LATEST)
        return 2

    def returned(self, key: Key) -> None:
        """Note a state that was sent before. Whether it is another row is not clear."""
        self._returned[key[1]].add(key[0], Read.AS_OTHER)

    def saw_latest(self, mapping: str, entities: Iterable[bytes]) -> int:
        """Count the keys whose last state is read now, after one that returned."""
        if (returned := self._returned.get(mapping)) is None:
            return 0
        both = [one for one in {*entities} if returned.read(one) is Read.AS_OTHER]
        for entity in both:
            returned.add(entity, Read.AS_LATEST)
        return sum(self.count((entity, mapping)) for entity in both)


class Identity:
    """Decides on the records of one run, in the order of the input.

    `_read` gets each entity after the decision on its record: as its last state, or as
    another one. `_held` gets the record of a HOLD. It leaves with another state of its
    key, or at the end of the input.

    Attributes:
        others: Keys of which this run has read new people only. A key comes with the
            first of them, and goes with a known one, or if no check counts it.
    """

    def __init__(self, buffer: WriteBuffer) -> None:
        self._buffer = buffer
        self._read: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._held: dict[Key, _Held] = {}
        self._shared = SharedKeys()
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
        return [held.at_end.record for held in self._held.values()]

    def has_read(self, key: Key) -> bool:
        """Return whether this run has read a record of an entity."""
        return bool(self._read[key[1]].read(key[0]))

    def saw_latest(self, mapping: str, entities: list[bytes]) -> int:
        """Note entities read in the state sent last; return the growth of `sharing`."""
        self._read[mapping].add_latest(entities)
        return self._shared.saw_latest(mapping, entities)

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
            return [self._decide(record, version)]
        if _is_same(held.at_end.version, version, record.mapping.send):
            return [Decided(record, version, _SAME_AS_HELD, latest)]
        del self._held[version.key]
        # Not held again, because another state of its key was read. It is counted with
        # the record that follows.
        return [self._resolve(held), *self.take(record)]

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
        released = [held.at_end for held in self._held.values()]
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

    # Decisions

    def _resolve(self, held: _Held) -> Decided:
        """Decide on a held record, because another one of its key was read."""
        return self._decide(held.at_end.record, held.at_end.version, held)

    def _decide(
        self, record: MappedRecord, version: Version, held: _Held | None = None
    ) -> Decided:
        """Decide on a record, and note the decision."""
        facts = self._facts(record, version, held)
        step = decide(version, facts)
        if step.action is RecordAction.SHARE:
            self._share(version, facts)
            version, _ = self._of_person(version)
            facts = self._facts(record, version, held)
            step = decide(version, facts)
        latest = facts.latest
        if step is IF_REJECTED and latest is not None:
            version = filled_in(version, latest)
        last_sent_in = last_sent(version, facts.states, facts.send)
        follows = bool(facts.read & Read.AS_LATEST)
        decided = Decided(record, version, step, latest, last_sent_in, follows)
        sharing = self._note_decision(decided, facts, was_held=held is not None)
        record.stream.counts.sharing += sharing
        if step.action is RecordAction.HOLD:
            at_end = _at_end(version, facts)
            waiting = Decided(record, version, at_end, latest, last_sent_in)
            self._held[version.key] = _Held(waiting, facts.states)
        return decided

    def _facts(
        self, record: MappedRecord, version: Version, held: _Held | None
    ) -> Facts:
        latest = self._buffer.latest(version.key)
        if latest is not None and latest.is_shared:
            latest = None  # several people share the key, and this record names none
        entity, mapping = version.key
        states = self._buffer.states(version.record_key)
        return Facts(
            latest=latest,
            states=[*held.states, *states] if held else states,
            run=self._buffer.run,
            send=record.mapping.send,
            read=Read.NOT_YET if latest is None else self._read[mapping].read(entity),
            is_person=version.key != record.version.record_key,
            is_replay=record.dead_letter is not None,
            may_fail=self._buffer.may_fail(version.key),
        )

    def _share(self, version: Version, facts: Facts) -> None:
        """Move the last state of a key to its person, because it is another one's."""
        key, latest, read = version.record_key, facts.latest, facts.read
        assert latest is not None  # noqa: S101 - it is about another person
        if latest.run != facts.run and not read & Read.AS_LATEST:
            self.others.add(key)
        person = people_in(latest, key)[0]
        self._buffer.share(key, person, version.stream)
        if read:
            self._note(person, read)

    def _note_decision(self, decided: Decided, facts: Facts, *, was_held: bool) -> int:
        """Change the memories and the last state; return the growth of `sharing`.

        A record that was held is counted with the one that follows.
        """
        step, latest, sharing = decided.step, decided.latest, 0
        key, record_key = decided.version.key, decided.version.record_key
        if facts.is_person and not decided.record.is_by_person:
            if latest is None and not self.has_read(record_key):
                self.others.add(record_key)
            elif latest is not None and latest.run != facts.run:
                self.others.discard(record_key)
            sharing = 0 if was_held else self.note_shared(record_key)
        elif step.is_seen_again and (was_held or not facts.read):
            self._shared.returned(key)
        elif step.is_seen_again or (facts.read and decided.is_other_row):
            sharing = self._shared.count(key)
        self._change_latest(decided, facts.send)
        read = decided.read_as(facts.read)
        self._note(key, read)
        if read is Read.AS_LATEST:
            sharing += self._shared.saw_latest(key[1], [key[0]])
        return sharing

    def note_shared(self, record_key: Key, person: Key | None = None) -> int:
        """Note a record of a shared key; return the growth of `sharing`.

        It is the last state of `person`, if that is known.
        """
        is_read = self.has_read(record_key)
        self._note(record_key, Read.AS_OTHER)
        if person is not None:
            self._note(person, Read.AS_LATEST)
            self.others.discard(record_key)
        return self._shared.count(record_key) if is_read else 0

    def _change_latest(self, decided: Decided, send: str) -> None:
        """Change the last state, and note states that were seen again."""
        version, step, latest = decided.version, decided.step, decided.latest
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
        self._read[key[1]].add(key[0], read)


def _is_same(held: Version, version: Version, send: str) -> bool:
    """Return whether a record says the same as a held one."""
    if send == "once":
        return not differ(held, version)
    if send == "always":
        return held.state_digest == version.state_digest
    return held.content_digest == version.content_digest


def _at_end(version: Version, facts: Facts) -> Step:
    """Return the step for a held record. With `once`, another person is not sent."""
    if facts.latest and differ(version, facts.latest) and not facts.is_person:
        return IF_REJECTED if facts.may_fail else NOT_ANOTHER
    return SEND
