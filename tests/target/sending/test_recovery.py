"""Recovery: the signals that dead runs left in flight are looked up, not too early."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from target_stairoids.ledger import transaction
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.sending.queue import Stage, recovered_signal
from target_stairoids.settings import Settings
from tests.support.ledger_builders import a_claim, a_version, claim

if TYPE_CHECKING:
    from stairoids_sandbox.server import Sandbox
    from tests.support.singer_io import TargetUnderTest

SIGNAL = b'{"type":"t","source":"s","contact":{"email":"a@b.example"}}'


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("age", "wait"),
    [(0, 100), (20, 100), (90, 60), (1_000, 0), (-1_000_000, 100)],
    ids=[
        "just claimed",
        "may have left just now",
        "left 40 s ago at the latest",
        "old",
        "the clock was set back",
    ],
)
def test_recovered_signal_is_looked_up_once_the_list_must_show_it(
    age: float, wait: float
) -> None:
    left = a_claim(a_version(), signal=SIGNAL, attempted_at=seconds_ago(age))

    signal = recovered_signal(left, -1, lookup_delay=100, longest_wait=50)

    assert signal.not_before - time.monotonic() == pytest.approx(wait, abs=10)


def test_recovered_signal_continues_from_its_claim() -> None:
    left = a_claim(
        a_version(), signal=SIGNAL, attempts=3, attempted_at=seconds_ago(1_000)
    )

    signal = recovered_signal(left, -1, lookup_delay=0, longest_wait=0)

    assert signal.number == -1
    assert signal.claim == left
    assert signal.stage is Stage.LOOK_UP
    assert signal.recovered
    assert signal.attempts == 3
    assert signal.lanes == (a_version().entity, ("email", "a@b.example"))


def test_recovered_signal_may_have_waited_for_a_worker(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim of 30 s ago may have left right before the run died."""
    settings = Settings.from_config(target.config)
    monkeypatch.setattr(transaction, "timestamp", lambda: seconds_ago(30))
    with Ledger.create(settings.ledger_url, settings.scope) as crashed:
        crashed.begin_run()
        stream = crashed.stream_number("trials", {})
        claim(crashed, a_version(stream=stream), signal=SIGNAL)
    monkeypatch.undo()

    run = target.run(verify_delay_seconds=1)

    assert run.report["recovered"] == {"accepted": 1}
    assert run.report["seconds"] >= 1
    assert len(sandbox.signals) == 1
