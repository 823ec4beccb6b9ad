"""Write the figures of a run for the textfile collector of the node exporter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from stairoids_common.time import parse_time
from target_stairoids.ledger.structs import PipelineFacts
from target_stairoids.settings import Settings

_PREFIX = "stairoids_signals_"


def metrics_text(
    report: Mapping[str, Any], facts: PipelineFacts | None, settings: Settings
) -> str:
    """Return the gauges of a pipeline after a run; without facts, those of the run."""
    registry = CollectorRegistry()
    namespace, source = settings.namespace or "", settings.default_source
    pipeline = {"namespace": namespace, "source": source}

    gauges: dict[str, Gauge] = {}

    def add(name: str, text: str, value: float | None, **labels: str) -> None:
        names = {**pipeline, **labels}
        if value is not None and name not in gauges:
            gauges[name] = Gauge(f"{_PREFIX}{name}", text, names, registry=registry)
        if value is not None:
            gauges[name].labels(**names).set(value)

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
        add(
            "last_success_timestamp_seconds", "When a run last left nothing over.", last
        )
        add("dead_letters", "Dead letters of the namespace.", facts.dead_letters)
        oldest = _seconds(facts.oldest_dead_letter)
        add("oldest_dead_letter_timestamp_seconds", "When the oldest failed.", oldest)
    return generate_latest(registry).decode()


def _seconds(time: str | None) -> float | None:
    return None if time is None else parse_time(time).timestamp()
