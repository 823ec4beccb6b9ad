"""The scheduler, step by step: claims, requests, recalled and released signals."""

from __future__ import annotations

import json
import select
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from stairoids_sandbox import Fault
from target_stairoids.checks.stop import Stop
from target_stairoids.checks.suppression import Suppression
from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.sending.queue import QueuedSignal, SendQueue
from target_stairoids.sending.scheduler import Scheduler
from target_stairoids.settings import Settings
from tests.support.ledger_builders import a_claim, a_version
from tests.support.singer_io import TargetUnderTest, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stairoids_sandbox import Sandbox


@pytest.fixture
def settings(target: TargetUnderTest) -> Settings:
    return Settings.from_config(target.config)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with Ledger.create(settings.ledger_url, settings.scope) as ledger:
        ledger.begin_run()
        yield ledger


@pytest.fixture
def queue() -> SendQueue:
    return SendQueue()


@pytest.fixture
def scheduler(
    settings: Settings, ledger: Ledger, queue: SendQueue
) -> Iterator[Scheduler]:
    scheduler = Scheduler(
        settings, ledger, queue, Stop(), Suppression(settings, ledger)
    )
    yield scheduler
    scheduler.close()


def a_signal(number: int, source: str = "test") -> QueuedSignal:
    body = {
        "type": "trial",
        "source": source,
        "contact": {"email": f"u{number}@example.com"},
    }
    version = a_version(f"v{number}", f"e{number}")
    return QueuedSignal(
        number=number,
        claim=a_claim(version, request=json.dumps(body).encode()),
        source=source,
        send="on_change",
        lanes=(version.key[0],),
    )


def step_until(scheduler: Scheduler, condition: Callable[[], bool]) -> None:
    def holds() -> bool:
        scheduler.step()
        return condition()

    wait_until(holds)


def wait_for_response(scheduler: Scheduler) -> None:
    """Wait for a response without taking it."""
    readable, _, _ = select.select([scheduler.pool.wake_descriptor], [], [], 30)
    assert readable


def test_step_that_fails_keeps_the_claims_of_sent_signals(
    sandbox: Sandbox, ledger: Ledger, queue: SendQueue, scheduler: Scheduler
) -> None:
    """Its responses are not on disk, so each signal may have been accepted."""
    sandbox.faults.add(Fault(kind="status", status=503, retry_after=0, count=1))
    signal, unwritable = a_signal(1), a_signal(2)
    unwritable.claim = replace(unwritable.claim, stream_name=None)
    queue.add(signal)
    step_until(scheduler, lambda: signal.attempts == 2)
    wait_for_response(scheduler)
    queue.add(unwritable)

    with pytest.raises(LedgerError):
        scheduler.step()

    assert scheduler.release() == []
    assert len(sandbox.signals) == 1
    with ledger.transaction() as transaction:
        assert transaction.claim_on(signal.claim.version) is not None
    assert not scheduler.is_intact


def test_recalled_first_run_check_is_sent_again_when_it_is_due(
    sandbox: Sandbox, settings: Settings, ledger: Ledger, queue: SendQueue
) -> None:
    checked = replace(settings, first_run="guard", max_in_flight=1)
    scheduler = Scheduler(checked, ledger, queue, Stop(), Suppression(settings, ledger))
    queue.add(a_signal(1))
    step_until(scheduler, lambda: not queue.unfinished)
    sandbox.faults.add(Fault(kind="slow", delay_ms=300))
    queue.add(a_signal(2))
    step_until(scheduler, lambda: len(scheduler.pool.in_flight) == 1)
    queue.add(a_signal(3, source="another"))
    step_until(scheduler, lambda: len(scheduler.pool.in_flight) == 2)

    scheduler.recall()

    assert len(scheduler.pool.in_flight) <= 1
    assert scheduler.limiter.requests <= 3
    step_until(scheduler, lambda: not queue.unfinished)
    assert Counter(r.method for r in sandbox.requests) == {"GET": 2, "POST": 3}
    assert scheduler.limiter.requests == 5
    scheduler.close()
