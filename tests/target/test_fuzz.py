"""Any SCHEMA, RECORD, STATE, BATCH, environment and config: a sentence, no traceback.

`STAIROIDS_FUZZ` is the number of examples of each test: 5,000 in `make soak`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from target_stairoids.exceptions import StairoidsError
from target_stairoids.target import INPUT_ERRORS, TargetStairoids, target_from
from tests.support.singer_io import a_record, a_schema, a_state

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

Json = Any  # any JSON value
EXPECTED = (StairoidsError, *INPUT_ERRORS, SystemExit)
FUZZ = settings(
    max_examples=int(os.environ.get("STAIROIDS_FUZZ", "25")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = [
    *("type", "properties", "anyOf", "oneOf", "items", "$ref", "required", "format"),
    *(
        "additionalProperties",
        "id",
        "ID",
        "\ufeffid",
        "email",
        "é",
        "",
        "a.b",
        "x" * 300,
    ),
    *("occurred_at", "updated_at", "_sdc_deleted_at", "_sdc_stairoids_dead_letter"),
    *("user", "password", "is_deleted", "\ud800", "{{ id }}", "stream", "record"),
]
TEXTS = st.sampled_from(
    [
        *NAMES,
        *("string", "null", "object", "ada@acme.com", "2025-11-05", "45292", "1e9"),
        *("{{ email", "{{ now() }}", "{x}", "${EMAIL}", "[a]", "a*b", "\x00", "true"),
        *("sqlite://", "https://[", "postgresql://u:p@/x", "gzip", "file:///no", "-1"),
    ]
) | st.text(max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**18, 10**400, -(10**30), 10**4300 - 1, -(10**4299)])
    | st.floats()
    | TEXTS
)


def deep(depth: int, name: str | None) -> Json:
    """Return a value inside so many lists, or objects with one name."""
    value: Json = 1
    for _ in range(depth):
        value = [value] if name is None else {name: value}
    return value


VALUES = st.recursive(
    SCALARS
    | st.builds(
        deep, st.sampled_from([50, 200, 400]), st.none() | st.sampled_from(NAMES)
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=3
        )
    ),
    max_leaves=6,
)
MESSAGES = [
    {
        **a_schema(bookmark="updated_at", updated_at="string", tags="array"),
        "schema": {
            "type": "object",
            "properties": {
                **a_schema()["schema"]["properties"],
                "updated_at": {"type": "string", "format": "date-time"},
                "event_time": {"type": ["null", "string"]},
                "user": {
                    "anyOf": [
                        {"type": "object", "properties": {"email": {"type": "string"}}},
                        {"type": "null"},
                    ]
                },
            },
        },
    },
    a_record(
        updated_at="2025-01-01T00:00:00Z",
        event_time="5.11.2025",
        user={"email": "x@acme.com"},
    ),
    a_record(2),
    a_state("é"),
    {
        "type": "BATCH",
        "stream": "trials",
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "manifest": ["file:///nowhere/b.gz"],
    },
    a_schema(),
    a_state(2),
]
CONFIG: dict[str, Any] = {
    "api_key": "sk_test",
    "dry_run": True,
    "source": "crm",
    "suppress": ["x@example.com"],
    "stream_maps": {"trials": {"email": "email.lower() if email else None"}},
    "flattening_enabled": True,
    "flattening_max_depth": 1,
    "signals": [
        {
            "stream": "trials",
            "type": "trial_{{ id }}",
            "name": "trial",
            "contact": {"email": "{{ email }}"},
            "occurred_at": "{{ event_time | iso8601 }}",
            "properties": ["id", {"when": "{{ updated_at }}"}],
            "when": "id > 0",
            "key": ["id"],
            "ignore_changes": ["updated_at"],
        },
        {"stream": "*"},
    ],
}


def places_in(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each part of a JSON value."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places_in(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places_in(inner, (*path, number))


@st.composite
def changed(draw: st.DrawFn, original: Json) -> Json:
    """Return a JSON value of which some parts are replaced, renamed or removed."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places_in(value)) or [()]))
        if not path:
            return value
        parent: Any = value
        for part in path[:-1]:
            parent = parent[part]
        match draw(st.sampled_from(["replace", "replace", "rename", "remove"])):
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(NAMES))] = parent.pop(path[-1])
            case "remove":
                del parent[path[-1]]
            case _:
                parent[path[-1]] = draw(VALUES)
    return value


@contextmanager
def handlers_as_they_were() -> Iterator[None]:
    """Undo the handlers of SIGTERM and SIGINT that a target installs."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run(lines: list[str], **config: Any) -> None:
    """Run without sending. Any other error than an expected one is a failure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8") as tap,
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        tap.write("\n".join(lines))
        tap.seek(0)
        url = f"sqlite:///{folder}/ledger.db"
        given = {"api_key": "x", "dry_run": True, "ledger_url": url, **config}
        with suppress(*EXPECTED):
            with handlers_as_they_were():
                target = TargetStairoids(config=given)
            target.listen(tap)


def lines_of(messages: object) -> list[str]:
    listed = messages if isinstance(messages, list) else [messages]
    return [json.dumps(message) for message in listed]


@FUZZ
@given(messages=changed(MESSAGES), is_mapped=st.booleans(), is_flat=st.booleans())
def test_any_messages(messages: Json, *, is_mapped: bool, is_flat: bool) -> None:
    config = {
        **({"signals": CONFIG["signals"]} if is_mapped else {}),
        **({"flattening_enabled": True, "flattening_max_depth": 2} if is_flat else {}),
    }

    run(lines_of(messages), **config)


@FUZZ
@given(record=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), value=VALUES)
def test_any_record_and_state(record: dict[str, Json], value: Json) -> None:
    message = {"type": "RECORD", "stream": "trials", "record": {"id": 1, **record}}
    state = {"type": "STATE", "value": value}

    run(lines_of([a_schema(), message, state]))
    run(lines_of([a_schema(), message]), signals=CONFIG["signals"][1:])


@FUZZ
@given(config=changed(CONFIG))
def test_any_config(config: Json) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        try:
            with handlers_as_they_were():
                target = target_from([str(path)])
        except EXPECTED:
            return
        given = {n: v for n, v in target.config.items() if n != "ledger_url"}
        run(lines_of(MESSAGES[:4]), **{**given, "dry_run": True})


SETTINGS = sorted(TargetStairoids.config_jsonschema["properties"])
VARIABLES = st.sampled_from(SETTINGS).map(str.upper) | st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12
)
VALUES_OF_VARIABLES = (TEXTS | VALUES.map(json.dumps)).filter(
    lambda text: "\x00" not in text and text.isprintable()
)


@FUZZ
@given(variables=st.dictionaries(VARIABLES, VALUES_OF_VARIABLES, max_size=4))
def test_any_environment(variables: dict[str, str]) -> None:
    found = {f"TARGET_STAIROIDS_{name}": text for name, text in variables.items()}
    environment = {"TARGET_STAIROIDS_API_KEY": "x", **found}
    with (
        patch.dict(os.environ, environment),
        handlers_as_they_were(),
        suppress(*EXPECTED),
    ):
        target_from(["ENV"]).settings()


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
