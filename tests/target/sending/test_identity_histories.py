"""Histories of rows, and how many signals each run of the target must send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from target_stairoids.sending import record_processor
from tests.support.connectors import on_both_connectors
from tests.support.paths import DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest

HISTORIES = json.loads((DATA / "identity_histories.json").read_text())

#: Field of a history -> column. `touch` is written by a loader at every sync.
LOADER, LOG = "_fivetran_synced", "_sdc_lsn"


def column(name: str, history: dict[str, Any]) -> str:
    """Return the column of a history's field.

    For `send: always`, `touch` is a column that the mapping does not use.
    """
    if name == "touch" and history["send"] != "always":
        return LOADER
    return LOG if name == "pos" and has_log(history) else name


def has_log(history: dict[str, Any]) -> bool:
    return any(row.get("log") for rows in history["runs"] for row in rows)


def messages(history: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages of each run."""
    rows = [
        [
            {"key": None}
            | {column(n, history): v for n, v in row.items() if n != "log"}
            for row in run
        ]
        for run in history["runs"]
    ]
    columns = {name for run in rows for row in run for name in row}
    schema = {
        "type": "SCHEMA",
        "stream": "deals",
        "schema": {"properties": {name: {} for name in columns}},
        "key_properties": ["key"],
        "bookmark_properties": ["pos"] if "pos" in columns else [],
    }
    for run in rows:
        records = [{"type": "RECORD", "stream": "deals", "record": r} for r in run]
        yield [schema, *records, {"type": "STATE", "value": {"at": 1}}]


def mapping(history: dict[str, Any]) -> dict[str, Any]:
    has_domain = any("domain" in row for rows in history["runs"] for row in rows)
    return {
        "stream": "deals",
        "type": "deal",
        "contact": {"email": "{{ email }}"},
        "account": {"domain": "{{ domain }}"} if has_domain else None,
        "when": "{{ stage != 'lost' }}",
        "properties": ["stage"],
        "send": history["send"],
    }


EACH_HISTORY = pytest.mark.parametrize(
    "history", HISTORIES, ids=[f"{n} {h['name']}" for n, h in enumerate(HISTORIES)]
)


def sent_by(
    sandbox: Sandbox, target: TargetUnderTest, history: dict[str, Any]
) -> list[int]:
    """Return how many signals each run of a history sends."""
    sent = []
    for run in messages(history):
        before = len(sandbox.signals)
        result = target.run(*run, signals=[mapping(history)])
        assert (result.exit_code, result.report["adds_up"]) == (0, True), result.error
        sent.append(len(sandbox.signals) - before)
    return sent


@EACH_HISTORY
def test_history_sends_each_state_once(
    sandbox: Sandbox,
    target: TargetUnderTest,
    history: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if len(history["runs"][0]) < 100:  # each record in a block of its own
        monkeypatch.setattr(record_processor, "_BLOCK", 1)

    assert sent_by(sandbox, target, history) == history["sent"]


@pytest.mark.slow
@EACH_HISTORY
@on_both_connectors
def test_history_sends_each_state_once_on_both_connectors(
    sandbox: Sandbox, target: TargetUnderTest, history: dict[str, Any]
) -> None:
    assert sent_by(sandbox, target, history) == history["sent"]
