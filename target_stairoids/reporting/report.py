"""Count the outcomes of a run and write its report and its metrics."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from stairoids_common.text import as_code
from stairoids_common.time import parse_time
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.exceptions import ConfigError
from target_stairoids.ledger.structs import PipelineFacts
from target_stairoids.settings import Settings

# The counts of requests without a clear response.
_UNANSWERED = ("requests", "found", "sent_again", "held")
_PATIENCE = 60.0  # seconds that the reader of a pipe may need


class Report:
    """Counts of one run.

    Attributes:
        types: Signal type -> number of accepted signals, with recovered ones.
        recovered: Outcome -> number of signals that killed runs left.
        unanswered: `requests` without a clear response, and how many of them were
            `found` at Stairoids, `sent_again`, or `held` for a person. The others
            are pending.
        dead_letters: How many dead letters of the run are left. A later state of a
            record closes its dead letter.
    """

    def __init__(self) -> None:
        self._started, self._began = datetime.now(UTC), time.monotonic()
        self.run = 0
        self.read = 0
        self.signals = 0
        self.dead_letters = 0
        self.recovered: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self._counts: Counter[tuple[str, Outcome, str]] = Counter()

    def count(
        self, stream: str, outcome: Outcome, reason: str = "", times: int = 1
    ) -> None:
        """Count the outcome of one signal, or of several."""
        self._counts[stream, outcome, reason] += times

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Outcome -> number of signals so far."""
        found: Counter[Outcome] = Counter()
        for (_stream, outcome, _reason), count in self._counts.items():
            found[outcome] += count
        return found

    def streams_with(self, wanted: Outcome) -> set[str]:
        """Return the streams that have signals with an outcome."""
        return {stream for stream, outcome, _ in self._counts if outcome is wanted}

    @property
    def adds_up(self) -> bool:
        """Whether each signal of the run has exactly one outcome."""
        return self.signals == self.outcomes.total()

    def as_dict(
        self, *, exit_code: int, requests: int, quota: int | None
    ) -> dict[str, Any]:
        """Return the report as the JSON object of `report_path`."""
        ended, seconds = datetime.now(UTC), time.monotonic() - self._began
        outcomes = self.outcomes
        streams: dict[str, Counter[str]] = {}
        for (stream, outcome, _reason), count in self._counts.items():
            streams.setdefault(stream, Counter())[str(outcome)] += count
        return {
            "run": self.run,
            "started_at": self._started.isoformat(),
            "ended_at": ended.isoformat(),
            "seconds": round(seconds, 3),
            "exit_code": exit_code,
            "read": self.read,
            "signals": self.signals,
            "adds_up": self.adds_up,
            "outcomes": {str(o): outcomes[o] for o in Outcome},
            "streams": {stream: dict(counts) for stream, counts in streams.items()},
            "types": dict(self.types),
            "reasons": reasons_in(self._counts),
            "dead_letters": self.dead_letters,
            "recovered": dict(self.recovered),
            "unanswered": {name: self.unanswered[name] for name in _UNANSWERED},
            "requests": requests,
            "requests_per_minute": quota,
        }


def reasons_in(counts: Counter[tuple[str, Outcome, str]]) -> list[dict[str, Any]]:
    """Return counts by stream, outcome and reason as objects, the largest first."""
    return [
        {"stream": stream, "outcome": str(outcome), "reason": reason, "count": count}
        for (stream, outcome, reason), count in counts.most_common()
        if reason
    ]


def files_error(settings: Settings) -> ConfigError | None:
    """Return why the files of a run that settings name cannot be written, if so."""
    problems = [_write(None, name, path) for name, path in _files(settings)]
    return ConfigError(" ".join(filter(None, problems))) if any(problems) else None


