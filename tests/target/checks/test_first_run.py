"""The first-run check: a new ledger does not repeat old signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from target_stairoids.api.client import Response, kind_of
from target_stairoids.checks.first_run import refusal
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
)

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox


@on_both_connectors
def test_first_run_check_refuses_a_new_ledger_if_signals_exist(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1))
    elsewhere = f"sqlite:///{target.folder / 'new.db'}"

    run = target.run(a_schema(), a_record(1), ledger_url=elsewhere, first_run="guard")

    assert run.exit_code == 1
    assert "`first_run`" in run.error
    assert len(sandbox.signals) == 1


def test_first_run_check_is_one_request(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = target.run(a_schema(), a_record(1), first_run="guard")
    second = target.run(a_schema(), a_record(2), first_run="guard")

    assert first.outcomes == second.outcomes == {"accepted": 1}
    assert [r.method for r in sandbox.requests] == ["GET", "POST", "POST"]


@on_both_connectors
def test_first_run_baseline_sends_only_later_records(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = target.run(a_schema(), a_record(1), a_state(), first_run="baseline")
    second = target.run(a_schema(), a_record(1), a_record(2), first_run="baseline")

    assert first.outcomes == {"baselined": 1}
    assert first.states == [{"at": 1}]
    assert second.outcomes == {"duplicate": 1, "accepted": 1}
    assert [s.body["contact"]["email"] for s in sandbox.signals] == ["u2@example.com"]


def a_response(status: int, body: object = None) -> Response:
    kind = kind_of(status, asks_to_return=False)
    return Response(kind=kind, status=status, body=body)


@pytest.mark.parametrize(
    ("response", "log"),
    [
        (a_response(200, {"data": []}), ""),
        (a_response(200, {"signals": []}), ""),
        (a_response(200, "<html>"), "may not read"),
        (a_response(422), "may not read"),
        (a_response(403), "may not read"),
    ],
)
def test_first_run_check_allows_a_source_without_signals_or_an_unreadable_list(
    response: Response, log: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert refusal("billing", response) is None
    assert log in caplog.text
    assert bool(log) == bool(caplog.text)


def test_first_run_check_names_the_source_and_the_settings() -> None:
    text = str(refusal("billing", a_response(200, {"data": [{"id": "sig_1"}]})))

    for name in ("`billing`", "`ledger_url`", "`first_run`"):
        assert name in text
