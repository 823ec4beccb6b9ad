"""Each check of a stream, on both connectors: nothing is sent until its cause is gone.

The other stream of the same input is sent. A retry is stopped again. The check ends
with its cause, or with the command that its sentence names.
"""

from __future__ import annotations

import json
import shlex
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from stairoids_sandbox import Sandbox
from tests.support.commands import command, signals
from tests.support.connectors import AirbyteUnderTest
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)
from tests.target.checks.test_printed_commands import commands_in, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.singer_io import Message, Run

DEALS: Message = {"stream": "deals", "type": "deal", "name": "deal"}
BY_PLAN = DEALS | {"properties": ["plan"]}
OTHER = {"stream": "other", "type": "other"}


def rows(total: int, stream: str = "deals", **fields: Any) -> list[Message]:
    """Return records with fields that may be functions of their number."""
    return [
        a_record(
            n, stream, **{k: v(n) if callable(v) else v for k, v in fields.items()}
        )
        for n in range(1, total + 1)
    ]


class Input(NamedTuple):
    """The input of a run, and its mapping."""

    schema: Message
    rows: Sequence[Message]
    item: Message = DEALS

    def with_item(self, **fields: Any) -> Input:
        return self._replace(item=self.item | fields)


class Case(NamedTuple):
    """An input before, one that a check stops, and words of the check's sentence."""

    before: Input
    now: Input
    says: str


PLAN = a_schema("deals", plan="string")
KEYLESS = a_schema("deals", key=[], plan="string", seats="integer")
LSN = a_schema("deals", plan="string", _sdc_lsn="integer")
AT = a_schema("deals", plan="string", at="string", bookmark="at")
OPEN_ID = a_schema("deals", plan="string")
OPEN_ID["schema"]["properties"]["id"] = {}


def other_person(number: int) -> str:
    return f"somebody{number}@else.example"


def second_person(number: int) -> str:
    return f"second{number}@acme.example"


