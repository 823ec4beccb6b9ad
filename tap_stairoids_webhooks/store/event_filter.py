"""Filters of stored events.

This module does not import SQLAlchemy, so that a tap can declare its streams quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

ALL = "*"
MALFORMED = "malformed"
TYPE_PREFIX = "event:"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which stored events to read.

    Attributes:
        types: Only events of these types. None for all, with and without a type.
        malformed: Only events whose body does not parse.
        since: Only events received at this time or later, written as `received_at`.
        erased: Whether to include events whose body was erased.
    """

    types: frozenset[str] | None = None
    malformed: bool = False
    since: str | None = None
    erased: bool = False

    def of_type(self, event: str) -> Self:
        """Return a filter of the events of one type that pass this filter."""
        types = {event} if self.types is None else self.types & {event}
        return replace(self, types=frozenset(types))

    @property
    def kinds(self) -> list[str]:
        """The kinds of events that pass, as the store remembers them per consumer.

        A kind is `*` (all), `malformed` or `event:` with a type.
        """
        if self.malformed:
            return [MALFORMED]
        if self.types is None:
            return [ALL]
        return [f"{TYPE_PREFIX}{event}" for event in sorted(self.types)]
