"""Describe in words how a run ended, what to do next, and how much quota is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stairoids_common.text import counted
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.reporting.next_steps import (
    check_command,
    dead_letters_command,
    ledger_commands,
    with_config,
    with_configs,
)

if TYPE_CHECKING:
    from target_stairoids.reporting.runs import PastRun

_MINUTES_PER_DAY = 1440
_AGAIN = "Run again. The next run resumes, and no signals were lost."
_DECIDE = "If the reason above names this command for your case, run it."


class Plan(NamedTuple):
    """How many requests a plan allows. Without a limit per day it is unlimited."""

    per_minute: int
    per_day: int | None = None

    def minutes(self, requests: int) -> float:
        """Return the minutes that requests take, with a wait for each further day."""
        days = (requests - 1) // self.per_day if self.per_day and requests else 0
        rest = requests - days * (self.per_day or 0)
        return days * _MINUTES_PER_DAY + rest / self.per_minute


#: Source: https://docs.stairoids.com/api-reference/rate-limits
PLANS = {
    "Starter": Plan(60, 10_000),
    "Growth": Plan(300, 100_000),
    "Agency": Plan(1_000),
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A next step for a person. Its command, if there is one, is ready to copy."""

    text: str
    command: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the last run of a pipeline: `ok`, `attention` or `failed`."""

    source: str
    state: str
    text: str
    next: list[Step]


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of today (UTC), and the part of the quota that is left.

    Attributes:
        requests_today: By the runs of this ledger that have ended, also refused ones.
    """

    plan: str | None
    requests_per_minute: int
    requests_per_day: int | None
    requests_today: int
    left: int | None


def state_of(run: PastRun) -> str:
    """Return `ok`, `attention`, `failed` or `running`."""
    if run.ending == "is running":
        return "running"
    if run.exit_code is None or (run.exit_code and not _is_stopped(run)):
        return "failed"
    is_open = run.reason or run.dead_letters or run.outcomes.get(Outcome.PENDING)
    return "attention" if is_open or run.exit_code else "ok"


def words_of(run: PastRun) -> str:
    """Return the end of a run and its reason."""
    reason = f": {with_configs(run.reason)}" if run.reason else "."
    return f"{ending_of(run)}{reason}"


def ending_of(run: PastRun) -> str:
    """Return the end of a run in a few words, such as `failed, exit 1`."""
    if run.exit_code is None:
        return run.ending
    if run.exit_code:
        return f"{'stopped' if _is_stopped(run) else 'failed'}, {run.ending}"
    if run.dead_letters:
        return f"completed, {counted(run.dead_letters, 'dead letter')}"
    return "completed, signals left" if run.reason else "completed"


def statuses_of(runs: Sequence[PastRun], dead_letters: int) -> list[Status]:
    """Return the status of each pipeline from the runs, the oldest first."""
    sources = dict.fromkeys(run.source for run in reversed(runs))
    by_source = [[run for run in runs if run.source == source] for source in sources]
    if by_source:
        return [_status_of(its, dead_letters, _left_by(its, runs)) for its in by_source]
    text = "No run began in these days."
    return [Status(source="", state="attention", text=text, next=[])]


def _status_of(
    runs: Sequence[PastRun], dead_letters: int, left: PastRun | None
) -> Status:
    last = decided = runs[-1]
    text = f"Run {last.run} of {_minute(last.started_at)} UTC {words_of(last)}"
    ended = [run for run in runs[:-1] if state_of(run) != "running"]
    if state_of(last) == "running" and ended:
        decided = ended[-1]
        text += f" Run {decided.run} before it {words_of(decided)}"
    state = state_of(decided)
    whole = [run for run in runs if state_of(run) == "ok"]
    if state != "ok" and whole:
        text += f" The last run without a problem was run {whole[-1].run}, "
        text += f"{_minute(whole[-1].started_at)} UTC."
    steps = list(_next(decided, dead_letters))
    if left is not None and left is not decided and not decided.exit_code:
        text += f" Run {left.run} before it {words_of(left)} No later run has read the "
        text += "records of its pending signals."
        steps = [*_next(left, 0), *steps]
    return Status(
        source=last.source,
        state="attention" if state == "ok" and steps else state,
        text=text,
        next=steps,
    )


def _left_by(its: Sequence[PastRun], runs: Sequence[PastRun]) -> PastRun | None:
    """Return the last run whose pending signals are of streams not read since then."""
    later = its if its[0].source else runs
    ended = [run for run in later if run.exit_code is not None]
    newest = {stream: run for run in ended for stream in run.streams}
    left = (r for name, r in newest.items() if r.streams[name].get(Outcome.PENDING))
    found = (run for run in left if run.source == its[0].source)
    return max(found, key=lambda run: run.run, default=None)


def _next(run: PastRun, dead_letters: int) -> Iterator[Step]:
    if run.ending == "was killed":
        yield Step(text="Run again. The next run recovers the requests that were open.")
    elif _is_stopped(run) or (not run.exit_code and run.outcomes.get(Outcome.PENDING)):
        yield Step(text=_AGAIN)
    elif commands := ledger_commands(run.reason):
        for command in commands:
            yield Step(text=_DECIDE, command=with_config(command))
    elif run.exit_code:
        text = "Fix the cause, check the config and the API key, then run again."
        yield Step(text=text, command=check_command())
    if dead_letters:
        are = counted(dead_letters, "dead letter waits", "dead letters wait")
        text = f"{are} for a person. List them with their reasons."
        yield Step(text=text, command=dead_letters_command())


def quota_of(runs: Sequence[PastRun], now: datetime) -> Quota | None:
    """Return the quota and its use today; None if no run learnt a rate limit."""
    limits = [run.requests_per_minute for run in runs if run.requests_per_minute]
    if not limits:
        return None
    known = ((n, p) for n, p in PLANS.items() if p.per_minute == limits[-1])
    plan, (_, per_day) = next(known, (None, Plan(limits[-1])))
    today = f"{now.astimezone(UTC).date()}"
    used = sum(run.requests or 0 for run in runs if run.started_at[:10] == today)
    left = None if per_day is None else max(0, per_day - used)
    return Quota(
        plan=plan,
        requests_per_minute=limits[-1],
        requests_per_day=per_day,
        requests_today=used,
        left=left,
    )


def quota_in_words(quota: Quota | None) -> str:
    """Return the quota as one or two sentences."""
    if quota is None:
        return "The rate limit is not known yet."
    plan = f"plan {quota.plan}" if quota.plan else "unknown plan"
    text = f"{quota.requests_per_minute:,} requests per minute ({plan}). Today (UTC): "
    if quota.left is None:
        return f"{text}{counted(quota.requests_today, 'request')} of this ledger."
    used = f"{quota.requests_today:,} of {quota.requests_per_day:,}"
    return f"{text}{used} by this ledger, {quota.left:,} left."


def _is_stopped(run: PastRun) -> bool:
    """Return whether the next run resumes by itself."""
    return run.exit_code is not None and (run.exit_code == 75 or run.exit_code >= 128)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