A, B = Input(PLAN, rows(60, plan="a")), Input(PLAN, rows(60, plan="b"))
ONCE = A.with_item(send="once")
SOURCES = "its signals had the source"
BULK = "of its 60 known records have changed"
COLUMNS = "the columns that identify its records have changed"
PEOPLE = "of them are about other people or companies"
REPEATED = "records as `deals` (deal)"
CASES = {
    "every row of a column changed": Case(A, B, BULK),
    "51 of 60 rows changed": Case(
        A, Input(PLAN, [*rows(51, plan="b"), *rows(60, plan="a")[51:]]), BULK
    ),
    "a new column": Case(
        Input(a_schema("deals"), rows(60)), Input(PLAN, rows(60, plan="new")), BULK
    ),
    "log positions start again": Case(
        Input(LSN, rows(60, plan="a", _sdc_lsn=lambda n: 1000 + n)),
        Input(LSN, rows(60, plan="b", _sdc_lsn=lambda n: n)),
        "reset-order deals",
    ),
    "bookmark values start again": Case(
        Input(AT, rows(60, plan="a", at="2026-01-02")),
        Input(AT, rows(60, plan="b", at="2026-01-01")),
        "reset-order deals",
    ),
    "stream renamed": Case(
        A.with_item(stream="*deals"),
        Input(
            a_schema("public-deals", plan="string"),
            rows(60, "public-deals", plan="a"),
            DEALS | {"stream": "*deals"},
        ),
        REPEATED,
    ),
    "few records of a renamed stream": Case(
        Input(PLAN, rows(3, plan="a"), DEALS | {"stream": "*deals"}),
        Input(
            a_schema("DEALS.deals", plan="string"),
            rows(3, "DEALS.deals", plan="a"),
            DEALS | {"stream": "*deals"},
        ),
        REPEATED,
    ),
    "mapping renamed": Case(A, A.with_item(name="opportunity"), REPEATED),
    "key columns": Case(
        A,
        Input(a_schema("deals", key=["id", "plan"], plan="string"), rows(60, plan="a")),
        COLUMNS,
    ),
    "key in the mapping, and new records": Case(
        A,
        Input(PLAN, rows(80, plan="a")[60:]).with_item(key=["email"]),
        COLUMNS,
    ),
    "key in the mapping": Case(A, A.with_item(key=["email"]), COLUMNS),
    "key columns, and another column": Case(
        A,
        Input(
            a_schema("deals", key=["id", "plan"], plan="string", note="string"),
            rows(60, plan="a", note=None),
        ),
        COLUMNS,
    ),
    "a key at last, and a column renamed": Case(
        Input(a_schema("deals", key=[], plan="string"), A.rows),
        Input(
            a_schema("deals", plan="string", email_address="string"),
            [
                {
                    **row,
                    "record": {
                        **row["record"],
                        "email": None,
                        "email_address": row["record"]["email"],
                    },
                }
                for row in A.rows
            ],
        ),
        COLUMNS,
    ),
    "no key any more": Case(
        A, Input(a_schema("deals", key=[], plan="string"), A.rows), COLUMNS
    ),
    "a keyless stream maps another column": Case(
        Input(KEYLESS, rows(60, plan="a", seats=1), BY_PLAN),
        Input(KEYLESS, rows(60, plan="a", seats=1), DEALS | {"properties": ["seats"]}),
        COLUMNS,
    ),
    "null keys are filled in": Case(
        Input(PLAN, rows(60, id=None, plan="a"), BY_PLAN),
        A._replace(item=BY_PLAN),
        "under other keys",
    ),
    "keys become null": Case(
        A._replace(item=BY_PLAN),
        Input(PLAN, rows(60, id=None, plan="a"), BY_PLAN),
        "under other keys",
    ),
    "keys in upper case": Case(
        Input(OPEN_ID, rows(60, id=lambda n: f"{n:04x}a", plan="a")),
        Input(OPEN_ID, rows(60, id=lambda n: f"{n:04X}A", plan="a")),
        "the values of its key are others",
    ),
    "keys with a prefix": Case(
        Input(OPEN_ID, rows(60, id=lambda n: f"{n}", plan="a")),
        Input(OPEN_ID, rows(60, id=lambda n: f"gid://{n}", plan="a")),
        "the values of its key are others",
    ),
    "source of the mapping": Case(
        A.with_item(source="eu"), A.with_item(source="us"), SOURCES
    ),
    "source of a second database": Case(
        A.with_item(source="eu"),
        Input(PLAN, rows(60, plan="b", email=other_person)).with_item(source="us"),
        SOURCES,
    ),
    "one row of another source": Case(
        A.with_item(source="eu"),
        Input(PLAN, rows(1, plan="a")).with_item(source="us"),
        SOURCES,
    ),
    "other people": Case(
        A, Input(PLAN, rows(60, plan="a", email=other_person)), PEOPLE
    ),
    "other people, always": Case(
        A.with_item(send="always"),
        Input(PLAN, rows(60, plan="a", email=other_person)).with_item(send="always"),
        PEOPLE,
    ),
    "some others and some changes": Case(
        A,
        Input(
            PLAN, [*rows(26, plan="a", email=other_person), *rows(60, plan="b")[26:]]
        ),
        PEOPLE,
    ),
    "another person of shared keys": Case(
        A._replace(rows=[*A.rows, *rows(60, plan="a", email=second_person)]),
        Input(PLAN, rows(60, plan="a", email=other_person)),
        PEOPLE,
    ),
    "once, other people": Case(
        ONCE,
        Input(PLAN, rows(60, email=other_person)).with_item(send="once"),
        "already sent for other people",
    ),
    "once, several other people of each key": Case(
        ONCE,
        Input(
            PLAN, [*rows(60, email=other_person), *rows(60, email=second_person)]
        ).with_item(send="once"),
        PEOPLE,
    ),
    "once, 51 other people": Case(
        ONCE,
        Input(PLAN, [*rows(51, email=other_person), *rows(60)[51:]]).with_item(
            send="once"
        ),
        "already sent for other people",
    ),
    "all records invalid": Case(
        A, Input(PLAN, rows(60, email=None, plan="a")), "all 60 records are invalid"
    ),
    "a column renamed": Case(
        A,
        Input(a_schema("deals", zz="string"), rows(5, email=None, zz="a@b.com")),
        "all 5 records are invalid",
    ),
    "nearly all invalid": Case(
        Input(PLAN, rows(220, plan="a")),
        Input(PLAN, [*rows(20, plan="a"), *rows(220, email="?", plan="a")[20:]]),
        "nearly all of the last 200 records are invalid",
    ),
}


#: New records of the other stream.
NUMBERS = count(1000)


def run(target: TargetUnderTest, given: Input) -> Run:
    """Run with a new record of another stream, the given input and a STATE."""
    number = next(NUMBERS)
    messages = [
        a_schema("other"), a_record(number, "other"), given.schema, *given.rows,
        a_state(number),
    ]  # fmt: skip
    return target.run(*messages, signals=[given.item, OTHER])


class History(NamedTuple):
    """A case up to its first stop. The tests continue with copies of its ledgers.

    Attributes:
        before: The folder of the target before the stop.
        sent: How many signals were sent before the stop.
        after: How many signals were sent with it.
    """

    case: Case
    connector: type[TargetUnderTest]
    sandbox: Sandbox
    before: Path
    folder: Path
    stopped: Run
    sent: int
    after: int

    def copy(self, folder: Path, to: Path) -> TargetUnderTest:
        """Return a target with a copy of a folder's ledger."""
        shutil.copytree(folder, to, dirs_exist_ok=True)
        return self.connector(to, self.sandbox.url)


