"""kill -9, again and again: nothing is sent twice, nothing is lost.

Runs sync two tables and are killed while they make progress. In one table, two people
share each key. Between two runs, rows change. Some runs replay from an older STATE.
Responses are lost or late, requests fail, and connections are reset. Lists lag, and our
clock is wrong by hours. `STAIROIDS_KILLS` is the number of kills, and
`STAIROIDS_LATE_SECONDS` the delay of late responses. `make soak` has more of both.
"""

from __future__ import annotations

import math
import os
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault, Sandbox
from tests.support.connectors import AirbyteUnderTest
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("STAIROIDS_KILLS", "10"))
LATE_SECONDS = float(os.environ.get("STAIROIDS_LATE_SECONDS", "1"))
LAG_SECONDS = LATE_SECONDS / 5
ROWS = max(40, 10 * KILLS)
#: Hundreds of killed runs leave more changes than the check of bulk changes lets pass.
MAPPING = {"stream": "*", "bulk_changes": "expected"}
SIGNALS: dict[str, Any] = {"signals": [MAPPING]} if KILLS > 10 else {}

pytestmark = pytest.mark.slow


class Tables:
    """Rows that change over time, as a tap with a bookmark reads them.

    Even rows have keys of their own. Two odd rows each share one.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._clock = 0
        self.plans: dict[int, int] = {}
        self._changed_at: dict[int, int] = {}

    def change(self, count: int) -> None:
        """Insert or update so many rows."""
        for _ in range(count):
            self._clock += 1
            row = self._chance.randint(1, ROWS)
            self.plans[row] = self.plans.get(row, 0) + 1
            self._changed_at[row] = self._clock

    def states(self, until: int) -> set[tuple[int, int]]:
        """Return each row with its present plan, if it changed until then."""
        changes = self._changed_at.items()
        return {(row, self.plans[row]) for row, at in changes if at <= until}

    def messages(self, since: int = 0) -> list[Message]:
        """Return the messages of a tap that starts from a bookmark."""
        columns = {"plan": "integer", "at": "integer", "row": "integer"}
        messages = [
            a_schema(stream, bookmark="at", **columns) for stream in ("trials", "seats")
        ]
        by_change = sorted(self._changed_at.items(), key=lambda item: item[1])
        for row, changed_at in by_change:
            if changed_at >= since:
                fields = {"plan": self.plans[row], "at": changed_at, "row": row}
                if row % 2:
                    fields["id"] = row // 4
                stream = "seats" if row % 2 else "trials"
                messages.append(a_record(row, stream, **fields))
                messages.append(a_state(changed_at))
        return messages


def faults(seed: int) -> list[Fault]:
    return [
        Fault(kind="drop_after_accept", probability=0.06, seed=seed),
        Fault(kind="status_after_accept", status=504, probability=0.04, seed=seed),
        Fault(kind="status_after_accept", status=500, probability=0.02, seed=seed),
        Fault(kind="status", status=500, probability=0.04, seed=seed),
        Fault(kind="reset", probability=0.02, seed=seed),
        Fault(kind="slow", delay_ms=15),
        *(
            Fault(kind=kind, delay_ms=1000 * LATE_SECONDS, probability=0.03, seed=seed)
            for kind in ("slow", "slow_accept")
        ),
    ]


def run_and_kill(
    target: TargetUnderTest, sandbox: Sandbox, text: str, *, after: int
) -> tuple[bool, list[Any]]:
    """Kill a run once so many more signals were accepted, unless it ends before."""
    with target.start(text) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.close()  # changed signals wait for the end of the input
        goal = len(sandbox.signals) + after
        wait_until(
            lambda: len(sandbox.signals) >= goal or process.poll() is not None,
            seconds=60 + 40 * LATE_SECONDS,  # hundreds of claims may be looked up first
        )
        process.kill()
        printed = process.stdout.read().decode()
        whole = printed[: printed.rfind("\n") + 1]
        return process.wait() == -signal.SIGKILL, target.states_in(whole)


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.mark.parametrize(
    ("ledger_url", "connector", "clock_is_off_by"),
    [
        ("sqlite", TargetUnderTest, 10_800),
        ("postgres", AirbyteUnderTest, -10_800),
        # The two above have the code of both ledgers and of both connectors.
        pytest.param("sqlite", AirbyteUnderTest, -10_800, marks=pytest.mark.soak),
        pytest.param("postgres", TargetUnderTest, 10_800, marks=pytest.mark.soak),
    ],
    indirect=["ledger_url"],
)
def test_each_version_of_each_row_is_sent_once(
    tmp_path: Path,
    ledger_url: str,
    connector: type[TargetUnderTest],
    clock_is_off_by: float,
) -> None:
    seed = int(os.environ.get("STAIROIDS_SEED", "1"))
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    tables = Tables(chance)
    kills, ahead = 0, set[tuple[int, int]]()
    bookmarks = [0]
    with Sandbox(
        faults=faults(seed),
        clock_offset_seconds=clock_is_off_by,
        list_lag_seconds=LAG_SECONDS,
    ) as sandbox:
        target = connector(
            tmp_path,
            sandbox.url,
            ledger_url=ledger_url,
            request_timeout_seconds=math.ceil(LATE_SECONDS) + 1,
            verify_delay_seconds=math.ceil(LAG_SECONDS),
            outage_seconds=60,
            **SIGNALS,
        )
        for _ in range(KILLS * 2):
            if kills == KILLS:
                break
            tables.change(chance.randint(5, 30))
            since = chance.choice([0, bookmarks[-1], chance.choice(bookmarks)])
            text = text_of(tables.messages(since))
            killed, states = run_and_kill(
                target, sandbox, text, after=chance.randint(1, 6)
            )
            kills += killed
            bookmarks += [state["at"] for state in states]
            for state in states[-1:]:
                ahead |= tables.states(state["at"]) - sent_by(sandbox).keys()
        for place, since in enumerate((bookmarks[-1], 0)):
            # Lookups need a signal that is accepted later.
            sandbox.faults.set([])
            later = [a_schema("later"), a_record(place, "later")]
            last = target.shell(text_of([*tables.messages(since), *later]))
            assert last.returncode == 0, last.stderr[-2000:]
        sent = sent_by(sandbox)

    assert kills == KILLS, "the kills must hit running processes"
    assert ahead == set(), "STATE must not pass a row that was not sent"
    assert {pair for pair, count in sent.items() if count > 1} == set()
    assert {pair for pair in tables.plans.items() if pair not in sent} == set()
    assert target.report()["adds_up"]
    figures = f"{kills} kills, {sent.total()} signals, {len(sandbox.requests)} requests"
    print(figures)  # noqa: T201 - the figures of `make soak`


def sent_by(sandbox: Sandbox) -> Counter[tuple[int, int]]:
    """Count the accepted signals of each row and plan."""
    return Counter(
        (s.body["properties"]["row"], s.body["properties"]["plan"])
        for s in sandbox.signals
        if s.type != "later"
    )
