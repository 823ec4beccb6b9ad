"""History: what the runs of the last weeks did, as the ledger has it, added up."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.dedup.rules import Outcome
from target_stairoids.ledger import queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from target_stairoids.ledger.ledger import Ledger

#: What a reader of these sums must know.
COUNTED_BY_RUN = (
    "Each run counts what it reads: a record that is read again is counted again, "
    "unless it is pending."
)
#: Where a signal's type stands: the ledger does not hold it, and its run never ended.
UNTOLD = "type not told"


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it said itself when it ended.

    One that has not ended said nothing: what it settled is counted from the ledger, and
    all else is None.

    Attributes:
        ending: `exit 0`, or why there is none: it lives, or it was killed.
        outcomes: Outcome -> signals; those that happened.
        recovered: The same of signals that killed runs left to it; in no sum.
        streams: Stream -> its part of the outcomes.
        types: Signal type -> how many of it were accepted.
        reasons: `stream`, `outcome`, `reason` and `count` of what was not accepted.
        requests_per_minute: The quota it knew; None if it knew none.
    """

    run: int
    started_at: str
    ending: str
    seconds: float | None = None
    read: int | None = None
    outcomes: dict[str, int] = {}
    recovered: dict[str, int] = {}
    unanswered: dict[str, int] = {}
    streams: dict[str, dict[str, int]] = {}
    types: dict[str, int] = {}
    reasons: list[dict[str, Any]] = []
    requests: int | None = None
    requests_per_minute: int | None = None

    @property
    def quota_seconds(self) -> float | None:
        """How long its requests take at the quota's pace."""
        if self.requests is None:
            return None
        if not self.requests_per_minute:
            return 0.0
        return self.requests * 60 / self.requests_per_minute


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What the runs that began on one day (UTC) did together."""

    day: str
    runs: int
    types: dict[str, int]
    outcomes: dict[str, int]
    minutes: float
    quota_minutes: float


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of the last days.

    Attributes:
        days: Every day of them, also those without a run.
        types: Signal type -> how many of it were accepted.
        outcomes: Of all runs together; pending is what the newest run of each stream
            that ended left, because the one before it left the same.
        recovered: What became of the signals that killed runs left.
        unanswered: Requests that got no clear response, and what became of them.
        reasons: Why signals were not accepted, the most frequent first.
        dead_letters: How many there are now.
        oldest_dead_letter: Since when the oldest is there; None without any.
    """

    ledger: str
    since: str
    until: str
    runs: list[PastRun]
    days: list[Day]
    types: dict[str, int]
    outcomes: dict[str, int]
    recovered: dict[str, int]
    unanswered: dict[str, int]
    reasons: list[dict[str, Any]]
    dead_letters: int
    oldest_dead_letter: str | None


def past_runs(ledger: Ledger, *, days: int) -> History:
    """Return what a ledger remembers of the runs of the last days."""
    until = datetime.now(UTC)
    first = (until - timedelta(days=days - 1)).date()
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    rows = queries.runs_since(ledger, since)
    settled = queries.settled_by(
        ledger, [row.run for row in rows if row.exit_code is None]
    )
    runs = [_past_run(row, ledger, settled.get(row.run, {})) for row in rows]
    letters = queries.dead_letters_of(ledger)
    return History(
        ledger=ledger.name,
        since=since.date().isoformat(),
        until=until.date().isoformat(),
        runs=runs,
        days=[_day((first + timedelta(days=n)).isoformat(), runs) for n in range(days)],
        types=_sum(run.types for run in runs),
        outcomes=_outcomes(runs),
        recovered=_sum(run.recovered for run in runs),
        unanswered=_sum(run.unanswered for run in runs),
        reasons=_reasons(runs),
        dead_letters=len(letters),
        oldest_dead_letter=letters[0].first_at if letters else None,
    )


def _past_run(
    row: Any,  # noqa: ANN401 - a row of `runs`
    ledger: Ledger,
    settled: dict[str, int],
) -> PastRun:
    if row.exit_code is None:
        accepted = settled.get(Outcome.ACCEPTED, 0)
        return PastRun(
            run=row.run,
            started_at=row.started_at,
            ending="is running" if ledger.lives(row.run) else "was killed",
            outcomes=settled,
            types={UNTOLD: accepted} if accepted else {},
        )
    said = json.loads(row.report)
    said["outcomes"] = {name: n for name, n in said["outcomes"].items() if n}
    said |= {"run": row.run, "started_at": row.started_at}
    return msgspec.convert(said | {"ending": f"exit {row.exit_code}"}, PastRun)


def _day(day: str, runs: Sequence[PastRun]) -> Day:
    of_it = [run for run in runs if run.started_at[:10] == day]
    return Day(
        day=day,
        runs=len(of_it),
        types=_sum(run.types for run in of_it),
        outcomes=_outcomes(of_it),
        minutes=sum(run.seconds or 0 for run in of_it) / 60,
        quota_minutes=sum(run.quota_seconds or 0 for run in of_it) / 60,
    )


def _outcomes(runs: Sequence[PastRun]) -> dict[str, int]:
    total = _sum(run.outcomes for run in runs)
    if Outcome.PENDING in total:
        pending = (run.streams[stream] for stream, run in _newest(runs).items())
        total[Outcome.PENDING] = sum(said.get(Outcome.PENDING, 0) for said in pending)
    by_count = sorted(total.items(), key=lambda item: -item[1])
    return {str(name): count for name, count in by_count if count}


def _newest(runs: Iterable[PastRun]) -> dict[str, PastRun]:
    """Return stream -> the newest run that told what became of it."""
    return {stream: run for run in runs for stream in run.streams}


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


def _reasons(runs: Sequence[PastRun]) -> list[dict[str, Any]]:
    total: Counter[tuple[str, str, str]] = Counter()
    newest = _newest(runs)
    for run in runs:
        for said in run.reasons:
            is_newest = newest[said["stream"]].run == run.run
            if said["outcome"] == Outcome.PENDING and not is_newest:
                continue  # pending no more, or told again by a later run
            total[said["stream"], said["outcome"], said["reason"]] += said["count"]
    return [
        {"stream": stream, "outcome": outcome, "reason": reason, "count": count}
        for (stream, outcome, reason), count in total.most_common()
    ]
