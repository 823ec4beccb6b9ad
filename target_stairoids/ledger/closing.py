"""Close dead letters: a signal of their record was accepted, or a run filtered it.

`_ends_with_signal` and `_ends_without_signal` have the rules, one for each `return`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container
from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.dedup.duplicate_rules import (
    Key,
    Latest,
    State,
    differ,
    is_replaced,
)
from target_stairoids.dedup.order import (
    are_ordered,
    is_before,
    is_log_position,
)
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import json_value
from target_stairoids.ledger import lookup
from target_stairoids.ledger.schema import dead_letters
from target_stairoids.ledger.structs import SettledVersion
from target_stairoids.ledger.transaction import Transaction

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger

_COLUMNS = (
    *("id", "attempts", "outcome", "reason", "state_digest", "bookmark_value"),
    *("read_order", "email", "domain", "record"),
)
_DELETE = f"DELETE FROM {dead_letters.name} WHERE id = ?"  # noqa: S608 - names of our own table


class _DeadLetter(State, frozen=True, kw_only=True):
    id: int
    attempts: int
    outcome: str
    reason: str
    record: bytes

    @property
    def person(self) -> bytes | None:
        """The digest of its address, else of its domain; None if it is unknown."""
        is_unreadable = self.reason.startswith("contact.email:")
        return self.email or (None if is_unreadable else self.domain)


class Ended(msgspec.Struct):
    """The records of a key in one run that need no signal, and those that failed.

    Attributes:
        read_person: Returns the person of other columns, by the mapping of today.
        people: Their people -> the newest bookmark value of those without a signal.
        failed: The people of those that have a dead letter.
        is_repeated: Whether the signal of the last state stands for one of them.
    """

    people: dict[bytes | None, str | None] = msgspec.field(default_factory=dict)
    failed: set[bytes | None] = msgspec.field(default_factory=set)
    is_repeated: bool = False
    read_person: Callable[[dict[str, Any]], bytes | None] | None = None

    def person_of(self, of: _DeadLetter) -> bytes | None:
        """Return the person of a dead letter. Its mapping may have been corrected."""
        if not of.record or self.read_person is None:
            return of.person
        return self.read_person(json_value(of.record))

    def add(self, person: bytes | None, value: str | None) -> None:
        """Note a record without a signal, and its bookmark value."""
        before = self.people.get(person)
        self.people[person] = before if is_before(value, before) else value


class Closing:
    """Closes the dead letters of records that a run filters, as these are old states.

    So are the `invalid` ones whose row returned to the state that was sent last.

    Args:
        in_flight: The entities of signals that may become dead letters.

    Attributes:
        invalid: The keys that had `invalid` dead letters before the run.
    """

    def __init__(self, ledger: Ledger, in_flight: Container[object]) -> None:
        self._ledger, self._in_flight = ledger, in_flight
        of = dead_letters.c
        columns = of.id, of.attempts, of.entity, of.mapping, of.outcome
        rows = ledger.rows(lookup.in_scope(ledger.scope, dead_letters, *columns))
        self._before = {(row.id, row.attempts) for row in rows}
        self._keys = {(row.entity, row.mapping) for row in rows}
        self.invalid = {
            (row.entity, row.mapping) for row in rows if row.outcome == Outcome.INVALID
        }
        self._ended: defaultdict[Key, Ended] = defaultdict(Ended)

    def may_close(self, key: Key) -> bool:
        """Return whether a record may have a dead letter by the end of the run."""
        return key in self._keys or key in self._ended or key[0] in self._in_flight

    def of(self, key: Key) -> Ended:
        """Return the records of a key so far, to add others."""
        return self._ended[key]

    def close(self) -> None:
        """Close the dead letters at the end of the run."""
        ended = {key: its for key, its in self._ended.items() if its.people}
        if not ended:
            return
        with self._ledger.transaction() as transaction:
            found = _of_keys(transaction, ended)
            latest = lookup.latest_of(transaction.connection, ended)
            for key, its in ended.items():
                failed = (
                    of for of in found[key] if (of.id, of.attempts) not in self._before
                )
                its.failed |= {its.person_of(of) for of in failed}
            old = [
                (of.id,)
                for key, its in ended.items()
                for of in found[key]
                if _ends_without_signal(of, its, latest.get(key))
            ]
            transaction.execute(_DELETE, old)


def close_with_signals(
    transaction: Transaction, accepted: Collection[SettledVersion]
) -> None:
    """Delete the dead letters that end with accepted signals."""
    found = _of_keys(transaction, [item.version.record_key for item in accepted])
    ended = [
        (of.id,)
        for item in accepted
        for of in found[item.version.record_key]
        if _ends_with_signal(of, item)
    ]
    transaction.execute(_DELETE, ended)


def _of_keys(
    transaction: Transaction, keys: Collection[Key]
) -> defaultdict[Key, list[_DeadLetter]]:
    """Return the dead letters of the records with some keys."""
    found: defaultdict[Key, list[_DeadLetter]] = defaultdict(list)
    of, columns = dead_letters.c.entity, ("entity", "mapping", *_COLUMNS)
    entities = {entity for entity, _ in keys}
    for entity, mapping, *row in lookup.rows_in(
        transaction.connection, of, columns, entities
    ):
        its = dict(zip(_COLUMNS, row, strict=True))
        found[entity, mapping].append(_DeadLetter(**its))
    return found


def _ends_with_signal(of: _DeadLetter, item: SettledVersion) -> bool:
    """Return whether a dead letter of a record ends with an accepted signal of it."""
    version = item.version
    if of.state_digest == version.state_digest:
        return True
    if of.outcome == Outcome.UNKNOWN or differ(of, version):
        return False
    is_same = of.person is not None and of.person == (version.email or version.domain)
    if version.key != version.record_key and not is_same:
        return False  # several people share the key
    if item.is_once:
        return is_same or of.read_order < version.read_order
    return is_replaced(of, version)


def _ends_without_signal(of: _DeadLetter, ended: Ended, latest: Latest | None) -> bool:
    """Return whether a dead letter is of an older state than a filtered record's.

    Other people who share the key keep their dead letters. Without an order, a dead
    letter stays if the run has a failed record of its key and person, because both may
    have several rows.
    """
    person, value, people = ended.person_of(of), of.bookmark_value, ended.people
    is_shared = latest is not None and (latest.is_shared or latest.is_several)
    is_its = person in people
    if of.outcome == Outcome.UNKNOWN:
        return False  # a person decides
    if is_shared and not (is_its and person is not None):
        return False  # it may be of another row
    if not (is_its or person is None or None in people):
        return False  # it is of another person
    newest = [people[person]] if is_its else [*people.values()]
    if any(is_before(one, value) for one in newest):
        return False  # it is of a later state
    is_ordered = all(are_ordered(value, one) for one in newest)
    if is_ordered and (is_its or is_log_position(value)) and not ended.is_repeated:
        return True
    failed = ended.failed
    return not failed if person is None else failed.isdisjoint({person, None})
