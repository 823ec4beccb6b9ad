"""The first-run check: the ledger must fit the signals that Stairoids already has.

A ledger that is new, lost or an old copy would let everything be sent again. So each
run compares the newest signals of a source with the ledger before its first claim. A
run with a new API key first looks for signals of the ledger in the key's workspace.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from typing_extensions import override

from stairoids_common.text import as_code, shell_command
from stairoids_common.time import timestamp
from target_stairoids.api import client
from target_stairoids.api.client import UNDECIDED, Response, ResponseKind, is_other_api
from target_stairoids.api.signal_lookup import (
    FINEST_TIME,
    PAGE,
    Json,
    ListedSignals,
    Pages,
    alike,
    listed,
    moment_of,
    next_cursor,
    query_for,
)
from target_stairoids.exceptions import (
    AccessRefusedError,
    ConfigError,
    IncompleteError,
    StairoidsError,
)
from target_stairoids.ledger.structs import Known, ListFacts

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
Query = dict[str, str | int]
#: The reason of signals that wait for a person's decision.
HELD_BACK = "Stairoids has signals of this source that the ledger does not know"
NOT_CHECKED = (
    "not made. Stairoids may have signals that the ledger does not know. Add "
    "`--online` to compare them."
)
#: The response to a question that is not asked.
NO_REQUEST = Response(
    kind=ResponseKind.NOT_SENT, failure="no request (`requests_per_day` is reached)"
)
#: The reasons of signals that are not settled as accepted.
NOT_THERE = "Stairoids does not have it"
SIMILAR = "Stairoids has a similar signal, which may be this one"
MAX_SOURCES = 10  # questions: one for each source, and the last for all others
_MAX_REQUESTS = 4  # for each source
_DECIDE = (
    "set `first_run` for one run to `send` (send all) or `baseline` (remember all "
    "records, send only later ones)"
)


@dataclass(slots=True)
class _Compared:
    """The pairs of the signals that Stairoids listed, and those not in the ledger."""

    requests: int = 0
    unknown: set[Pair] = field(default_factory=set)
    listed: set[Pair] = field(default_factory=set)
    is_complete: bool = False


@dataclass(eq=False)
class FirstRunCheck:
    """Names the question to ask before a claim, and the sources to hold back.

    Attributes:
        refused: Sources that a person must decide on.
        signals: Of a rebuild, Stairoids' signals that are not in the ledger.
    """

    is_on: bool
    others: Collection[str]
    refused: set[str] = field(default_factory=set)
    failure: IncompleteError | None = None
    signals: ListedSignals = field(default_factory=ListedSignals)
    _compared: dict[str, _Compared] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def question(self, pair: Pair) -> Query | None:
        """Return the query to make before a signal is claimed; None if it may be.

        Only the first nine sources have a query each. One more is for all others.
        """
        source, type_ = pair
        if not self.is_on or source in self.refused:
            return None
        if source in self.others:
            if source not in self._warned:
                self._warned.add(source)
                logger.warning(
                    "Other producers send signals of source `%s` as well (`ledger "
                    "allow`). So the target does not compare them with the ledger.",
                    source,
                )
            return None
        name = source if source in self._compared else ""
        compared = self._compared.get(name)
        if compared is None:
            has_room = len(self._compared) < MAX_SOURCES - 1
            return {"source": source, "limit": PAGE} if has_room else {"limit": PAGE}
        if pair in compared.unknown:
            self.refused.add(source)
            return None
        if (
            compared.is_complete
            or pair in compared.listed
            or not name
            or compared.requests >= _MAX_REQUESTS
        ):
            return None
        return {"source": source, "type": type_, "limit": PAGE}

    def learn(
        self,
        query: Query,
        response: Response,
        facts: ListFacts,
        pairs: Collection[Pair],
    ) -> set[Pair]:
        """Learn from the response to a question.

        Return those of the waiting pairs whose signals are all accounted for.
        """
        page = listed(response) or []
        name = str(query.get("source", ""))
        compared = self._compared.setdefault(name, _Compared())
        compared.requests += 1
        compared.unknown |= unknown_in(page, name, facts)
        compared.listed |= {_pair_of(signal, name) for signal in page}
        compared.listed.add((name, str(query.get("type"))))
        is_last = len(page) < PAGE or not next_cursor(response)
        compared.is_complete |= "type" not in query and is_last
        compares = {pair for pair in pairs if pair[0] not in self.others}
        asked = {pair for pair in compares if name in {"", pair[0]}}
        self.refused |= {source for source, _ in asked & compared.unknown}
        seen = asked if compared.is_complete else asked & compared.listed
        return {pair for pair in seen if pair[0] not in self.refused}


@dataclass(eq=False)
class LedgerRebuild(FirstRunCheck):
    """Reads all of Stairoids' signals of a source before it decides on one of them."""

    _next: dict[str, str | None] = field(default_factory=dict)
    _pages: defaultdict[str, Pages] = field(default_factory=partial(defaultdict, Pages))

    @override
    def question(self, pair: Pair) -> Query | None:
        cursor = self._next.get(pair[0], "")
        return None if cursor is None else query_for(pair[0], cursor or None)

    @override
    def learn(
        self,
        query: Query,
        response: Response,
        facts: ListFacts,
        pairs: Collection[Pair],
    ) -> set[Pair]:
        source = str(query["source"])
        self.signals.add(listed(response) or [], facts.own)
        try:
            self._next[source] = self._pages[source].follow(response)
        except IncompleteError as error:
            self.failure = error
        return set()


