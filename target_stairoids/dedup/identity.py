"""Identity: which entity a record belongs to, and which records wait for more input.

`duplicate_rules.decide` has the rules. This module gives them the facts of the run: the
last states, the entities that were read, and the records that are held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from target_stairoids.dedup.duplicate_rules import (
    REJECTED,
    SEND,
    Action,
    Facts,
    Key,
    Latest,
    Outcome,
    Read,
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
from target_stairoids.dedup.order import are_ordered, is_before
from target_stairoids.dedup.seen_entities import Memory, SeenEntities

#: A record that needs no request: its version, its entity's last state, its outcome.
SettledRecord = tuple[Version, Latest | None, Outcome]

NOT_ANOTHER = Step(Action.SUPERSEDED, "this key was already sent for another person")
_SAME_AS_HELD = Step(Action.DUPLICATE)


class Subject(msgspec.Struct, gc=False):
    """A record to be decided on.

    Attributes:
        is_by_person: Whether the person identifies the record, because no key does.
    """

    version: Version
    send: str
    is_replay: bool = False
    is_by_person: bool = False


class Decided(msgspec.Struct, frozen=True, gc=False):
    """A decision, and the state of the entity before it.

    Attributes:
        version: With the entity that the record belongs to.
        latest: The entity's last state before.
        sent_before: The last run that sent the state; 0 if none.
        sharing: How many records the count of records that share a key grows by.
    """

    subject: Subject
    version: Version
    step: Step
    latest: Latest | None = None
    sent_before: int = 0
    sharing: int = 0

    @property
    def repeats_last(self) -> bool:
        """Whether the signal of the last state stands for the record."""
        last = self.latest.content_digest if self.latest else None
        return self.subject.send == "once" or last == self.version.content_digest

    @property
    def why_new(self) -> str:
        """Why a dry run would send its signal."""
        if self.latest is None:
            is_person = self.version.key != self.version.record_key
            return "another person has its key" if is_person else "new"
        was_sent = self.latest.content_digest is not None
        return "its content changed" if was_sent else "was rejected before"


class _Held(msgspec.Struct, gc=False):
    subject: Subject
    version: Version
    states: list[Settled]
    latest: Latest | None
    sent_before: int
    awaits_proof: bool  # that it is another person (`once`)


class Identity:
    """Decides on the records of one run, in the order of the input.

    Args:
        run: Number of the run.
    """

    def __init__(self, memory: Memory, run: int) -> None:
        self._memory = memory
        self.run = run
        self._seen: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._counted: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._alone: defaultdict[str, SeenEntities] = defaultdict(SeenEntities)
        self._held: dict[Key, _Held] = {}
        self._latest: Mapping[Key, Latest | None] = {}
        self._states: Mapping[Key, list[Settled]] = {}

    def know(
        self, latest: Mapping[Key, Latest | None], states: Mapping[Key, list[Settled]]
    ) -> None:
        """Set the database's states for the entities of a block of records."""
        self._latest, self._states = latest, states

    def latest(self, key: Key) -> Latest | None:
        """Return the last state of an entity of the block."""
        return self._memory.latest(key) or self._latest.get(key)

    @property
    def has_held(self) -> bool:
        """Whether `is_held` is true for any entity."""
        return bool(self._held) or self._memory.has_claims

    def is_held(self, key: Key) -> bool:
        """Return whether a record or an open claim of an entity waits."""
        return key in self._held or bool(self._memory.open_claim(key))

    def has_read(self, key: Key) -> bool:
        """Return whether this run has read a record of an entity."""
        return bool(self._seen[key[1]].read(key[0]))

    def saw_latest(self, mapping: str, entities: list[bytes]) -> int:
        """Note entities that were read in the state that was sent last.

        Return the growth of `sharing`.
        """
        self._seen[mapping].add_latest(entities)
        return self._met_latest(mapping, entities)

    def _met_latest(self, mapping: str, entities: list[bytes]) -> int:
        """Count the last states of keys of which another state was read before."""
        if (alone := self._alone.get(mapping)) is None:
            return 0
        met = [one for one in {*entities} if alone.read(one) is Read.AS_OTHER]
        for entity in met:
            alone.add(entity, Read.AS_LATEST)
        return sum(self._count((entity, mapping)) for entity in met)

    def filtered(self, subject: Subject) -> list[Decided]:
        """Note that a record became no signal, so that the state before may return.

        Returns the decision on a record of its entity that was held until now.
        """
        version, _ = self.placed(subject)
        was_read = self.has_read(version.key)
        self._note(version.key, Read.AS_OTHER)
        held = self._held.pop(version.key, None)
        released = [self._resolve(held)] if held else []
        latest = self.latest(version.key)
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
                run=self.run,
            )
            if was_read:
                self._see_again(version.record_key, latest, subject.send)
            self._put(version, cleared)
        return released

    def settle(self, records: Iterable[SettledRecord]) -> int:
        """Settle records of different entities; return the growth of `sharing`.

        They have the content of the last state, or are the first state themselves.
        """
        entities: defaultdict[str, list[bytes]] = defaultdict(list)
        for version, latest, outcome in records:
            if latest is None:
                self._memory.settle(version, outcome, None, self.run)
            elif (after := unchanged_after(latest, version)) != latest:
                self._put(version, after)
            entities[version.key[1]].append(version.key[0])
        return sum(self.saw_latest(mapping, read) for mapping, read in entities.items())

    def take(self, subject: Subject) -> list[Decided]:
        """Decide on a record; the last decision is on the record itself.

        Those before are on records that were held until now.
        """
        version, latest = self.placed(subject)
        held = self._held.get(version.key)
        if held is None:
            return [self._decide(subject, version, latest)]
        if _is_same(held, version, subject.send):
            return [Decided(subject, version, _SAME_AS_HELD, latest)]
        del self._held[version.key]
        # Not held again, because another state of its key was read. It is counted with
        # the record that follows.
        first = self._resolve(held)
        return [first, *self.take(subject)]

    def is_superseded(
        self, subject: Subject, was_read_since: Callable[[Key], bool]
    ) -> bool:
        """Return whether a newer version than a dead letter's was sent or filtered.

        Args:
            was_read_since: Whether a state of an entity was sent or filtered after the
                failure.
        """
        version, latest = self.placed(subject)
        if latest is None or (
            subject.send == "always" and latest.content_digest is not None
        ):
            return False
        if are_ordered(version.bookmark_value, latest.bookmark_value):
            return is_older(version, latest)
        return was_read_since(version.key)

    def release(self) -> list[Decided]:
        """Return the decisions on all held records; call it at the end of the input."""
        held, self._held = self._held, {}
        return [
            Decided(
                item.subject,
                item.version,
                NOT_ANOTHER if item.awaits_proof else SEND,
                item.latest,
                item.sent_before,
            )
            for item in held.values()
        ]

    def states(self, version: Version) -> list[Settled]:
        """Return the outcomes of states that may be equal to a version's."""
        stored = self._states.get(version.record_key, [])
        return [*stored, *self._memory.states(version.record_key)]

    # Which entity

    def placed(self, subject: Subject) -> tuple[Version, Latest | None]:
        """Return the version with its entity, and the last state of that."""
        version = subject.version
        latest = self.latest(version.record_key)
        if latest is not None and latest.is_shared:
            return self._of_person(version)
        if subject.is_by_person:
            placed, latest = self._of_person(version)
            return replace(placed, record_key=placed.key), latest
        return version, latest

    def _of_person(self, version: Version) -> tuple[Version, Latest | None]:
        """Return the version as one of its person's, and the person's last state.

        The person goes by the email, or else by the domain; by the other one if only
        that one is known.
        """
        people = people_in(version, version.record_key)
        for key in people:
            latest = self.latest(key)
            if latest is not None and not differ(latest, version):
                return replace(version, key=key), latest
        key = people[0] if people else version.key
        return replace(version, key=key), self.latest(key)

    def _share(self, version: Version) -> None:
        """Move the last state of the record's key to its person."""
        key = version.record_key
        latest = self.latest(key)
        assert latest is not None  # noqa: S101 - it is about another person
        person = people_in(latest, key)[0]
        stored = self._latest.get(key)
        self._memory.share(key, person, version.stream, stored, self.run)
        if read := self._seen[key[1]].read(key[0]):
            self._note(person, read)

    # Decisions

    def _resolve(self, held: _Held) -> Decided:
        latest = self.latest(held.version.key)
        return self._decide(
            held.subject, held.version, latest, held.states, counts=False
        )

    def _decide(
        self,
        subject: Subject,
        version: Version,
        latest: Latest | None,
        states: Sequence[Settled] = (),
        *,
        counts: bool = True,
    ) -> Decided:
        """Decide on a record.

        Args:
            states: The outcomes of its states, if it is not of this block of records.
            counts: Whether the record may count as one that shares a key.
        """
        if latest is not None and latest.is_shared:
            latest = None  # several people share the key, and this record names none
        is_person = version.key != subject.version.record_key
        entity, mapping = version.key
        read = Read.NOT_YET if latest is None else self._seen[mapping].read(entity)
        facts = Facts(
            latest=latest,
            states=[*states, *self.states(version)],
            run=self.run,
            send=subject.send,
            read=read,
            is_person=is_person,
            is_replay=subject.is_replay,
        )
        step = decide(version, facts)
        before = last_sent(version, facts.states, subject.send)
        if step.action is Action.SHARE:
            self._share(version)
            person, latest = self._of_person(version)
            return self._decide(subject, person, latest, states, counts=counts)
        sharing = 0
        if is_person and not subject.is_by_person:
            sharing = self.share(version.record_key) if counts else 0
        elif step.is_seen_again and not (read and counts):
            self._alone[mapping].add(entity, Read.AS_OTHER)
        elif step.is_seen_again or (read and _is_other_row(step, version, latest)):
            sharing = self._count(version.record_key)
        self._apply(version, step, latest, subject.send)
        note = _note_of(step, version, latest, read)
        self._note(version.key, note)
        if note is Read.AS_LATEST:
            sharing += self._met_latest(mapping, [entity])
        if step.action is Action.HOLD:
            assert latest is not None  # noqa: S101 - a first state is not held
            awaits_proof = differ(version, latest) and not is_person
            own = self.states(version)
            held = _Held(subject, version, own, latest, before, awaits_proof)
            self._held[version.key] = held
        return Decided(subject, version, step, latest, before, sharing)

    def share(self, record_key: Key, person: Key | None = None) -> int:
        """Note a record of a shared key; return the growth of `sharing`.

        Args:
            person: Whose last state it is, if it is known.
        """
        is_read = self._seen[record_key[1]].read(record_key[0])
        self._note(record_key, Read.AS_OTHER)
        if person is not None:
            self._note(person, Read.AS_LATEST)
        return self._count(record_key) if is_read else 0

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
        if latest is None:
            return
        if step.leaves_behind:
            self._see_again(version.record_key, latest, send)
        after = latest
        is_same = latest.state_digest == version.state_digest
        is_its = step is not REJECTED and not differ(version, latest)
        if step.action is Action.UNCHANGED or (is_same and step is not SEND):
            after = unchanged_after(latest, version)
        elif step.action is Action.DUPLICATE and send == "once" and is_its:
            after = filled_in(latest, version)
        if step.is_several:
            after = replace(after, is_several=True)
        if after != latest:
            self._put(version, after)

    def _put(self, version: Version, after: Latest) -> None:
        stored = self._latest.get(version.key)
        self._memory.put(version.key, version.stream, stored, after)

    def _see_again(self, record_key: Key, state: Version | Latest, send: str) -> None:
        """Note that this run read a state of a key that was sent before."""
        content = None if send == "always" else state.content_digest
        self._memory.see_again(record_key, state.state_digest, content, self.run)

    def _note(self, key: Key, read: Read) -> None:
        self._seen[key[1]].add(key[0], read)


def _is_same(held: _Held, version: Version, send: str) -> bool:
    """Return whether a record says the same as a held one."""
    if send == "once":
        return not differ(held.version, version)
    if send == "always":
        return held.version.state_digest == version.state_digest
    return held.version.content_digest == version.content_digest


def _is_other_row(step: Step, version: Version, latest: Latest | None) -> bool:
    """Return whether a state to send is no later state of the row that was read."""
    last = latest.bookmark_value if latest else None
    return step.action is Action.SEND and not is_before(last, version.bookmark_value)


def _note_of(step: Step, version: Version, latest: Latest | None, read: Read) -> Read:
    """Return how an entity was read, by the decision on a record."""
    if step.action is Action.SEND:
        return Read.AS_OTHER if read else Read.AS_LATEST
    is_latest = step.action is Action.UNCHANGED or (
        latest is not None and latest.state_digest == version.state_digest
    )
    return Read.AS_LATEST if is_latest else Read.AS_OTHER
