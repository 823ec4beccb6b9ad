"""Exactly the expected signals are sent, for any rows that a tap repeats.

The model is a second, simpler version of the rules of `docs/delivery.md`. Hypothesis
looks for syncs where the target differs from it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stairoids_sandbox import Sandbox
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

Row = tuple[int, str, int]  # id, plan, bookmark value
ROWS = st.tuples(st.integers(1, 3), st.sampled_from(["free", "pro"]), st.integers(1, 4))
SYNCS = st.lists(st.lists(ROWS, min_size=1, max_size=6), min_size=1, max_size=4)


@dataclass
class Model:
    """The expected content of the ledger, and the expected signals."""

    has_bookmark: bool
    send: str
    sent: list[tuple[int, str]] = field(default_factory=list)
    settled: dict[tuple[object, ...], int] = field(default_factory=dict)
    latest: dict[int, Row] = field(default_factory=dict)

    def sync(self, number: int, rows: list[Row]) -> None:
        """Read rows in one run that ends with exit code 0."""
        for row in rows:
            self._read(number, row)

    def _read(self, number: int, row: Row) -> None:
        identity, plan, bookmark = row
        version = row if self.has_bookmark else (identity, plan)
        latest = self.latest.get(identity)
        if self.has_bookmark:
            if version in self.settled:
                return
            if latest and bookmark < latest[2] and self.send != "always":
                return
        elif self.settled.get(version) == number or (latest and latest[1] == plan):
            return
        is_sent = (
            latest is None
            or self.send == "always"
            or (self.send == "on_change" and latest[1] != plan)
        )
        if self.send == "once" and latest is not None:
            return  # nothing is settled, and nothing becomes the latest
        if is_sent:
            self.sent.append((identity, plan))
        self.settled[version] = number
        if not (self.has_bookmark and latest and bookmark < latest[2]):
            self.latest[identity] = row


@pytest.mark.parametrize("send", ["once", "on_change", "always"])
@pytest.mark.parametrize("has_bookmark", [True, False], ids=["bookmark", "full table"])
@settings(max_examples=8, deadline=None)
@given(syncs=SYNCS)
def test_exactly_the_expected_signals_are_sent(
    *, send: str, has_bookmark: bool, syncs: list[list[Row]]
) -> None:
    model = Model(has_bookmark, send)
    schema = a_schema(
        bookmark="at" if has_bookmark else None, plan="string", at="integer"
    )
    mapping = {"stream": "trials", "send": send, "properties": ["id", "plan"]}
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        target = TargetUnderTest(Path(folder), sandbox.url, signals=[mapping])
        for number, rows in enumerate(syncs, start=1):
            model.sync(number, rows)
            records = [a_record(row, plan=plan, at=at) for row, plan, at in rows]
            if not has_bookmark:
                for record in records:
                    del record["record"]["at"]
            run = target.run(schema, *records, a_state(number))
            assert run.exit_code == 0
            assert run.states == [{"at": number}]
            assert run.report["adds_up"]
        sent = [
            (s.body["properties"]["id"], s.body["properties"]["plan"])
            for s in sandbox.signals
        ]

    for identity in (1, 2, 3):
        ours = [pair for pair in sent if pair[0] == identity]
        assert ours == [pair for pair in model.sent if pair[0] == identity]