def ids_in(response: Response) -> list[str]:
    """Return the ids of a list of signals."""
    return [found for s in listed(response) or () if (found := _id_of(s)) is not None]


def unknown_in(page: list[Json], source: str, facts: ListFacts) -> set[Pair]:
    """Return source and type of the signals on a page that the ledger cannot explain.

    The newest signal is the first. The source is empty if all sources were asked for.
    """
    behind: set[str | None] = {None}  # ids of this signal and of the newer ones
    left = []
    for signal in page:
        behind.add(_id_of(signal))
        known = facts.known.get(_pair_of(signal, source))
        is_old = known is not None and _is_old(signal, known, behind)
        if _id_of(signal) not in facts.own and not is_old:
            left.append(signal)
    if left:  # rare, because it is slow
        sent = facts.sent([found for s in left if (found := _id_of(s)) is not None])
        left = [signal for signal in left if _id_of(signal) not in sent]
    unclear = facts.unclear() if left else ()
    excused = {
        found
        for sent in unclear
        for found, is_equal in alike(sent, None, left).items()
        if is_equal
    }
    return {_pair_of(s, source) for s in left if _id_of(s) not in excused}


def _id_of(signal: Json) -> str | None:
    found = signal.get("id")
    return found if isinstance(found, str) else None


def _is_old(signal: Json, known: Known, behind: Collection[str | None]) -> bool:
    """Return whether a signal is older than the newest one that is accounted for.

    Within its second, the place on the page decides.
    """
    created_at, until = moment_of(signal.get("created_at")), moment_of(known.until)
    if created_at is None or until is None:
        return False
    is_behind = known.signal_id in behind
    return created_at < until + (FINEST_TIME if is_behind else timedelta())


def _pair_of(signal: Json, source: str) -> Pair:
    return str(signal.get("source") or source), str(signal.get("type"))


def newest_of(response: Response) -> Known:
    """Return the newest signal of a page. With it, all older ones are accounted for."""
    page = listed(response)
    newest = Known(timestamp(response.moment), None if page is None else "")
    times = [
        Known(timestamp(moment), _id_of(signal))
        for signal in page or ()
        if (moment := moment_of(signal.get("created_at"))) is not None
    ]
    return max(times, key=lambda known: known.until, default=newest)


# The reasons to stop


def held_back_reason(sources: Collection[str]) -> str:
    """Return why sources were held back, and the remedies."""
    names = ", ".join(map(as_code, sorted(sources)))
    allow = "stairoids-signals ledger allow"
    return (
        f"Stairoids has signals of source {names} that the ledger does not know. The "
        "ledger is new, lost or an old copy, or other producers send them, or you "
        "resolved one with `--resend`. Nothing of this source was sent. Restore the "
        "ledger (`ledger_url`), or run `stairoids-signals ledger rebuild MESSAGES` "
        "with an output of the tap, or "
        f"{_DECIDE}. If there are other producers, run "
        f"{shell_command(allow, options=['--source', min(sources)])}."
    )


def list_error(
    response: Response, url: str, *, is_trusted: bool
) -> StairoidsError | None:
    """Return why a run stops if the response to a question is no list of signals.

    A trusted key, such as one that was used before, may send without a comparison.
    """
    if response.kind is ResponseKind.ACCEPTED and listed(response) is not None:
        return None
    if response.kind in {ResponseKind.ACCEPTED, ResponseKind.FOREIGN} or not is_trusted:
        return _unreadable(response, url)
    logger.warning(
        "The API key may not read (%s). So the target cannot check whether the ledger "
        "fits the signals that Stairoids has.",
        response.reason,
    )
    return None


def key_error(
    responses: Iterable[Response], url: str, *, must_read: bool
) -> StairoidsError | None:
    """Return why a run stops because of its new API key.

    The responses are those to requests for signals of the ledger, one by one. With
    `must_read`, a key that may not read is refused.
    """
    response = None
    for response in responses:
        if response.kind is ResponseKind.ACCEPTED and response.signal_id:
            return None
        if response.kind in UNDECIDED:
            return IncompleteError(
                "The API key is new, and its workspace cannot be checked: "
                f"{response.reason}. No signals were lost. Run again."
            )
        if response.status != 404:
            error = _unreadable(response, url)
            is_refused = must_read or isinstance(error, AccessRefusedError)
            return error if is_refused else None
    if response is None:
        return None
    return ConfigError(
        "The API key belongs to another workspace than the ledger, because Stairoids "
        "has none of the last signals of the ledger. Nothing was sent. Use the ledger "
        "of this workspace (`ledger_url`), or set `namespace`. If they were deleted in "
        "Stairoids, run `stairoids-signals ledger allow --key`."
    )


def _unreadable(response: Response, url: str) -> StairoidsError:
    if response.status == 401 or is_other_api(response):
        return client.refusal(response, url)
    return ConfigError(
        f"The API key may not read ({response.reason}), and the ledger does not know "
        "the key. So the target cannot check whether signals were sent before. Nothing "
        "was sent. Use a key with the `read_write` scope and the right ledger "
        f"(`ledger_url`), or {_DECIDE}. To trust the key, run `stairoids-signals "
        "ledger allow --key`."
    )
