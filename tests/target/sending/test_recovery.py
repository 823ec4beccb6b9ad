"""Recovery: the signals that dead runs left in flight are looked up, not too early."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from target_stairoids.ledger.ledger import Ledger
from target_stairoids.sending.queue import Stage
from target_stairoids.sending.recovery import recovered_signal
from target_stairoids.settings import Settings
from tests.support.ledger_builders import a_claim, a_version
from tests.support.singer_io import a_record, a_schema

if TYPE_CHECKING:
    from stairoids_sandbox.server import Sandbox
    from tests.support.singer_io import TargetUnderTest

SIGNAL = b'{"type":"t","source":"s","contact":{"email":"a@b.example"}}'


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("age", "wait"),
    [(0, 100), (20, 100), (90, 60), (1_000, 0), (-1_000_000, 100), (None, 100)],
    ids=[
        "just claimed",
        "may have left just now",
        "left 40 s ago at the latest",
        "old",
        "the clock was set back",
        "the server's clock was not known",
    ],
)
def test_recovered_signal_is_looked_up_once_its_request_cannot_be_accepted(
    age: float | None, wait: float
) -> None:
    at = "" if age is None else seconds_ago(age)
    left = a_claim(a_version(), signal=SIGNAL, attempted_at=at)

    signal = recovered_signal(
        left, -1, now=datetime.now(UTC), lookup_delay=100, longest_wait=50
    )

    assert signal.not_before - time.monotonic() == pytest.approx(wait, abs=10)


def test_recovered_signal_continues_from_its_claim() -> None:
    left = a_claim(
        a_version(), signal=SIGNAL, attempts=3, attempted_at=seconds_ago(1_000)
    )

    signal = recovered_signal(left, -1, now=None, lookup_delay=0, longest_wait=0)

    assert signal.number == -1
    assert signal.claim == left
    assert signal.stage is Stage.LOOK_UP
    assert signal.recovered
    assert signal.attempts == 3
    assert signal.lanes == (a_version().entity, ("email", "a@b.example"))


def leave_claim(target: TargetUnderTest, attempted_at: str) -> None:
    """Leave the claim of a killed run in the ledger."""
    settings = Settings.from_config(target.config)
    with Ledger.create(settings.ledger_url, settings.scope) as crashed:
        crashed.begin_run()
        stream = crashed.stream_number("trials", {})
        left = a_claim(a_version(stream=stream), signal=SIGNAL)
        with crashed.transaction() as transaction:
            transaction.claim([left], at=attempted_at)


def test_recovered_signal_may_have_waited_for_a_worker(
    target: TargetUnderTest,
) -> None:
    """A claim of 10 s ago may have left right before the run died."""
    leave_claim(target, seconds_ago(10))

    run = target.run(request_timeout_seconds=2)

    assert run.report["recovered"] == {"pending": 1}
    assert run.report["seconds"] >= 2


def test_recovered_signal_is_sent_again_once_a_later_one_is_listed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    leave_claim(target, seconds_ago(1_000))

    alone = target.run()
    run = target.run(a_schema(), a_record(), source="s")

    assert alone.exit_code == 75
    assert "accepted no signal after" in alone.error
    assert alone.report["recovered"] == {"pending": 1}
    assert run.report["recovered"] == {"accepted": 1}
    assert run.outcomes == {"accepted": 1}
    assert len(sandbox.signals) == 2


def test_signal_that_no_run_can_prove_is_a_dead_letter_after_eight_runs(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    leave_claim(target, seconds_ago(1_000))

    runs = [target.run() for _ in range(8)]

    assert [run.exit_code for run in runs] == [75] * 7 + [0]
    assert runs[-1].report["recovered"] == {"unknown": 1}
    assert sandbox.signals == []
