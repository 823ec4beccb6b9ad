"""Find accepted signals by the filters of ``GET /v1/signals``, newest first.

The newest signal is the one accepted last. A cursor is the sequence of the last signal
on a page, so new signals do not shift the pages.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from stairoids_sandbox.state.models import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalQuery:
    """Filters of a list. None matches every signal.

    Attributes:
        since: Earliest ``occurred_at``.
        until: Latest ``occurred_at``.
        before: Only signals with a lower sequence.
        accepted_until: Latest ``created_at``.
        limit: The most signals to return.
    """

    workspace: str | None = None
    account_domain: str | None = None
    contact_email: str | None = None
    type: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    accepted_until: datetime | None = None
    limit: int = 50

    def keys(self) -> set[tuple[str, str]]:
        """Return the index keys that a signal must have."""
        filters = {
            "workspace": self.workspace,
            "domain": self.account_domain,
            "email": self.contact_email,
            "type": self.type,
            "source": self.source,
        }
        return {(name, value) for name, value in filters.items() if value is not None}

    def matches_time(self, signal: Signal) -> bool:
        """Return whether a signal occurred, and was accepted, when it is wanted."""
        since, until, accepted_until = self.since, self.until, self.accepted_until
        return (
            (since is None or signal.occurred_at >= since)
            and (until is None or signal.occurred_at <= until)
            and (accepted_until is None or signal.created_at <= accepted_until)
        )


class SignalIndex:
    """Signals in order of acceptance, and by domain, email, type and source."""

    def __init__(self) -> None:
        self._all: list[Signal] = []
        self._by_id: dict[str, Signal] = {}
        self._lists: dict[tuple[str, str], list[Signal]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, signal: Signal) -> None:
        """Add the signal with the next sequence."""
        self._all.append(signal)
        self._by_id[signal.id] = signal
        for key in _keys_of(signal):
            self._lists.setdefault(key, []).append(signal)

    def all(self) -> list[Signal]:
        """Return a copy of all signals in order of acceptance."""
        return self._all.copy()

    def get(self, signal_id: str) -> Signal | None:
        """Return the signal with an id."""
        return self._by_id.get(signal_id)

    def types(self) -> list[str]:
        """Return the types of the signals, in order of their first signal."""
        return [value for name, value in self._lists if name == "type"]

    def find(self, query: SignalQuery) -> list[Signal]:
        """Return one page, newest first. The shortest matching list is searched."""
        keys = query.keys()
        lists = [self._lists.get(key, []) for key in keys]
        searched = min(lists, key=len, default=self._all)
        end = len(searched)
        if query.before is not None:
            end = bisect_left(searched, query.before, key=attrgetter("sequence"))
        found = (
            signal
            for signal in (searched[place] for place in range(end - 1, -1, -1))
            if keys.issubset(_keys_of(signal)) and query.matches_time(signal)
        )
        return list(islice(found, query.limit))


def _keys_of(signal: Signal) -> list[tuple[str, str]]:
    keys = [("workspace", signal.workspace), ("type", signal.type)]
    if signal.source is not None:
        keys.append(("source", signal.source))
    if signal.account is not None and signal.account.domain is not None:
        keys.append(("domain", signal.account.domain))
    if signal.contact is not None:
        keys.append(("email", signal.contact.email))
    return keys
