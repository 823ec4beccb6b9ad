"""Run mapping tests: example records with the signals that are expected of them."""

from __future__ import annotations

import difflib
import json
from typing import IO, TYPE_CHECKING, Any

import yaml

from stairoids_common.config_errors import config_errors
from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import ConfigError, StairoidsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_stairoids.sending.observer import Observation, Observer
    from target_stairoids.sending.streams import Stream

Json = Any  # a value that JSON can hold
Test = dict[str, Json]

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
    """Reads `2024-06-15` as text, as in the record of a tap."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if "timestamp" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_tests(file: IO[str]) -> list[Test]:
    """Read mapping tests.

    Raises:
        ConfigError: The file breaks the rules of `docs/mapping.md`.
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
    tests: list[Test] = found["tests"]
    for test in tests:
        if ("signals" in test) == ("outcome" in test):
            msg = f"Test `{test['name']}` needs either `signals` or `outcome`."
            raise ConfigError(msg)
    return tests


def _messages_of(test: Test) -> list[str]:
    """Return the SCHEMA and the RECORD of a test."""
    # Without a schema, a mapping may also read fields that the record lacks.
    schema = test.get("schema") or {
        "properties": {name: {} for name in test["record"]},
        "additionalProperties": True,
    }
    key = test.get("key_properties", [])
    return [
        json.dumps({"stream": test["stream"], **message})
        for message in (
            {"type": "SCHEMA", "schema": schema, "key_properties": key},
            {"type": "RECORD", "record": test["record"]},
        )
    ]


class _Result:
    """Observes the dry run of one test."""

    def __init__(self) -> None:
        self.signals: list[Json] = []
        self.not_sent: list[dict[str, str]] = []

    def opened(self, stream: Stream) -> None:
        """Do nothing."""

    def decided(self, decision: Observation) -> None:
        """Note the outcome of a record that is not sent."""
        if decision.outcome is not Outcome.WOULD_SEND:
            outcome = {"outcome": str(decision.outcome), "reason": decision.reason}
            self.not_sent.append(outcome)

    def would_send(self, _stream: Stream, body: bytes) -> None:
        """Note a signal."""
        self.signals.append(json.loads(body))

    def has_outcome(self, outcome: str, reason: str) -> bool:
        """Return whether a record ended so, for a reason with this text."""
        return any(
            found["outcome"] == outcome and reason in found["reason"]
            for found in self.not_sent
        )


def failure_of(
    test: Test, run_dry: Callable[[list[str], Observer], object]
) -> str | None:
    """Run a test.

    Args:
        run_dry: Makes a dry run over messages with an observer.

    Returns:
        The difference from the expected result, as lines. None if there is none.
    """
    result = _Result()
    try:
        run_dry(_messages_of(test), result)
    except StairoidsError as error:
        return str(error)
    found = (
        result.signals if result.signals or not result.not_sent else result.not_sent[0]
    )
    if "signals" in test:
        is_met = test["signals"] == (found if isinstance(found, list) else [])
        return None if is_met else _difference(test["signals"], found)
    if result.has_outcome(test["outcome"], test.get("reason", "")):
        return None
    expected = {name: test[name] for name in ("outcome", "reason") if name in test}
    return _difference(expected, found)


def _difference(expected: Json, found: Json) -> str:
    one, other = (
        yaml.safe_dump(value, allow_unicode=True).splitlines()
        for value in (expected, found)
    )
    return "\n".join(
        difflib.unified_diff(one, other, "expected", "mapped", lineterm="")
    )
