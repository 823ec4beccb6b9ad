"""Erase the bodies of events about one person.

An erased event keeps its sequence, its type and its digests. So a redelivery of the
event is recognised, and does not store the body again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.schema import EVENTS
from tap_stairoids_webhooks.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person, recognised by an email address, by a contact id, or by both.

    Attributes:
        email: Matches anywhere in a text, in upper or lower case, but not as a part
            of a longer address.
        contact_id: Matches a whole value.
    """

    email: str | None = field(default=None, repr=False)
    contact_id: str | None = None

    def is_in(self, body: bytes) -> bool:
        """Return whether a body names this person, even a body that does not parse."""
        pattern = self._pattern
        try:
            texts = _texts_in(payload_from(body))
        except MalformedBodyError:
            text = body.decode("utf-8", "replace")
            quoted = self.contact_id is not None and f'"{self.contact_id}"' in text
            return quoted or bool(pattern and pattern.search(text))
        return any(
            text == self.contact_id or bool(pattern and pattern.search(text))
            for text in texts
        )

    @property
    def _pattern(self) -> re.Pattern[str] | None:
        if not self.email:
            return None
        address = re.escape(self.email.strip())
        return re.compile(rf"(?<![\w.+-]){address}(?![\w-])(?!\.\w)", re.IGNORECASE)


def erase(url: str, person: Person, *, dry_run: bool = False) -> int:
    """Erase body, signature and headers of the events about a person.

    On return the bodies are neither in the tables nor in SQLite's write-ahead log. The
    events are found through a read-only connection, so that the receiver waits for
    short transactions only. It is safe to repeat.

    Args:
        url: The store.
        person: The person.
        dry_run: Erase nothing, and return the number of an erasure.

    Returns:
        Number of events that were erased.

    Raises:
        StoreError: The store cannot be used, or its log cannot be emptied. Repeat it.
    """
    erased = 0
    with EventStore.open(url) as store:
        with EventStore.open_read_only(url) as reader:
            sequence, upper = 0, reader.last_sequence()
            while page := reader.read_after(
                sequence, upper=upper, selected=EventFilter()
            ):
                if found := [e.sequence for e in page if person.is_in(e.body)]:
                    erased += len(found) if dry_run else _empty(store, found)
                sequence = page[-1].sequence
        if not dry_run:
            store.scrub()
    return erased


def _empty(store: EventStore, sequences: list[int]) -> int:
    with store.transaction("cannot be erased from", lock=True) as connection:
        done = connection.execute(
            sa.update(EVENTS)
            .where(EVENTS.c.sequence.in_(sequences))
            .values(body=b"", signature="", headers="{}", erased_at=timestamp())
        )
        return done.rowcount


def _texts_in(payload: object) -> Iterator[str]:
    """Yield the keys and values at any depth, numbers as their text."""
    level = [payload]
    while level:
        below: list[object] = []
        for value in level:
            match value:
                case dict():
                    below += value.keys()
                    below += value.values()
                case list():
                    below += value
                case None | bool():
                    pass
                case _:
                    yield str(value)
        level = below
