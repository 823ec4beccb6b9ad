"""Render the run history as one HTML page with plots that needs no other file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from stairoids_pages.templating import asset, hash_of, template_environment
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.reporting import runs
from target_stairoids.reporting.next_steps import with_configs
from target_stairoids.reporting.run_status import ending_of, quota_in_words, state_of


def as_html(history: runs.RunHistory) -> str:
    """Return the run history as an HTML page."""
    templates = template_environment("target_stairoids")
    templates.filters["amount"] = _amount
    templates.filters["state_of"] = state_of
    templates.filters["with_configs"] = with_configs
    templates.globals |= {"state_of": state_of, "ending_of": ending_of}
    script = asset("copy.js") + "addCopyButtons(document);\n"
    newest_first = list(reversed(history.runs))
    days = {day.day: day for day in reversed(history.days) if day.runs}
    groups = {
        day: [run for run in newest_first if run.started_at[:10] == day] for day in days
    }
    return templates.get_template("report.html").render(
        history=history,
        script=Markup(script),  # noqa: S704 -- a file of ours
        script_hash=hash_of(script),
        worst=min((s.state for s in history.status), key=_WORST_FIRST.index),
        quota=quota_in_words(history.quota),
        groups=groups if len(newest_first) > _MAX_ROWS else {"": newest_first},
        accepted={day: sum(its.types.values()) for day, its in days.items()},
        plots=_plots(history.days),
        counted_by_run=runs.COUNTED_BY_RUN,
    )


_WORST_FIRST = ("failed", "attention", "running", "ok")


def _amount(number: float) -> str:
    """Return a number as text with at least two significant digits."""
    if number >= 10 or number == round(number):
        return f"{number:,.0f}"
    return f"{number:.2g}"


_MAX_SERIES = 7  # distinct colours. The rest is `others`
_OTHERS = "t7"
# Each colour is a class of the template, and has one meaning in all plots.
_MINUTE_COLOURS = {"needed by the quota": "m0", "beyond that": "m1"}
_OUTCOME_COLOURS: dict[str, str] = {
    Outcome.FILTERED: "c0",
    Outcome.ACCEPTED: "c1",
    Outcome.INVALID: "c2",
    Outcome.REJECTED: "c3",
    Outcome.UNKNOWN: "c4",
    Outcome.TOO_OLD: "c5",
    Outcome.BASELINED: "c6",
    Outcome.PENDING: "c7",
    Outcome.SUPERSEDED: "c8",
}
_MAX_ROWS = 20  # of a table of runs that is not grouped by day


def _plots(days: Sequence[runs.Day]) -> list[dict[str, Any]]:
    known = {Outcome.DUPLICATE, Outcome.UNCHANGED}
    types = [day.types for day in days]
    outcomes = [
        {name: n for name, n in day.outcomes.items() if name not in known}
        for day in days
    ]
    minutes = [
        {
            "needed by the quota": min(day.quota_minutes, day.minutes),
            "beyond that": max(0.0, day.minutes - day.quota_minutes),
        }
        for day in days
    ]
    return [
        _plot("Accepted signals by type", "signals", types, {}),
        _plot(
            "Outcomes, without duplicate and unchanged",
            "signals",
            outcomes,
            _OUTCOME_COLOURS,
        ),
        _plot(
            "Minutes of runs, and the part that the quota needs",
            "minutes",
            minutes,
            _MINUTE_COLOURS,
        ),
    ]


def _plot(
    title: str,
    unit: str,
    days: Sequence[Mapping[str, float]],
    colours: Mapping[str, str],
) -> dict[str, Any]:
    """Return a stacked bar for each day: names with colours and daily numbers."""
    total: Counter[str] = Counter()
    for day in days:
        total.update(day)
    shown = [name for name, count in total.most_common(_MAX_SERIES) if count]
    series = [
        (name, colours.get(name, f"t{number}"), [day.get(name, 0.0) for day in days])
        for number, name in enumerate(shown)
    ]
    others = [sum(day.values()) - sum(day.get(n, 0) for n in shown) for day in days]
    if any(rest > 0 for rest in others):
        series.append(("others", _OTHERS, others))
    top = max((sum(day.values()) for day in days), default=0)
    return {
        "title": title,
        "unit": unit,
        "series": series,
        "top": top,
        "scale": axis_end(top),
    }


def axis_end(top: float) -> float:
    """Return the smallest round number from `top` up, whose half is round too."""
    if not top:
        return 0.0
    power = 10.0 ** math.floor(math.log10(top))
    return next(n * power for n in (1, 2, 4, 6, 8, 10) if n * power >= top * 0.999)
