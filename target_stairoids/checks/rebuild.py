"""Compare the signals of a run with those that Stairoids has, to rebuild a ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from typing_extensions import override

from target_stairoids.api.client import Response
from target_stairoids.api.signal_lookup import (
    REPEATED,
    ListedSignals,
    end_of,
    is_repeated,
    listed,
    next_cursor,
    query_for,
)
from target_stairoids.checks.first_run import FirstRunCheck, Pair, Query
from target_stairoids.exceptions import IncompleteError
from target_stairoids.ledger.structs import Facts

#: The reasons of signals that are not settled as accepted.
NOT_THERE = "Stairoids does not have it"
SIMILAR = "Stairoids has a similar signal, which may be this one"


@dataclass(eq=False)
class LedgerRebuild(FirstRunCheck):
    """Reads all of Stairoids' signals of a source before it decides on one of them."""

    signals: ListedSignals = field(default_factory=ListedSignals)  # not in the ledger
    _next: dict[str, str | None] = field(default_factory=dict)
    _cursors: set[tuple[str, str | None]] = field(default_factory=set)
    _ends: defaultdict[str, Counter[str]] = field(
        default_factory=partial(defaultdict, Counter)
    )

    @override
    def question(self, pair: Pair) -> Query | None:
        cursor = self._next.get(pair[0], "")
        return None if cursor is None else query_for(pair[0], cursor or None)

    @override
    def learn(
        self, query: Query, response: Response, facts: Facts, pairs: Collection[Pair]
    ) -> set[Pair]:
        source, cursor = str(query["source"]), next_cursor(response)
        page = listed(response) or []
        self.signals.add(page, facts.own)
        end, before = end_of(page), self._ends[source]
        if (source, cursor) in self._cursors or (cursor and is_repeated(end, before)):
            self.failure = IncompleteError(REPEATED)
            return set()
        self._next[source] = cursor
        self._cursors.add((source, cursor))
        before[end] += 1
        return set()