def write_files(
    report: Mapping[str, Any], facts: PipelineFacts | None, settings: Settings
) -> str:
    """Write the files of a run that settings name; return why not, "" if written."""
    problems = []
    for name, path in _files(settings):
        if name == "report_path":
            text = json.dumps(report, indent=2) + "\n"
        else:
            text = metrics_text(report, facts, settings)
        problems.append(_write(text, name, path))
    return " ".join(filter(None, problems))


def metrics_text(
    report: Mapping[str, Any], facts: PipelineFacts | None, settings: Settings
) -> str:
    """Return the gauges of a pipeline after a run; without facts, those of the run.

    The textfile collector of Prometheus' node exporter reads them.
    """
    # Slow to import, and few pipelines have metrics.
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: PLC0415 - see above

    registry = CollectorRegistry()
    pipeline = {
        "namespace": settings.namespace or "",
        "source": settings.default_source,
    }

    @cache
    def gauge(name: str, text: str, *labels: str) -> Gauge:
        names = [*pipeline, *labels]
        return Gauge(f"stairoids_signals_{name}", text, names, registry=registry)

    def add(name: str, text: str, value: float | None, **labels: str) -> None:
        if value is not None:
            gauge(name, text, *labels).labels(**pipeline, **labels).set(value)

    ended = _seconds(report["ended_at"])
    add("last_run_timestamp_seconds", "When the last run ended.", ended)
    add("last_run_exit_code", "Exit code of the last run.", report["exit_code"])
    add("last_run_duration_seconds", "How long the last run took.", report["seconds"])
    add("last_run_records", "Records that the last run read.", report["read"])
    add("last_run_requests", "Requests of the last run.", report["requests"])
    quota = report["requests_per_minute"]
    add("requests_per_minute", "The rate limit, if it is known.", quota)
    for stream, outcomes in report["streams"].items():
        for outcome, count in outcomes.items():
            labels = {"stream": stream, "outcome": outcome}
            add("last_run_signals", "Signals of the last run.", count, **labels)
    if facts is not None:
        last = _seconds(facts.last_success)
        text = "When a run last left nothing over."
        add("last_success_timestamp_seconds", text, last)
        add("dead_letters", "Dead letters of the namespace.", facts.dead_letters)
        oldest = _seconds(facts.oldest_dead_letter)
        add("oldest_dead_letter_timestamp_seconds", "When the oldest failed.", oldest)
    return generate_latest(registry).decode()


def _seconds(time: str | None) -> float | None:
    return None if time is None else parse_time(time).timestamp()


def _files(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield setting and path. A dry run, and one of some records, have no metrics."""
    if settings.report_path:
        yield "report_path", settings.report_path
    if settings.metrics_path and not (settings.dry_run or settings.is_partial):
        yield "metrics_path", settings.metrics_path


def _write(text: str | None, setting: str, place: str) -> str:
    """Write a file that a setting names, whole or not at all; return why not.

    Without a text, only try whether it can be written. A device, a pipe or a link, such
    as `/dev/null`, is written to and stays.
    """
    path = Path(place)
    try:
        if path.exists() and not path.is_file():
            if text is not None:  # a reader would take an empty text for the end
                _write_device(path, text.encode())
            return ""
        path = Path(os.path.realpath(path))  # `resolve` fails for a loop of links
        part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text or "", encoding="utf-8")
        if text is None:
            part.unlink()
        else:
            os.replace(part, path)  # noqa: PTH105 - the name of the atomic system call
    except OSError as error:
        why = f"{error.strerror or 'its reader is too slow'} ({as_code(place)})"
        return f"The file of `{setting}` cannot be written: {why}."
    return ""


def _write_device(path: Path, text: bytes) -> None:
    """Write to a device or a pipe, whose reader may be slow but must be there."""
    from stairoids_common.http import within  # noqa: PLC0415 - slow to import

    number = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # fails without a reader
    os.set_blocking(number, True)

    def write() -> None:
        with os.fdopen(number, "wb") as device:
            device.write(text)

    within(_PATIENCE, write)
