"""The index: every accepted signal, found by what ``GET /v1/signals`` filters on.

Newest first means: accepted last comes first. A cursor is the place of the last
signal on a page, so signals accepted meanwhile move nothing between pages.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from stairoids_sandbox.state.models import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalQuery:
    """What to list; None filters nothing.

    Attributes:
        since: First ``occurred_at`` to list.
        until: Last ``occurred_at`` to list.
        before: List only signals accepted before this sequence.
        limit: How many at most.
    """

    account_domain: str | None = None
    contact_email: str | None = None
    type: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 50

    def keys(self) -> list[tuple[str, str]]:
        """Name the lists that hold every signal this asks for."""
        filters = (
            ("domain", self.account_domain),
            ("email", self.contact_email),
            ("type", self.type),
            ("source", self.source),
        )
        return [(name, value) for name, value in filters if value is not None]

    def accepts(self, signal: Signal) -> bool:
        """Say whether a signal fits every filter."""
        return (
            (self.type is None or signal.type == self.type)
            and (self.source is None or signal.source == self.source)
            and (
                self.account_domain is None
                or (
                    signal.account is not None
                    and signal.account.domain == self.account_domain
                )
            )
            and (
                self.contact_email is None
                or (
                    signal.contact is not None
                    and signal.contact.email == self.contact_email
                )
            )
            and (self.since is None or signal.occurred_at >= self.since)
            and (self.until is None or signal.occurred_at <= self.until)
        )


class SignalIndex:
    """Signals in order of acceptance, and by domain, e-mail, type and source."""

    def __init__(self) -> None:
        self._all: list[Signal] = []
        self._by_id: dict[str, Signal] = {}
        self._lists: dict[tuple[str, str], list[Signal]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, signal: Signal) -> None:
        """Take in the next signal; its sequence follows the last one's."""
        self._all.append(signal)
        self._by_id[signal.id] = signal
        for key in _keys_of(signal):
            self._lists.setdefault(key, []).append(signal)

    def all(self) -> list[Signal]:
        """Copy every signal, in order of acceptance."""
        return self._all.copy()

    def get(self, signal_id: str) -> Signal | None:
        """Find a signal by its id."""
        return self._by_id.get(signal_id)

    def find(self, query: SignalQuery) -> list[Signal]:
        """List one page, newest first."""
        lists = [self._lists.get(key, []) for key in query.keys()]  # noqa: SIM118 -- not a dictionary's keys
        candidates = min(lists, key=len, default=self._all)
        end = len(candidates)
        if query.before is not None:
            end = bisect_left(candidates, query.before, key=_sequence)
        page: list[Signal] = []
        for place in range(end - 1, -1, -1):
            signal = candidates[place]
            if query.accepts(signal):
                page.append(signal)
                if len(page) == query.limit:
                    break
        return page


def _sequence(signal: Signal) -> int:
    return signal.sequence


def _keys_of(signal: Signal) -> list[tuple[str, str]]:
    keys = [("type", signal.type)]
    if signal.source is not None:
        keys.append(("source", signal.source))
    if signal.account is not None:
        keys.append(("domain", signal.account.domain))
    if signal.contact is not None:
        keys.append(("email", signal.contact.email))
    return keys
