"""Compare the ledger with the signals of Stairoids, and write nothing.

A comparison raises `StairoidsError` if Stairoids cannot be read.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import msgspec

from stairoids_common.retry import pause_before
from stairoids_common.time import timestamp
from target_stairoids.api.client import (
    UNDECIDED,
    Client,
    Response,
    ResponseKind,
    refusal,
)
from target_stairoids.api.rate_limiter import RateLimiter
from target_stairoids.api.retry import LONGEST_RETRY_AFTER
from target_stairoids.api.signal_lookup import (
    Pages,
    listed,
    moment_of,
    query_for,
)
from target_stairoids.checks import first_run
from target_stairoids.exceptions import IncompleteError, SetAsideError, StairoidsError
from target_stairoids.ledger import lookup, queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.settings import Settings

_TRIES = 5
_YOUNG = timedelta(minutes=1)  # of a run that is at work, or not listed yet
_MARGIN = timedelta(days=1)  # between the clocks of the ledger and of Stairoids


def comparison(
    settings: Settings, pairs: Collection[first_run.Pair]
) -> StairoidsError | None:
    """Return why a run with these pairs would stop or hold signals back, if it would.

    The comparison is incomplete if Stairoids cannot be read.
    """
    url, scope = settings.ledger_url, settings.scope
    with (
        Ledger.open_read_only(url, scope, missing_ok=True) as ledger,
        closing(Client.of(settings)) as client,
    ):
        is_known = queries.knows_key(ledger, ledger.key_digest(settings.api_key))
        must_read = settings.first_run == "guard"
        ids = [] if is_known else queries.newest_signals(ledger)
        if error := first_run.key_error(
            map(client.read_signal, ids), settings.api_url, must_read=must_read
        ):
            return error
        is_on = settings.first_run != "send"
        check = first_run.FirstRunCheck(is_on, queries.sources_of_others(ledger))
        for pair in sorted(pairs):
            while check.is_on and (query := check.question(pair)) is not None:
                response = client.list_signals(query)
                if response.kind in UNDECIDED:
                    return _unread(response)
                is_trusted = is_known or not must_read
                if error := first_run.list_error(
                    response, settings.api_url, is_trusted=is_trusted
                ):
                    return error
                if response.kind is not ResponseKind.ACCEPTED:
                    return None
                with ledger.reading() as connection:
                    facts = lookup.facts(connection, scope, first_run.ids_in(response))
                    check.learn(query, response, facts, pairs)
        is_refused = check.refused and must_read
        text = first_run.held_back_reason(check.refused) if is_refused else ""
        return SetAsideError(text) if is_refused else None


def _unread(response: Response) -> IncompleteError:
    return IncompleteError(
        f"The signals of Stairoids cannot be read: {response.reason}. Run again."
    )


def literal_pairs(settings: Settings) -> set[first_run.Pair]:
    """Return source and type of the mappings that name them without a template."""
    pairs = set()
    for item in settings.signals:
        if item.type is None or item.suppress:
            continue
        type_ = item.type if isinstance(item.type, str) else item.stream
        source = item.source or settings.default_source
        if not any(mark in f"{source}{type_}" for mark in "{*?["):
            pairs.add((source, type_))
    return pairs


class Reconciled(msgspec.Struct, frozen=True):
    """The ids that only one side has, and the sources of other producers too."""

    since: str
    until: str
    in_ledger: int
    there: int
    missing: list[str]
    unknown: list[str]
    not_compared: list[str]


def reconcile(settings: Settings, ledger: Ledger, *, days: int) -> Reconciled:
    """Compare both sides over the last days, without the last minute.

    The days and the minute are those of both clocks, ours and that of Stairoids.
    """
    now = datetime.now(UTC)
    clocks = [now]
    since, pairs = now - timedelta(days=days), queries.sent_pairs(ledger)
    ours = queries.accepted_since(ledger, timestamp(since - _MARGIN))
    sources = {source for source, _ in pairs or literal_pairs(settings)}
    if not pairs:  # a new or lost ledger: then each signal there is unknown
        sources.add(settings.default_source)
    others = queries.sources_of_others(ledger)
    listed_ids: set[str] = set()
    there: dict[str, bool] = {}  # whether the ledger knows it
    with closing(Client.of(settings)) as client:
        limiter = RateLimiter(settings.requests_per_minute)
        for source in sorted(sources):
            for response in _pages(client, limiter, source):
                until = response.server_time or now
                clocks.append(until)
                first, last = until - timedelta(days=days), until - _YOUNG
                page, ids = listed(response) or [], first_run.ids_in(response)
                listed_ids.update(ids)
                with ledger.reading() as connection:
                    facts = lookup.facts(connection, settings.scope, ids)
                    known = {*facts.own, *facts.sent(ids)}
                times = [moment_of(signal.get("created_at")) for signal in page]
                for signal, at in zip(page, times, strict=True):
                    pair = source, str(signal.get("type"))
                    is_due = at is None or first <= at < last
                    is_ours = (pair in pairs or not pairs) and source not in others
                    if is_ours and is_due:
                        found = str(signal.get("id"))
                        there[found] = found in known
                if times and times[-1] is not None and times[-1] < first - _MARGIN:
                    break
    begin = timestamp(max(clocks) - timedelta(days=days))
    end = timestamp(min(clocks) - _YOUNG)
    accepted = [found for found, at in ours.items() if begin <= at < end]
    return Reconciled(
        since=begin,
        until=end,
        in_ledger=len(accepted),
        there=len(there),
        missing=[found for found in accepted if found not in listed_ids],
        unknown=[found for found, is_known in there.items() if not is_known],
        not_compared=sorted(others & sources),
    )


def _pages(client: Client, limiter: RateLimiter, source: str) -> Iterator[Response]:
    """Yield the pages of a source's signals, the newest first."""
    cursor: str | None = None
    pages = Pages()
    while True:
        response = _page(client, limiter, source, cursor)
        yield response
        if (cursor := pages.follow(response)) is None:
            return


def _page(
    client: Client, limiter: RateLimiter, source: str, cursor: str | None
) -> Response:
    """Read one page at the rate limit, and try again after failures."""
    for attempt in range(2, 2 + _TRIES):
        time.sleep(limiter.wait(time.monotonic()) or 0.0)
        limiter.start()
        response = client.list_signals(query_for(source, cursor))
        limiter.responded(response, time.monotonic())
        if response.kind not in UNDECIDED:
            break
        pause = response.retry_after or pause_before(attempt)
        if pause > LONGEST_RETRY_AFTER:
            break  # the quota of the day is spent
        limiter.hold(pause, time.monotonic())
    if response.kind in UNDECIDED:
        raise _unread(response)
    if response.kind is not ResponseKind.ACCEPTED or listed(response) is None:
        raise refusal(response, client.api_url)
    return response
