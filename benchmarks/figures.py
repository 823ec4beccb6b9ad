"""Figures, their baselines and goals, and the tables of them."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path


_BEGIN, _END = "<!-- figures -->", "<!-- /figures -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The size of a measurement.

    Attributes:
        rounds: The number of rounds. Each figure is their median.
        share: The share of the usual number of records.
    """

    rounds: int
    share: float

    def number(self, usual: int) -> int:
        """Return the share of a usual number, at least 1."""
        return max(1, int(usual * self.share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Attributes:
        path: The measured path.
        value: The measured value, in `unit`.
        unit: The unit of the value.
        beside: The baseline of the same run, if there is one.
        ratio: The value divided by that of the baseline.
        at_least: The goal of the ratio, or of the value without a ratio.
        at_most: The same for values where less is better.
    """

    path: str
    value: float
    unit: str
    beside: str = ""
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the goal is met, if there is one."""
        measured = self.value if self.ratio is None else self.ratio
        if self.at_least is not None and measured < self.at_least:
            return False
        return self.at_most is None or measured <= self.at_most

    @property
    def goal(self) -> str:
        """The goal in words."""
        for word, bound in (("at least", self.at_least), ("at most", self.at_most)):
            if bound is not None:
                unit = "" if self.ratio is not None else f" {self.unit}"
                return f"{word} {bound:g}{unit}" + ("" if self.is_met else ": missed")
        return ""


def in_turn(
    measures: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Measure several things in turn, in several rounds."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of all rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def as_markdown(figures: Iterable[Figure]) -> str:
    """Return the figures as a table."""
    lines = [
        "| path | measured | beside, in the same run | ratio | goal |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    for figure in figures:
        digits = 0 if figure.value >= 100 else 2 if figure.value < 10 else 1
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        lines.append(
            f"| {figure.path} | {figure.value:,.{digits}f} {figure.unit} "
            f"| {figure.beside} | {ratio} | {figure.goal} |"
        )
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return a description of this machine."""
    return (
        f"{os.cpu_count()} CPUs ({platform.machine()}), {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def write(path: Path, figures: Iterable[Figure], scope: Scope) -> None:
    """Write figures to the JSON file from which the documents' tables are made.

    Paths that were not measured keep their last figures.
    """
    kept = {_key(figure): figure for figure in read(path)} if path.exists() else {}
    kept |= {_key(figure): figure for figure in figures}
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": scope.rounds,
        "figures": [asdict(figure) for figure in kept.values()],
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(path: Path, figures: Iterable[Figure]) -> None:
    """Write the table between the two marks of a document."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    text = f"{before}{mark}\n{as_markdown(figures)}{end}{after}"
    path.write_text(text, encoding="utf-8")


def _key(figure: Figure) -> tuple[str, str]:
    return figure.path, figure.beside.partition(",")[0]


def read(path: Path) -> list[Figure]:
    """Return the figures in the JSON file."""
    return [Figure(**figure) for figure in json.loads(path.read_text())["figures"]]