def cases(**connectors: type[TargetUnderTest]) -> pytest.MarkDecorator:
    """Run a test with each case on each of the connectors.

    The tests have the same first cases, so that pytest groups them by their history.
    """
    return pytest.mark.parametrize(
        "history",
        [
            pytest.param((CASES[name], connector), id=f"{name}-{connector_name}")
            for connector_name, connector in connectors.items()
            for name in CASES
        ],
        indirect=True,
    )


@pytest.fixture(scope="module")
def history(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    case, connector = request.param
    folder, before = (tmp_path_factory.mktemp(name) for name in ("stopped", "before"))
    with Sandbox() as sandbox:
        target = connector(folder, sandbox.url)
        assert run(target, case.before).exit_code == 0
        sent = len(sandbox.signals)
        shutil.copytree(folder, before, dirs_exist_ok=True)
        stopped = run(target, case.now)
        after = len(sandbox.signals)
        yield History(case, connector, sandbox, before, folder, stopped, sent, after)


@pytest.mark.slow
@cases(singer=TargetUnderTest, airbyte=AirbyteUnderTest)
def test_check_sets_its_stream_aside_until_its_cause_is_gone(
    history: History, tmp_path: Path
) -> None:
    case = history.case
    stream = case.now.schema["stream"]
    target = history.copy(history.folder, tmp_path)
    sent = len(history.sandbox.signals)

    again = run(target, case.now)

    assert history.after == history.sent + 1
    assert len(history.sandbox.signals) == sent + 1
    for stopped in (history.stopped, again):
        outcomes = dict(stopped.report["streams"])
        assert (stopped.exit_code, stopped.states) == (1, [])
        assert stopped.failure in {"", "config_error"}
        assert outcomes.pop("other") == {"accepted": 1}
        assert outcomes[stream].keys() <= {"pending", "duplicate", "superseded"}
        assert case.says in stopped.error
        assert commands_in(stopped.error)

    gone = run(target, case.before)
    assert (gone.exit_code, len(gone.states)) == (0, 1), gone.error
    assert gone.outcomes["accepted"] == 1
    assert run(target, case.now).exit_code == 1


@pytest.mark.slow
@cases(singer=TargetUnderTest, airbyte=AirbyteUnderTest)
def test_check_ends_with_the_last_command_of_its_sentence(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = history.case
    target = history.copy(history.folder, tmp_path)
    target.config["signals"] = [case.now.item, OTHER]
    write_config(target)
    monkeypatch.chdir(target.folder)

    done = command(*shlex.split(commands_in(history.stopped.error)[-1])[1:])
    allowed = run(target, case.now)

    assert done.returncode == 0, done.stderr
    assert (allowed.exit_code, len(allowed.states)) == (0, 1), allowed.error
    if "invalid" in case.says:
        assert allowed.outcomes["invalid"]
        return
    again = run(target, case.now)
    assert (again.exit_code, len(again.states)) == (0, 1), again.error
    assert again.outcomes["accepted"] == 1  # of the other stream


@pytest.mark.slow
@cases(singer=TargetUnderTest)
def test_preview_and_explain_say_which_check_would_stop_the_run(
    history: History, tmp_path: Path
) -> None:
    case, stopped = history.case, history.stopped
    target = history.copy(history.before, tmp_path)
    sent = len(history.sandbox.signals)
    text = text_of([case.now.schema, *case.now.rows])
    target.config["signals"] = [case.now.item, OTHER]

    shown = signals(target, "preview", text=text)
    found = signals(target, "preview", "--format", "json", text=text)
    explained = signals(target, "explain", text=text)

    (reason,) = json.loads(found.stdout)["stops"]
    assert f"A run would stop here. {reason}" in shown.stdout
    assert (shown.returncode, found.returncode) == (1, 1)
    assert "0 signals would be sent." in shown.stdout
    assert ("pending" in explained.stdout) == ("pending" in stopped.outcomes)
    assert "would_send" not in explained.stdout
    assert reason == stopped.error
    assert len(history.sandbox.signals) == sent


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "every row of a column changed", "log positions start again", "stream renamed",
        "key columns", "null keys are filled in", "keys with a prefix",
        "source of a second database", "once, other people", "all records invalid",
    ],
)  # fmt: skip
def test_check_is_kept_by_a_ledger_on_postgresql(
    sandbox: Sandbox,
    target: TargetUnderTest,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    target.config["ledger_url"] = postgres_url
    case = CASES[name]
    run(target, case.before)
    sent = len(sandbox.signals)

    stopped = [run(target, case.now) for _ in range(2)]
    target.config["signals"] = [case.now.item, OTHER]
    write_config(target)
    monkeypatch.chdir(target.folder)
    command(*shlex.split(commands_in(stopped[0].error)[-1])[1:])
    allowed = run(target, case.now)

    assert [(r.exit_code, r.states) for r in stopped] == [(1, []), (1, [])]
    assert case.says in stopped[1].error
    assert len(sandbox.signals) - sent >= 3
    assert (allowed.exit_code, len(allowed.states)) == (0, 1), allowed.error
