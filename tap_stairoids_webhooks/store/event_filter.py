"""Filters of stored events.

This module does not import SQLAlchemy, so that a tap can declare its streams quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

ALL = "*"
MALFORMED = "malformed"
TYPE_PREFIX = "event:"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which stored events to read.

    Attributes:
        types: Only these types. None for all events, with and without a type.
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

    def beyond(self, earlier: EventFilter) -> EventFilter | None:
        """Return a filter of the events that an earlier filter left out.

        It may select more than these events. None if there are no such events.
        """
        if earlier.since is not None and (self.since or "") < earlier.since:
            return self
        if earlier.types is None or self.types == earlier.types:
            return None
        if self.types is None:
            return self
        types = self.types - earlier.types
        return replace(self, types=types) if types else None

    def as_json(self) -> dict[str, Any]:
        """Return the choice of types and times, with the names of the settings."""
        types = None if self.types is None else sorted(self.types)
        return {"event_types": types, "since": self.since}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the choice that `as_json` wrote, and all events for anything else."""
        types, since = value.get("event_types"), value.get("since")
        return cls(
            types=frozenset(map(str, types)) if isinstance(types, list) else None,
            since=since if isinstance(since, str) else None,
        )

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
