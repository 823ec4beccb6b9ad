"""Compare the signals that two configs make of the same records, without a ledger."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from stairoids_common.text import CODE, as_code, one_line
from target_stairoids.dedup.record import same_value
from target_stairoids.dry_run.runner import NO_LEDGER, run_dry
from target_stairoids.exceptions import ConfigError, MessageError, StairoidsError
from target_stairoids.sending.observer import Observation

#: One record: its stream, its digest, and how often it came before.
_Record = tuple[str, bytes, int]
_Signals = dict[str, bytes]  # by the name of the mapping
#: Code, and the characters that begin a markup elsewhere.
_MARKUP = re.compile(rf"{CODE.pattern}|[][\\`*_~<&]", re.DOTALL)


class StreamChanges(msgspec.Struct):
    """The changes of a stream's signals, counted; `reasons` are why some are gone."""

    new: int = 0
    gone: int = 0
    changed: int = 0
    same: int = 0
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    fields: Counter[str] = msgspec.field(default_factory=Counter)


class Comparison(msgspec.Struct):
    """The changes by stream, and some examples, which have personal data."""

    streams: dict[str, StreamChanges]
    examples: list[dict[str, Any]]

    def as_markdown(self) -> str:
        """Return the counts for a comment on a pull request, without values."""
        header = (
            "| stream | new | gone | changed | same | changed fields | gone because |"
        )
        lines = [header, "| --- | ---: | ---: | ---: | ---: | --- | --- |"]
        for name, found in sorted(self.streams.items()):
            counts = found.new, found.gone, found.changed, found.same
            cells = [as_code(name), *(f"{n:,}" for n in counts)]
            cells += [_listed(found.fields, as_code), _listed(found.reasons, _escaped)]
            escaped = (one_line(cell).replace("|", r"\|") for cell in cells)
            lines.append(f"| {' | '.join(escaped)} |")
        total = sum(s.new + s.gone + s.changed for s in self.streams.values())
        title = "Signals that change" if total else "No signal changes"
        return "\n".join([f"### {title}", "", *lines, ""])


def _escaped(text: str) -> str:
    """Return a text in which only the parts between backticks have a markup."""
    return _MARKUP.sub(lambda m: m[0] if m["code"] else rf"\{m[0]}", text)


def _listed(counts: Counter[str], written: Callable[[str], str]) -> str:
    return ", ".join(f"{written(n)} ({count:,})" for n, count in counts.most_common())


class _Signalled:
    """The signals of each record, and why there is none."""

    def __init__(self) -> None:
        self.signals: defaultdict[_Record, _Signals] = defaultdict(dict)
        self.reasons: defaultdict[_Record, dict[str, str]] = defaultdict(dict)
        self._times: Counter[tuple[str, bytes, str]] = Counter()

    def note(self, observation: Observation) -> None:
        name, mapping = observation.stream.schema.name, observation.compiled_mapping
        mapping_name = mapping.name if mapping else ""
        text = json.dumps(observation.record, sort_keys=True, default=str)
        digest = blake2b(text.encode(errors="replace"), digest_size=16).digest()
        self._times[name, digest, mapping_name] += 1
        record = name, digest, self._times[name, digest, mapping_name]
        signals = self.signals[record]
        if observation.request:
            signals[mapping_name] = observation.request
        else:
            outcome, reason = str(observation.outcome), observation.reason
            text = f"{outcome}: {reason}" if reason else outcome
            self.reasons[record][mapping_name] = text

    def why_none(self, record: _Record, mapping_name: str) -> str:
        """Return why a mapping makes no signal of a record."""
        reasons = self.reasons[record]
        others = next(iter(reasons.values()), "no mapping")  # it has another name now
        return reasons.get(mapping_name, others)


def compare(
    old_inputs: Sequence[str],
    new_inputs: Sequence[str],
    messages: list[str],
    *,
    examples: int,
) -> Comparison:
    """Return how the signals of messages differ between two configs, with examples."""
    old, new = _Signalled(), _Signalled()
    options = {"ledger_url": NO_LEDGER, "first_run": "send"}
    try:
        run_dry(old_inputs, messages, old.note, **options)
    except MessageError:
        raise
    except StairoidsError as error:
        raise ConfigError(f"--against: {error}") from error
    run_dry(new_inputs, messages, new.note, **options)
    found = Comparison({}, [])
    for record in old.signals | new.signals:
        changes = found.streams.setdefault(record[0], StreamChanges())
        pairs = _pairs(old.signals[record], new.signals[record])
        for name, before, after in pairs:
            fields = _differences(before, after)
            if before is None:
                changes.new += 1
            elif after is None:
                changes.gone += 1
                changes.reasons[new.why_none(record, name)] += 1
            elif fields:
                changes.changed += 1
                changes.fields.update(fields.keys())
            else:
                changes.same += 1
            if fields and len(found.examples) < examples:
                kind = "new" if not before else "gone" if not after else "changed"
                example = {"stream": record[0], "change": kind, "fields": fields}
                found.examples.append(example)
    return found


def _pairs(
    old: _Signals, new: _Signals
) -> Iterator[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
    """Yield mapping, old and new fields of each signal, also of a renamed mapping."""
    both = [name for name in old if name in new]
    yield from ((n, _fields_of(old[n]), _fields_of(new[n])) for n in both)
    before = [(name, body) for name, body in old.items() if name not in new]
    after = [(name, body) for name, body in new.items() if name not in old]
    for one, other in itertools.zip_longest(before, after):
        name, _ = one or other
        yield name, one and _fields_of(one[1]), other and _fields_of(other[1])


def _fields_of(body: bytes) -> dict[str, Any]:
    """Return a signal's fields: `type`, `account.domain`, `properties.plan`."""
    fields: dict[str, Any] = {}
    for name, value in json.loads(body).items():
        if isinstance(value, dict):
            fields |= {f"{name}.{key}": found for key, found in value.items()}
        else:
            fields[name] = value
    return fields


def _differences(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> dict[str, list[Any]]:
    """Return field -> its old and its new value, null for none."""
    old, new = before or {}, after or {}
    return {
        name: [old.get(name), new.get(name)]
        for name in {**old, **new}
        if not same_value(old.get(name), new.get(name))
    }
