"""Show on stderr how a run is going and how it ended. Stdout belongs to Singer."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stairoids_common.text import counted, duration
from target_stairoids.reporting.next_steps import DEAD_OUTCOMES, next_steps
from target_stairoids.reporting.report import Report

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

logger = logging.getLogger(__name__)

_MAX_REASONS = 5  # the most frequent ones
_LARGE = 1_000  # signals of a first run, above which it says how long it takes


def status_line(
    report: Report,
    *,
    queued: int,
    used: int,
    limit: int | None,
    pause: float,
    failure: str,
) -> str:
    """Return one line about how a run is going.

    Args:
        used: Requests of the last minute and in flight; `limit` is per minute.
        pause: Seconds until the rate limiter allows the next request.
        failure: Why the API accepts nothing now. Empty if it does.
    """
    parts = [f"{counted(report.read, 'record')} read", *_parts(report.outcomes)]
    parts.append(f"{queued:,} in the queue")
    seconds_left = 0.0
    if limit:
        parts.append(f"{used:,} of {limit:,} requests this minute")
        seconds_left = queued * 60 / limit
    if failure:
        parts.append(f"{failure}, trying again")
    elif pause >= 1:
        parts.append(f"waiting {pause:.0f} s for the quota")
    elif seconds_left >= 1:
        parts.append(f"about {duration(seconds_left)} left")
    return " · ".join(parts)


def warn_if_long(signals: int, limit: int | None) -> bool:
    """Say how long a large first run takes, once its quota is known; return if so."""
    if limit is None or signals <= _LARGE:
        return False
    logger.warning(
        "This is the ledger's first run, and it has more than 1,000 signals. At %s "
        "requests per minute, 10,000 signals take about %.1f hours. To send later "
        "records only, use a new ledger with `first_run: baseline`.",
        f"{limit:,}",
        10_000 / limit / 60,
    )
    return True


class Progress:
    """Shows nothing. The base of the displays of a run."""

    #: Seconds between two calls of `update`.
    every = 30.0

    def update(self, status: str) -> None:
        """Show how the run is going."""

    def end(self, report: dict[str, Any], *, is_whole: bool) -> None:
        """Show how the run ended, and whether it did everything."""


def progress_for(*, is_observed: bool) -> Progress:
    """Return the display for this process; none if an observer shows the run."""
    if is_observed:
        return Progress()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return LiveProgress() if is_terminal else LogProgress()


class LogProgress(Progress):
    """Logs a line every half minute, and a summary at the end."""

    @override
    def update(self, status: str) -> None:
        logger.info("%s", status)

    @override
    def end(self, report: dict[str, Any], *, is_whole: bool) -> None:
        logger.debug("Run report: %s", json.dumps(report))
        for level, sentence in _sentences(report, is_whole=is_whole):
            logger.log(level, "%s", sentence)


class LiveProgress(Progress):
    """Keeps one line of a terminal up to date, and prints a table at the end."""

    every = 0.25

    def __init__(self) -> None:
        # Imported here, because only a terminal needs rich.
        from rich.console import Console  # noqa: PLC0415 - see above
        from rich.live import Live  # noqa: PLC0415 - see above

        self._console: Console = Console(stderr=True, markup=False, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        self._handlers: list[logging.StreamHandler[Any]] = []
        # The table has the same counts as the SDK's metrics.
        logging.getLogger("singer_sdk.metrics").setLevel(logging.WARNING)

    @override
    def update(self, status: str) -> None:
        if not self._live.is_started:
            self._live.start()
            self._redirect_logs()
        self._live.update(status, refresh=True)

    def _redirect_logs(self) -> None:
        """Let log lines appear above the live line, not in it."""
        loggers = (logging.getLogger(), logging.getLogger("target-stairoids"))
        for handler in {h for log in loggers for h in log.handlers}:
            if not isinstance(handler, logging.StreamHandler):
                continue
            if handler.stream is sys.__stderr__:
                handler.setStream(sys.stderr)
                self._handlers.append(handler)

    @override
    def end(self, report: dict[str, Any], *, is_whole: bool) -> None:
        if self._live.is_started:
            self._live.stop()
        for handler in self._handlers:
            handler.setStream(sys.__stderr__)
        self._console.print(_table(report))
        for _, sentence in _sentences(report, is_whole=is_whole):
            self._console.print(sentence, soft_wrap=True)


def _sentences(report: dict[str, Any], *, is_whole: bool) -> Iterator[tuple[int, str]]:
    """Yield the end of a run in sentences, each with its log level."""
    levels = {True: logging.WARNING, False: logging.INFO}
    yield logging.INFO, summary(report, is_whole=is_whole)
    for sentence in unanswered_in(report["unanswered"]):
        yield logging.INFO, sentence
    for entry in report["reasons"][:_MAX_REASONS]:
        sentence = (
            f"{entry['count']:,} {entry['outcome']} in {entry['stream']}: "
            f"{entry['reason']}"
        )
        yield levels[entry["outcome"] in DEAD_OUTCOMES], sentence
    for sentence in next_steps(report):
        yield levels[report["dead_letters"] > 0], sentence


def summary(report: dict[str, Any], *, is_whole: bool) -> str:
    """Return one line such as `12 signals = 10 accepted + 2 duplicate (…)`.

    Signals that earlier runs left open are listed after it and are not part of the sum.
    """
    outcomes = " + ".join(_parts(report["outcomes"]))
    total = f"{counted(report['signals'], 'signal')} = {outcomes}"
    recovered = ", ".join(_parts(report["recovered"]))
    nothing = "Nothing to send" if is_whole else "Nothing was sent"
    return (
        f"{total if outcomes else nothing} "
        f"({counted(report['read'], 'record')} read, {report['seconds']:.1f} s)"
        f"{recovered and f'; recovered from earlier runs: {recovered}'}"
    )


def _parts(counts: Mapping[Any, int]) -> list[str]:
    return [f"{count:,} {name}" for name, count in counts.items() if count]


def unanswered_in(unanswered: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence about the part `unanswered` of a report, unless it is empty."""
    if not unanswered.get("requests"):
        return
    known = {
        "found at Stairoids": unanswered["found"],
        "sent again": unanswered["sent_again"],
        "held for a person to resolve": unanswered["held"],
    }
    known["left for the next run"] = unanswered["requests"] - sum(known.values())
    requests = counted(unanswered["requests"], "request")
    yield f"{requests} got no clear response: {', '.join(_parts(known))}."


def _table(report: dict[str, Any]) -> RenderableType:
    from stairoids_common.cli import table_of  # noqa: PLC0415 - only a terminal needs it

    names = [name for name, count in report["outcomes"].items() if count]
    header = ["stream", *(name.replace("_", " ") for name in names)]
    rows = [
        [stream, *(outcomes.get(name, 0) for name in names)]
        for stream, outcomes in report["streams"].items()
    ]
    return table_of(header, rows)
