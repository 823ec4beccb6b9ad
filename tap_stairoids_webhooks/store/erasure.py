"""Erase the bodies of events about one person.

An erased event keeps its sequence, its type and its digests. So a redelivery of the
event is recognised, and does not store the body again.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, unquote_plus

import sqlalchemy as sa

from stairoids_common.text import spellings_of
from stairoids_common.time import timestamp
from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.schema import (
    ERASURES,
    EVENTS,
    FORWARDS,
    copy_into,
)
from tap_stairoids_webhooks.store.store import EventStore

_MAX_ENCODINGS = 4  # one inside the other
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})|=([0-9A-F]{2})|\\+x([0-9a-fA-F]{2})")
_DECODERS: tuple[Callable[[str], str], ...] = (
    unquote,
    unquote_plus,
    html.unescape,
    lambda text: _ESCAPE.sub(lambda m: chr(int(m[1] or m[2] or m[3], 16)), text),
)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person, recognised by an email address, by a contact id, or by both.

    Attributes:
        email: Matches anywhere in a text, in upper or lower case, but not as a part
            of a longer address. Texts with JSON, and with the escapes of URLs, HTML,
            JSON and mails, are decoded.
        contact_id: Matches a whole value.
    """

    email: str | None = field(default=None, repr=False)
    contact_id: str | None = None

    def is_in(self, body: bytes) -> bool:
        """Return whether a body names this person, even a body that does not parse."""
        try:
            texts = _texts_in(payload_from(body))
        except MalformedBodyError:
            text = body.replace(b"\0", b"").decode("utf-8", "replace")
            if self.contact_id is not None and f'"{self.contact_id}"' in text:
                return True
            texts = iter([text])
        return any(
            text == self.contact_id or (self._pattern and self._is_address_in(text))
            for text in texts
        )

    def _is_address_in(self, text: str) -> bool:
        """Return whether a text has the address, also in an encoded form."""
        pattern, forms = self._pattern, {text}
        for _ in range(_MAX_ENCODINGS):
            if pattern is None or any(pattern.search(_plain(form)) for form in forms):
                return pattern is not None
            decoded = {decode(form) for form in forms for decode in _DECODERS}
            if decoded <= forms:
                return False
            forms |= decoded
        return False

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        if not (self.email and self.email.strip()):
            return None
        # Text in Chinese or Thai has no space before an address. Characters of scripts
        # that are used in addresses belong to a longer address.
        part = r"[^\W\u0530-\U0010ffff]"
        forms = "|".join(re.escape(_plain(form)) for form in spellings_of(self.email))
        return re.compile(rf"(?<!{part})(?<![.+-])(?:{forms})(?!{part}|-)(?!\.{part})")


def erase(url: str, person: Person, *, dry_run: bool = False) -> int:
    """Erase the events about a person, and return their number.

    On return the bodies are neither in the tables, nor in the files of PostgreSQL's
    tables, nor in SQLite's write-ahead log. The events are found through a read-only
    connection, so that the receiver waits for short transactions only. In PostgreSQL it
    also waits while the table is written again. Call it again after an error.
    """
    erased = 0
    with EventStore.open(url) as store, EventStore.open_read_only(url) as reader:
        sequence, upper = 0, reader.last_sequence()
        while page := reader.read_after(sequence, upper=upper, selected=EventFilter()):
            if found := [e.sequence for e in page if person.is_in(e.body)]:
                erased += len(found) if dry_run else _empty(store, found)
            sequence = page[-1].sequence
    if not dry_run:  # a connection of ours would be in the way
        store.database.scrub()
    return erased


def _empty(store: EventStore, sequences: list[int]) -> int:
    with store.transaction("cannot be erased from", lock=True) as connection:
        # Another command may have erased some of them meanwhile.
        now, is_left = timestamp(), EVENTS.c.erased_at.is_(None)
        found = sa.and_(EVENTS.c.sequence.in_(sequences), is_left)
        connection.execute(copy_into(ERASURES, found, now))
        in_queue = FORWARDS.c.sequence.in_(sequences)
        connection.execute(sa.delete(FORWARDS).where(in_queue))
        done = connection.execute(
            sa.update(EVENTS)
            .where(found)
            .values(body=b"", signature="", headers="{}", erased_at=now)
        )
        return done.rowcount


def _plain(text: str) -> str:
    """Return a text with one form of each character, in lower case."""
    return unicodedata.normalize("NFKC", text).casefold()


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
                case str() if value.lstrip()[:1] in {"{", "[", '"'}:
                    yield value
                    with suppress(ValueError, RecursionError):
                        below.append(json.loads(value, parse_int=str))
                case _:
                    yield str(value)
        level = below
