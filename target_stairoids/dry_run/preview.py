"""Collect the mappings, outcomes, sample signals and duration of a dry run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from typing_extensions import override

from target_stairoids.dedup.duplicate_rules import Outcome
from target_stairoids.dry_run.coverage import FIELDS, Coverage
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.reporting.run_status import PLANS, Plan
from target_stairoids.sending.observer import Observation, Observer
from target_stairoids.sending.streams import Stream
from target_stairoids.settings import Settings

_ORDER = ("type", "source", "occurred_at", "account", "contact", "properties")


class Preview(Observer):
    """Observes a dry run, and keeps so many sample signals."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.streams: dict[str, Stream] = {}
        self._coverage: dict[tuple[str, str], Coverage] = {}
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.signals: list[dict[str, Any]] = []
        self.pairs: set[tuple[str, str]] = set()  # sources and types to send
        self.stops: list[str] = []

    @override
    def would_stop(self, reason: str) -> None:
        self.stops.append(reason)

    @override
    def opened(self, stream: Stream) -> None:
        self.streams[stream.schema.name] = stream

    @override
    def decided(self, observation: Observation) -> None:
        name, mapping = observation.stream.schema.name, observation.compiled_mapping
        outcome = observation.outcome
        is_new = outcome is Outcome.WOULD_SEND and not observation.reason
        reason = "new" if is_new else observation.reason
        self.outcomes[name, str(outcome), reason] += 1
        if mapping is not None:
            coverage = self._coverage_of(name, mapping)
            coverage.reasons[observation.reason] += 1
            if outcome is not Outcome.FILTERED:
                coverage.add(observation)
        if observation.request:
            signal = json.loads(observation.request)
            self.pairs.add((signal["source"], signal["type"]))
            if len(self.signals) < self._samples:
                ordered = {field: signal[field] for field in _ORDER if field in signal}
                self.signals.append({"stream": name, **ordered})

    def _coverage_of(self, stream: str, mapping: CompiledMapping) -> Coverage:
        key = stream, mapping.name
        if key not in self._coverage:
            self._coverage[key] = Coverage(mapping)
        return self._coverage[key]

    def mappings(self) -> Iterator[tuple[str, CompiledMapping, Coverage]]:
        """Yield each mapping with the name of its stream and its coverage."""
        for name, stream in self.streams.items():
            for mapping in stream.maps:
                yield name, mapping, self._coverage_of(name, mapping)

    @property
    def to_send(self) -> int:
        """How many signals the run would send."""
        counts = self.outcomes.items()
        return sum(n for (_, o, _), n in counts if o == Outcome.WOULD_SEND)

    def minutes(self, settings: Settings) -> dict[str, float]:
        """Return the minutes that sending takes, by plan or by the limit set."""
        limit, per_day = settings.requests_per_minute, settings.requests_per_day
        plans = {f"{limit} per minute": Plan(limit)} if limit else PLANS
        found = {}
        for name, (per_minute, usual) in plans.items():
            plan = Plan(per_minute, per_day or usual)
            found[name] = round(plan.minutes(self.to_send), 2)
        return found

    def as_dict(self, settings: Settings, first_run: str) -> dict[str, Any]:
        """Return the whole preview as one JSON object."""
        streams: dict[str, list[dict[str, Any]]] = {name: [] for name in self.streams}
        for stream, mapping, coverage in self.mappings():
            description = {
                "name": mapping.name,
                "is_left_out": mapping.is_left_out,
                "fields": msgspec.to_builtins(mapping.origins),
                "key": list(mapping.key),
                "send": mapping.send,
                "records": coverage.records,
                "coverage": {name: coverage.share(name) for name in FIELDS},
                **coverage.as_dict(),
                "private": sorted(mapping.hidden.private),
            }
            streams[stream].append(description)
        return {
            "streams": streams,
            "outcomes": [
                {"stream": s, "outcome": o, "reason": reason, "signals": count}
                for (s, o, reason), count in self.outcomes.items()
            ],
            "signals": self.signals,
            "stops": self.stops,
            "to_send": self.to_send,
            "first_run": first_run,
            "minutes": self.minutes(settings),
        }
