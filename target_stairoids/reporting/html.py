"""Render the run history as one HTML page with plots that needs no other file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stairoids_pages.templating import template_environment
from target_stairoids.dedup.rules import Outcome
from target_stairoids.reporting.runs import (
    COUNTED_BY_RUN,
    UNKNOWN_TYPE,
    Day,
    RunHistory,
)


def as_html(history: RunHistory) -> str:
    """Return the run history as an HTML page."""
    templates = template_environment("target_stairoids")
    templates.filters["amount"] = _amount
    return templates.get_template("report.html").render(
        history=history, plots=_plots(history.days), counted_by_run=COUNTED_BY_RUN
    )


def _amount(number: float) -> str:
    """Return a number as text with at least two significant digits."""
    if number >= 10 or number == round(number):
        return f"{number:,.0f}"
    return f"{number:.2g}"


_MAX_SERIES = 7  # distinct colours. The rest is `others`
_GREY = 7  # neither good nor bad
_TYPE_COLOURS = {UNKNOWN_TYPE: _GREY}
_OUTCOME_COLOURS: dict[str, int] = {
    Outcome.ACCEPTED: 1,
    Outcome.FILTERED: 0,
    Outcome.SUPERSEDED: 8,
    Outcome.TOO_OLD: 5,
    Outcome.BASELINED: 6,
    Outcome.INVALID: 2,
    Outcome.REJECTED: 3,
    Outcome.UNKNOWN: 4,
    Outcome.PENDING: _GREY,
}


def _plots(days: Sequence[Day]) -> list[dict[str, Any]]:
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
        _plot("Accepted signals by type", "signals", types, _TYPE_COLOURS),
        _plot(
            "Outcomes, without duplicate and unchanged",
            "signals",
            outcomes,
            _OUTCOME_COLOURS,
        ),
        _plot(
            "Minutes of runs, and the part that the quota needs", "minutes", minutes, {}
        ),
    ]


def _plot(
    title: str,
    unit: str,
    days: Sequence[Mapping[str, float]],
    colours: Mapping[str, int],
) -> dict[str, Any]:
    """Return a stacked bar for each day: names with colours and daily numbers."""
    total: Counter[str] = Counter()
    for day in days:
        total.update(day)
    shown = [name for name, count in total.most_common(_MAX_SERIES) if count]
    series = [
        (name, colours.get(name, number), [day.get(name, 0.0) for day in days])
        for number, name in enumerate(shown)
    ]
    others = [sum(day.values()) - sum(day.get(n, 0) for n in shown) for day in days]
    if any(rest > 0 for rest in others):
        series.append(("others", _GREY, others))
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
