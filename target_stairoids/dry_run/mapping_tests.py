"""Mapping tests: example records and the signals that are expected of them.

They run without key and network, each through stream maps, mapping and contract.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import yaml

from stairoids_common.config_errors import config_errors
from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import ConfigError, StairoidsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_stairoids.sending.observer import Decision, Observer
    from target_stairoids.sending.streams import Stream

Json = Any  # what JSON can hold; narrowed where it is read

_SCHEMA: dict[str, Json] = {
    "type": "object",
    "required": ["tests"],
    "additionalProperties": False,
    "properties": {
        "tests": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "stream", "record"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "stream": {"type": "string", "minLength": 1},
                    "record": {"type": "object"},
                    "schema": {"type": "object"},
                    "key_properties": {"type": "array", "items": {"type": "string"}},
                    "signals": {"type": "array", "items": {"type": "object"}},
                    "outcome": {"enum": ["filtered", "invalid"]},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}


class _Loader(yaml.SafeLoader):
    """YAML in which `2024-06-15` is a text, as it is in a tap's record."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if "timestamp" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Case:
    """One mapping test.

    Attributes:
        expected: The signals, or the outcome and a part of its reason.
    """

    name: str
    messages: list[str]
    expected: dict[str, Json]


def cases_in(file: IO[str]) -> list[Case]:
    """Read mapping tests.

    Raises:
        ConfigError: The file is not what `docs/mapping.md` describes.
    """
    try:
        found = yaml.load(file, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        msg = f"The mapping tests are not YAML: {error}"
        raise ConfigError(msg) from error
    if not isinstance(found, dict):
        msg = "The mapping tests are not an object with `tests`."
        raise ConfigError(msg)
    if errors := config_errors(found, _SCHEMA):
        raise ConfigError("; ".join(errors))
    return [_case(test) for test in found["tests"]]


def _case(test: dict[str, Json]) -> Case:
    if ("signals" in test) == ("outcome" in test):
        msg = f"Test `{test['name']}` needs either `signals` or `outcome`."
        raise ConfigError(msg)
    stream, record = test["stream"], test["record"]
    # Without a schema the record's own fields are what is known, and not all there is.
    schema = test.get("schema") or {
        "properties": {name: {} for name in record},
        "additionalProperties": True,
    }
    key = test.get("key_properties", [])
    messages: list[dict[str, Json]] = [
        {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": key},
        {"type": "RECORD", "stream": stream, "record": record},
    ]
    wanted: dict[str, Json] = {
        n: test[n] for n in ("signals", "outcome", "reason") if n in test
    }
    return Case(test["name"], list(map(json.dumps, messages)), wanted)


class _Observed:
    """Watches the rehearsal of one case."""

    def __init__(self) -> None:
        self.signals: list[Json] = []
        self.held: list[tuple[str, str]] = []

    def opened(self, stream: Stream) -> None:
        """Note nothing."""

    def decided(self, decision: Decision) -> None:
        """Note what became of the record, if it is not sent."""
        if decision.outcome is not Outcome.WOULD_SEND:
            self.held.append((str(decision.outcome), decision.reason))

    def would_send(self, _stream: Stream, body: bytes) -> None:
        """Note a signal."""
        self.signals.append(json.loads(body))


def failure_of(
    case: Case, run_dry: Callable[[list[str], Observer], object]
) -> str | None:
    """Run a case.

    Args:
        run_dry: Runs messages past a observer.

    Returns:
        What differs from what is expected, as lines; None if nothing does.
    """
    seen = _Observed()
    try:
        run_dry(case.messages, seen)
    except StairoidsError as error:
        return str(error)
    if "signals" in case.expected:
        return _difference(case.expected["signals"], _observed(seen))
    wanted, reason = case.expected["outcome"], case.expected.get("reason", "")
    if any(held == wanted and reason in why for held, why in seen.held):
        return None
    expected = {
        n: case.expected[n] for n in ("outcome", "reason") if n in case.expected
    }
    return _difference(expected, _observed(seen))


def _observed(seen: _Observed) -> Json:
    """Return what was observed as a test would expect it."""
    if seen.signals or not seen.held:
        return seen.signals
    outcome, reason = seen.held[0]
    return {"outcome": outcome, "reason": reason}


def _difference(expected: Json, observed: Json) -> str | None:
    if expected == observed or (expected == [] and not isinstance(observed, list)):
        return None
    one, other = (
        yaml.safe_dump(value, allow_unicode=True).splitlines()
        for value in (expected, observed)
    )
    return "\n".join(
        difflib.unified_diff(one, other, "expected", "mapped", lineterm="")
    )
