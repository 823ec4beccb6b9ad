"""Read the runs of the last days from the ledger and add them up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from stairoids_common.error_ids import with_id
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import queries
from target_stairoids.ledger.dead_letters import dead_letters_of
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.reporting.next_steps import dead_letters_in
from target_stairoids.reporting.report import reasons_in
from target_stairoids.reporting.run_status import Quota, Status, quota_of, statuses_of

#: How to read the sums of several runs.
COUNTED_BY_RUN = (
    "Each run counts the records it reads. A record that is read again is counted "
    "again, unless it is pending."
)


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run, from the report that it wrote when it ended.

    A run that has not ended wrote none. Its outcomes and types are counted from the
    ledger, and all else is None. `Report` describes the other fields.

    Attributes:
        ending: `exit 0`, `is running` or `was killed`.
        reason: Why it ended before everything was settled; empty if it did not.
    """

    run: int
    started_at: str
    source: str
    ending: str
    exit_code: int | None = None
    reason: str = ""
    seconds: float | None = None
    read: int | None = None
    outcomes: dict[str, int] = {}
    dead_letters: int = 0
    recovered: dict[str, int] = {}
    unanswered: dict[str, int] = {}
    streams: dict[str, dict[str, int]] = {}
    types: dict[str, int] = {}
    reasons: list[dict[str, Any]] = []
    requests: int | None = None
    requests_per_minute: int | None = None

    @property
    def accepted(self) -> int:
        """How many signals it accepted, with those that killed runs left."""
        accepted = Outcome.ACCEPTED
        return self.outcomes.get(accepted, 0) + self.recovered.get(accepted, 0)

    @property
    def quota_seconds(self) -> float | None:
        """How long its requests take at the rate limit."""
        if self.requests is None:
            return None
        if not self.requests_per_minute:
            return 0.0
        return self.requests * 60 / self.requests_per_minute


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the runs that began on one day (UTC)."""

    day: str
    runs: int
    types: dict[str, int]
    outcomes: dict[str, int]
    minutes: float
    quota_minutes: float


class RunHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of the last days.

    Pending signals are those of the newest ended run of each stream, because earlier
    runs left the same ones. Outcomes include recovered signals.
    """

    ledger: str
    status: list[Status]
    quota: Quota | None
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


def run_history(ledger: Ledger, *, days: int) -> RunHistory:
    """Return the runs of the last days that the ledger holds."""
    until = datetime.now(UTC)
    first = (until - timedelta(days=days - 1)).date()
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    rows = queries.runs_since(ledger, since)
    not_ended = [row.run for row in rows if row.exit_code is None]
    counts = queries.counts_of_runs(ledger, not_ended)
    runs = [_past_run(row, ledger, *counts.get(row.run, ({}, {}))) for row in rows]
    dead_letters = dead_letters_of(ledger)
    newest = _newest(runs)
    dates = [(first + timedelta(days=n)).isoformat() for n in range(days)]
    return RunHistory(
        ledger=ledger.name,
        status=statuses_of(runs, len(dead_letters)),
        quota=quota_of(runs, until),
        since=since.date().isoformat(),
        until=until.date().isoformat(),
        runs=runs,
        days=[_day(date, runs, newest) for date in dates],
        types=_sum(run.types for run in runs),
        outcomes=_outcomes(runs, newest),
        recovered=_sum(run.recovered for run in runs),
        unanswered=_sum(run.unanswered for run in runs),
        reasons=_reasons(runs, newest),
        dead_letters=len(dead_letters),
        oldest_dead_letter=dead_letters[0].first_at if dead_letters else None,
    )


def _past_run(
    row: Any,  # noqa: ANN401 - a row of the table of runs
    ledger: Ledger,
    settled: dict[str, int],
    sent: dict[str, int],
) -> PastRun:
    if row.exit_code is None:
        accepted = {str(Outcome.ACCEPTED): sum(sent.values())} if sent else {}
        return PastRun(
            run=row.run,
            started_at=row.started_at,
            source=row.source,
            ending="is running" if ledger.lives(row.run) else "was killed",
            outcomes=settled | accepted,
            dead_letters=dead_letters_in(settled),
            types=sent,
        )
    report = json.loads(row.report)
    report |= {
        "run": row.run,
        "started_at": row.started_at,
        "source": row.source,
        "ending": f"exit {row.exit_code}",
        "exit_code": row.exit_code,
        "reason": with_id(row.end_reason or ""),
        "outcomes": {name: n for name, n in report["outcomes"].items() if n},
    }
    return msgspec.convert(report, PastRun)


def _day(day: str, runs: Sequence[PastRun], newest: dict[str, PastRun]) -> Day:
    of_day = [run for run in runs if run.started_at[:10] == day]
    return Day(
        day=day,
        runs=len(of_day),
        types=_sum(run.types for run in of_day),
        outcomes=_outcomes(of_day, newest),
        minutes=sum(run.seconds or 0 for run in of_day) / 60,
        quota_minutes=sum(run.quota_seconds or 0 for run in of_day) / 60,
    )


def _outcomes(runs: Sequence[PastRun], newest: dict[str, PastRun]) -> dict[str, int]:
    """Add up outcomes. Only the newest run of each stream has pending signals."""
    total = _sum(part for run in runs for part in (run.outcomes, run.recovered))
    if Outcome.PENDING in total:
        numbers = {run.run for run in runs}
        total[Outcome.PENDING] = sum(
            run.streams.get(stream, run.recovered).get(Outcome.PENDING, 0)
            for stream, run in newest.items()
            if run.run in numbers
        )
    by_count = sorted(total.items(), key=lambda item: -item[1])
    return {str(name): count for name, count in by_count if count}


def _newest(runs: Iterable[PastRun]) -> dict[str, PastRun]:
    """Return stream -> the newest run that reported on it, and "" -> that of all."""
    ended = [run for run in runs if run.exit_code is not None]
    return {stream: run for run in ended for stream in ("", *run.streams)}


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


def _reasons(
    runs: Sequence[PastRun], newest: dict[str, PastRun]
) -> list[dict[str, Any]]:
    total: Counter[tuple[str, Outcome, str]] = Counter()
    for run in runs:
        for entry in run.reasons:
            is_newest = newest[entry["stream"]].run == run.run
            if entry["outcome"] == Outcome.PENDING and not is_newest:
                continue  # pending no more, or counted by a later run
            key = entry["stream"], entry["outcome"], entry["reason"]
            total[key] += entry["count"]
    return reasons_in(total)
