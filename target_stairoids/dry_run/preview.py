"""The preview: what a run over some messages would send, without sending it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import InvalidSignalError

if TYPE_CHECKING:
    from target_stairoids.mapping.compiled import CompiledMapping
    from target_stairoids.sending.observer import Decision
    from target_stairoids.sending.streams import Stream
    from target_stairoids.settings import Settings

#: What a signal is matched and timed by.
_COVERED = ("account.domain", "contact.email", "occurred_at")
_ORDER = ("type", "source", "occurred_at", "account", "contact", "properties")
_MINUTES_A_DAY = 1440


class Quota(NamedTuple):
    """How many requests may be made."""

    a_minute: int
    a_day: int | None = None

    def minutes(self, requests: int) -> float:
        """Return how long so many take; once a day's are used up, a day is over."""
        days = (requests - 1) // self.a_day if self.a_day and requests else 0
        rest = requests - days * (self.a_day or 0)
        return days * _MINUTES_A_DAY + rest / self.a_minute


#: By plan: https://docs.stairoids.com/api-reference/rate-limits
PLANS = {
    "Starter": Quota(60, 10_000),
    "Growth": Quota(300, 100_000),
    "Agency": Quota(1_000),
}


@dataclass
class Coverage:
    """How many of a mapping's records have what a signal is matched and timed by."""

    records: int = 0
    known: Counter[str] = field(default_factory=Counter)

    def share(self, name: str) -> float:
        """Return the share of records that have a field, from 0 to 1."""
        return self.known[name] / self.records if self.records else 0.0


class Preview:
    """Watches a rehearsal.

    Args:
        samples: How many signals to keep, to be shown.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.streams: dict[str, Stream] = {}
        self.coverage: dict[tuple[str, str], Coverage] = {}
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.signals: list[dict[str, Any]] = []

    def opened(self, stream: Stream) -> None:
        """Note a stream, or its new SCHEMA."""
        self.streams[stream.schema.name] = stream

    def decided(self, decision: Decision) -> None:
        """Count a record, and what its signal has, whatever the ledger knows of it."""
        name, compiled_mapping = decision.stream.schema.name, decision.compiled_mapping
        self.outcomes[name, str(decision.outcome), decision.reason] += 1
        if compiled_mapping is not None and decision.outcome is not Outcome.FILTERED:
            key = name, compiled_mapping.name
            coverage = self.coverage.setdefault(key, Coverage())
            self._cover(coverage, compiled_mapping, decision.record)

    def _cover(
        self,
        coverage: Coverage,
        compiled_mapping: CompiledMapping,
        record: dict[str, Any],
    ) -> None:
        coverage.records += 1
        try:
            signal = compiled_mapping.signal_from(record)
        except InvalidSignalError:
            return
        body = signal.body()
        for name in _COVERED:
            group, _, inner = name.partition(".")
            if body.get(group) and (not inner or body[group].get(inner)):
                coverage.known[name] += 1

    def would_send(self, stream: Stream, body: bytes) -> None:
        """Keep one of the first signals."""
        if len(self.signals) < self._samples:
            signal = json.loads(body)
            ordered = {name: signal[name] for name in _ORDER if name in signal}
            self.signals.append({"stream": stream.schema.name, **ordered})

    @property
    def to_send(self) -> int:
        """How many signals the run would send."""
        return sum(
            count
            for (_, outcome, _), count in self.outcomes.items()
            if outcome == Outcome.WOULD_SEND
        )

    def minutes(self, settings: Settings) -> dict[str, float]:
        """Return plan, or the pace that is set -> minutes that sending would take."""
        pace, a_day = settings.requests_per_minute, settings.requests_per_day
        quotas = {f"{pace} a minute": Quota(pace)} if pace else PLANS
        found = {}
        for name, quota in quotas.items():
            of_user = quota._replace(a_day=a_day or quota.a_day)
            found[name] = round(of_user.minutes(self.to_send), 2)
        return found

    def as_dict(self, settings: Settings) -> dict[str, Any]:
        """Return all of it as one JSON object."""
        return {
            "streams": {
                name: [self._map_as_dict(name, m) for m in stream.maps]
                for name, stream in self.streams.items()
            },
            "outcomes": [
                {"stream": s, "outcome": o, "reason": reason, "signals": count}
                for (s, o, reason), count in self.outcomes.items()
            ],
            "signals": self.signals,
            "to_send": self.to_send,
            "minutes": self.minutes(settings),
        }

    def _map_as_dict(
        self, stream: str, compiled_mapping: CompiledMapping
    ) -> dict[str, Any]:
        coverage = self.coverage.get((stream, compiled_mapping.name), Coverage())
        return {
            "name": compiled_mapping.name,
            "is_left_out": compiled_mapping.is_left_out,
            "fields": {
                name: {"template": origin.template, "why": origin.why}
                for name, origin in compiled_mapping.origins.items()
            },
            "key": list(compiled_mapping.key),
            "send": compiled_mapping.send,
            "records": coverage.records,
            "coverage": {name: coverage.share(name) for name in _COVERED},
        }
