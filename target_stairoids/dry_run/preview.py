"""Collect the mappings, outcomes, sample signals and duration of a dry run.

The coverage of a mapping are the fields that records fill, and unreadable values.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from typing_extensions import override

from target_stairoids.dedup.outcome import Outcome
from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping import people_and_companies as people
from target_stairoids.mapping.expressions.filters import known
from target_stairoids.mapping.expressions.paths import Path, path_text
from target_stairoids.mapping.expressions.template import Reader, path_reader, paths_in
from target_stairoids.mapping.names import clean_name
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.mapping.times import likely_event_time_from
from target_stairoids.mapping.values import is_filled
from target_stairoids.reporting.run_status import PLANS, Plan
from target_stairoids.sending.observer import Observation, Observer
from target_stairoids.sending.streams import Stream
from target_stairoids.settings import Settings

_ORDER = ("type", "source", "occurred_at", "account", "contact", "properties")


NO_STREAM = (
    "The messages have no SCHEMA, so there is no stream. Did the tap fail? "
    "Or is no stream selected in its catalog?"
)


def _address(text: str) -> str | None:
    return people.clean_email(text) or people.clean_domain(text)


#: Field -> the function that reads a column's value for it.
_READABLE: Mapping[str, Callable[[Any], str | None]] = {
    "account.domain": _address,
    "account.name": clean_name,
    "contact.email": _address,
    "contact.first_name": clean_name,
    "contact.last_name": clean_name,
    "occurred_at": likely_event_time_from,
    "suppress": people.entry_of,
}
FIELDS = tuple(name for name in _READABLE if name != "suppress")
#: Field -> whether Stairoids accepts its value.
_ACCEPTED = {"contact.email": people.is_email, "account.domain": people.is_domain}


class Coverage:
    """The records of a mapping that were not filtered, and their values.

    Attributes:
        filled: Field, or property with `properties.` -> records that fill it.
        unreadable: Column -> values that cannot be read for the field they are for.
    """

    def __init__(self) -> None:
        self.records = 0
        self.filled: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, observation: Observation, mapping: CompiledMapping) -> None:
        """Count the values of a record."""
        record = observation.record
        if mapping.suppress is not None:
            if observation.outcome is Outcome.INVALID:
                self.unreadable.update(_unreadable(mapping, "suppress", record))
            return
        self.records += 1
        readers: dict[str, Reader] = {
            **{f"account.{name}": read for name, read in mapping.account.items()},
            **{f"contact.{name}": read for name, read in mapping.contact.items()},
            "occurred_at": mapping.occurred_at,
        }
        unreadable: list[str] = []
        for field in FIELDS:
            value = _value_of(readers[field], record) if field in readers else None
            if value and _ACCEPTED.get(field, bool)(value):
                self.filled[field] += 1
            else:
                unreadable += _unreadable(mapping, field, record)
        self.unreadable.update(dict.fromkeys(unreadable, 1))  # each column once
        for name, value in (_value_of(mapping.properties, record) or {}).items():
            self.filled[f"properties.{name}"] += is_filled(value)

    def share(self, field: str) -> float:
        """Return the share of records that fill a field, from 0 to 1."""
        return self.filled[field] / self.records if self.records else 0.0

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts by field and column, without zeros."""
        names = dict.fromkeys([*FIELDS, *self.filled]) if self.records else {}
        empty = {name: self.records - self.filled[name] for name in names}
        return {
            "empty": {name: count for name, count in empty.items() if count},
            "unreadable": dict(self.unreadable),
        }


def _value_of(read: Reader, record: dict[str, Any]) -> Any:  # noqa: ANN401 - any value of a record
    try:
        return read(record)
    except InvalidSignalError:
        return None


def _unreadable(
    mapping: CompiledMapping, field: str, record: dict[str, Any]
) -> Iterator[str]:
    """Yield the columns of a field whose values cannot be read for it."""
    paths = _paths_of(mapping, field)
    if field in {"contact.first_name", "contact.last_name"}:
        # An inferred name is that of the person whose address counts.
        paths -= _paths_of(mapping, "contact.email")
    for path in sorted(paths, key=str):
        value = known(path_reader(path)(record))
        is_for_field = isinstance(value, str) or field == "occurred_at"
        if is_for_field and is_filled(value) and not _READABLE[field](value):
            yield path_text(path)


def _paths_of(mapping: CompiledMapping, field: str) -> frozenset[Path]:
    origin = mapping.origins.get(field)
    return paths_in(origin.template if origin else None)


class Preview(Observer):
    """Observes a dry run, and keeps so many sample signals."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.streams: dict[str, Stream] = {}
        self._coverage: defaultdict[tuple[str, str], Coverage] = defaultdict(Coverage)
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
            coverage = self._coverage[name, mapping.name]
            coverage.reasons[observation.reason] += 1
            if outcome is not Outcome.FILTERED:
                coverage.add(observation, mapping)
        if observation.request:
            signal = json.loads(observation.request)
            self.pairs.add((signal["source"], signal["type"]))
            if len(self.signals) < self._samples:
                ordered = {field: signal[field] for field in _ORDER if field in signal}
                self.signals.append({"stream": name, **ordered})

    def mappings(self) -> Iterator[tuple[str, CompiledMapping, Coverage]]:
        """Yield each mapping with the name of its stream and its coverage."""
        for name, stream in self.streams.items():
            for mapping in stream.maps:
                yield name, mapping, self._coverage[name, mapping.name]

    @property
    def to_send(self) -> int:
        """How many signals the run would send."""
        counts = self.outcomes.items()
        return sum(n for (_, o, _), n in counts if o == Outcome.WOULD_SEND)

    def minutes(self, settings: Settings) -> dict[str, float]:
        """Return the minutes that sending takes, by plan or by the limit set."""
        limit, per_day = settings.requests_per_minute, settings.requests_per_day
        plans = {f"{limit} per minute": Plan(limit)} if limit else PLANS
        return {
            name: round(Plan(per_minute, per_day or usual).minutes(self.to_send), 2)
            for name, (per_minute, usual) in plans.items()
        }

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
