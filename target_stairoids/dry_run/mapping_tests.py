"""Run mapping tests: example records with the signals that are expected of them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import IO, Annotated, Any, Literal

import msgspec
import yaml
from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import override

from stairoids_common.config_errors import one_a_line, schema_errors
from target_stairoids.dedup.record import same_value
from target_stairoids.dry_run.runner import NO_LEDGER, run_dry
from target_stairoids.exceptions import ConfigError, StairoidsError
from target_stairoids.sending.observer import Observation

_Text = Annotated[str, Meta(min_length=1)]


class MappingTest(Struct, forbid_unknown_fields=True):
    """A record and the signals, or the outcome, that are expected of it."""

    name: _Text
    stream: _Text
    record: dict[Any, Any]
    schema: dict[str, Any] | UnsetType = UNSET  # by default, the fields of the record
    key_properties: list[str] = []
    signals: list[dict[str, Any]] | UnsetType = UNSET
    outcome: Literal["filtered", "invalid"] | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class _File(Struct, forbid_unknown_fields=True):
    tests: Annotated[list[MappingTest], Meta(min_length=1)]


class _Loader(yaml.SafeLoader):
    """Reads `2024-06-15`, `12:30`, `01067` and all names as text, as a tap has them."""

    @override
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if twice := [name for name in names if names.count(name) > 1]:
            problem = f"`{twice[0]}` is set twice"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        self.flatten_mapping(node)
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode):  # such as `1` or `on`
                name.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_NOT_IN_JSON = ("timestamp", "int", "float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(_NOT_IN_JSON)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_DIGITS = [*"-+.0123456789"]
_WHOLE = r"[-+]?(?:0|[1-9]\d*)"
for _tag, _form in (
    ("int", _WHOLE),
    ("float", rf"{_WHOLE}(?:\.\d*)?(?:[eE][-+]?\d+)?|[-+]?\.(?:\d+|inf)|\.nan"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), _DIGITS
    )


def read_tests(file: IO[str]) -> list[MappingTest]:
    """Read mapping tests, whose rules are in `docs/guides/test-a-mapping.md`."""
    try:
        found = yaml.load(file, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"The mapping tests are not YAML: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError("The mapping tests are not an object with `tests`.")
    try:
        json.dumps(found)
    except (TypeError, ValueError, RecursionError):  # `!!set`, or `&a [*a]`
        raise ConfigError("The mapping tests have a value that JSON lacks.") from None
    if errors := schema_errors(found, msgspec.json.schema(_File)):
        raise ConfigError(one_a_line(errors))
    tests = msgspec.convert(found, _File).tests
    for test in tests:
        if (test.signals is UNSET) == (test.outcome is UNSET):
            raise ConfigError(
                f"Test `{test.name}` needs either `signals` or `outcome`."
            )
    return tests


def _messages_of(test: MappingTest) -> list[str]:
    # Without a schema, a mapping may also read fields that the record lacks.
    schema = test.schema or {
        "properties": {name: {} for name in test.record},
        "additionalProperties": True,
    }
    # With `send: once` a stream needs a key. One record may have any.
    key = test.key_properties or [n for n in test.record if test.schema is UNSET][:1]
    messages: tuple[dict[str, Any], ...] = (
        {"type": "SCHEMA", "schema": schema, "key_properties": key},
        {"type": "RECORD", "record": test.record},
    )
    return [json.dumps({"stream": test.stream, **message}) for message in messages]


def failure_of(config: Mapping[str, Any], test: MappingTest) -> str | None:
    """Run a test, and return the difference from the expected result, if any."""
    observed: list[Observation] = []
    options = {"ledger_url": NO_LEDGER, "is_partial": True}
    try:
        run_dry(config, _messages_of(test), observed.append, **options)
    except StairoidsError as error:
        return str(error)
    return _difference(test, observed)


def _difference(test: MappingTest, observed: Sequence[Observation]) -> str | None:
    expected: Any = test.signals
    found: Any = [json.loads(one.request) for one in observed if one.request]
    not_sent = [
        {"outcome": str(one.outcome), "reason": one.reason}
        for one in observed
        if not one.request
    ]
    if expected is not UNSET:
        is_met = same_value(expected, found)
    else:
        expected = {"outcome": test.outcome, "reason": test.reason}
        expected = {name: value for name, value in expected.items() if value}
        is_met = any(
            held["outcome"] == test.outcome and (test.reason or "") in held["reason"]
            for held in not_sent
        )
    if is_met:
        return None
    if not_sent and not found:
        found = not_sent[0]
    one, other = (
        yaml.safe_dump(value, allow_unicode=True).splitlines()
        for value in (expected, found)
    )
    return "\n".join(
        difflib.unified_diff(one, other, "expected", "mapped", lineterm="")
    )
