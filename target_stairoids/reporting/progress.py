"""Progress: how a person at a terminal, or a log, is told how a run is going.

Everything goes to stderr: stdout belongs to Singer.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stairoids_common.text import counted
from target_stairoids.reporting.next_steps import DEAD, advice, dead_letters_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console, RenderableType

logger = logging.getLogger(__name__)

_LOG_SECONDS = 30.0
_LIVE_SECONDS = 0.25
_REASONS = 5  # of the most frequent ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How a run is going.

    Attributes:
        outcomes: Outcome -> how many signals ended so; those that happened.
        under_way: Signals without an outcome yet.
        used: Requests of the last minute, and those in flight.
        limit: Requests a minute; None if none is known.
        pause: Seconds for which nothing may be sent.
        trouble: Why nothing is accepted at the moment; "" if all is well.
    """

    read: int
    outcomes: Mapping[str, int]
    under_way: int
    used: int
    limit: int | None
    pause: float
    trouble: str = ""

    @property
    def seconds_left(self) -> float | None:
        """How long it takes to send what was read so far, at the quota's pace."""
        return None if not self.limit else self.under_way * 60 / self.limit

    def __str__(self) -> str:
        parts = [f"{counted(self.read, 'record')} read"]
        parts += [f"{count:,} {name}" for name, count in self.outcomes.items()]
        parts.append(f"{self.under_way:,} under way")
        if self.limit:
            parts.append(f"{self.used} of {self.limit} requests a minute")
        if self.trouble:
            parts.append(f"{self.trouble}, trying again")
        elif self.pause >= 1:
            parts.append(f"waiting {self.pause:.0f} s for the quota")
        elif self.under_way and self.seconds_left and self.seconds_left >= 1:
            parts.append(f"about {_duration(self.seconds_left)} left")
        return " · ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Progress(Protocol):
    """Tells how a run is going and how it ended."""

    #: Seconds between two times that it wants to tell something.
    every: float

    def tell(self, facts: Facts) -> None:
        """Tell how the run is going."""

    def end(self, report: dict[str, Any]) -> None:
        """Tell how the run ended."""


def progress_for(*, is_watched: bool) -> Progress:
    """Return what suits stderr.

    Args:
        is_watched: Whether somebody else tells what happens.
    """
    if is_watched:
        return NoProgress()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return LiveProgress() if is_terminal else LogProgress()


class NoProgress:
    """Says nothing."""

    every = _LOG_SECONDS

    def tell(self, facts: Facts) -> None:
        """Say nothing."""

    def end(self, report: dict[str, Any]) -> None:
        """Say nothing."""


class LogProgress:
    """Lines for a log: one every half minute, and a summary."""

    every = _LOG_SECONDS

    def tell(self, facts: Facts) -> None:
        """Log a line."""
        logger.info("%s", facts)

    def end(self, report: dict[str, Any]) -> None:
        """Log the sum, the reasons and what to do; the report itself for machines.

        A dead letter is somebody's business this week, so it is a warning.
        """
        logger.debug("Run report: %s", json.dumps(report))
        logger.info("%s", summary(report))
        for sentence in unanswered_in(report):
            logger.info("%s", sentence)
        for entry in report["reasons"][:_REASONS]:
            is_dead = entry["outcome"] in DEAD
            logger.log(_level(is_dead=is_dead), "%s", _reason(entry))
        for sentence in advice(report):
            is_dead = bool(dead_letters_in(report["outcomes"]))
            logger.log(_level(is_dead=is_dead), "%s", sentence)


class LiveProgress:
    """A line that is kept up to date, and a table at the end."""

    every = _LIVE_SECONDS

    def __init__(self) -> None:
        # Late: whoever has no terminal need not wait for it to be imported.
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        self._console: Console = Console(stderr=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        self._handlers: list[logging.StreamHandler[Any]] = []
        # What the SDK counts for machines, the table says to people.
        logging.getLogger("singer_sdk.metrics").setLevel(logging.WARNING)

    def tell(self, facts: Facts) -> None:
        """Show the line in place of the last one."""
        if not self._live.is_started:
            self._live.start()
            self._divert_logs()
        self._live.update(str(facts), refresh=True)

    def _divert_logs(self) -> None:
        """Let log lines appear above the live line, not in it."""
        loggers = (logging.getLogger(), logging.getLogger("target-stairoids"))
        for handler in {h for log in loggers for h in log.handlers}:
            if (
                isinstance(handler, logging.StreamHandler)
                and handler.stream is sys.__stderr__
            ):
                handler.setStream(sys.stderr)
                self._handlers.append(handler)

    def end(self, report: dict[str, Any]) -> None:
        """Take the line away and show what became of everything."""
        if self._live.is_started:
            self._live.stop()
        for handler in self._handlers:
            handler.setStream(sys.__stderr__)
        self._console.print(_table(report))
        self._console.print(summary(report), highlight=False)
        sentences = (*unanswered_in(report), *_reasons(report), *advice(report))
        for sentence in sentences:
            self._console.print(sentence, highlight=False, soft_wrap=True)


def summary(report: dict[str, Any]) -> str:
    """Return the sum in one line, the outcomes that happened in it.

    Beside it, and in no sum, is what became of the signals that killed runs left.
    """
    parts = " + ".join(_parts(report["outcomes"]))
    candidates = f"{counted(report['candidates'], 'candidate')} = {parts}"
    recovered = ", ".join(_parts(report["recovered"]))
    return (
        f"{candidates if parts else 'Nothing to send'} "
        f"({counted(report['read'], 'record')} read, {report['seconds']:.1f} s)"
        f"{recovered and f'; recovered from killed runs: {recovered}'}"
    )


def _parts(counts: Mapping[str, int]) -> list[str]:
    return [f"{count:,} {name}" for name, count in counts.items() if count]


def unanswered_in(report: dict[str, Any]) -> Iterator[str]:
    """Yield what became of requests without a clear response, if there were any."""
    unanswered = report["unanswered"]
    if not unanswered["requests"]:
        return
    known = {
        "found at Stairoids": unanswered["found"],
        "sent again": unanswered["sent_again"],
        "held for a person to resolve": unanswered["held"],
    }
    known["left for the next run"] = unanswered["requests"] - sum(known.values())
    what = counted(unanswered["requests"], "request")
    yield f"{what} got no clear response: {', '.join(_parts(known))}."


def _reasons(report: dict[str, Any]) -> Iterator[str]:
    return map(_reason, report["reasons"][:_REASONS])


def _reason(entry: Mapping[str, Any]) -> str:
    count, outcome = entry["count"], entry["outcome"]
    return f"{count:,} {outcome} in {entry['stream']}: {entry['reason']}"


def _level(*, is_dead: bool) -> int:
    return logging.WARNING if is_dead else logging.INFO


def _table(report: dict[str, Any]) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415

    names = [name for name, count in report["outcomes"].items() if count]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stream")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for stream, outcomes in report["streams"].items():
        cells = (f"{outcomes.get(name, 0):,}" for name in names)
        table.add_row(stream, *cells)
    return table
