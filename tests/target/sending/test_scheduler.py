"""Dispatch, a turn at a time: what is claimed, what goes, what is kept."""

from __future__ import annotations

import json
import select
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stairoids_sandbox import Fault
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import Claim
from target_stairoids.sending.queue import Entry, SendQueue
from target_stairoids.sending.scheduler import Dispatch
from target_stairoids.settings import Settings
from tests.support.singer_io import TargetUnderTest, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stairoids_sandbox import Sandbox


@pytest.fixture
def settings(target: TargetUnderTest) -> Settings:
    return Settings.from_config(target.config)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with Ledger(settings.ledger_url, settings.scope) as ledger:
        ledger.begin_run()
        yield ledger


@pytest.fixture
def window() -> SendQueue:
    return SendQueue(100)


@pytest.fixture
def dispatch(
    settings: Settings, ledger: Ledger, window: SendQueue
) -> Iterator[Dispatch]:
    dispatch = Dispatch(settings, ledger, window)
    yield dispatch
    dispatch.close()


def an_entry(
    ledger: Ledger, number: int, signal: bytes | None = None, source: str = "test"
) -> Entry:
    body: dict[str, Any] = {
        "type": "trial",
        "source": source,
        "contact": {"email": f"u{number}@example.com"},
    }
    key = f"{number}".encode().ljust(16, b".")
    claim = Claim(
        entity=key,
        version=key,
        mapping="trial",
        stream=ledger.stream_number("trials", {}),
        stream_name="trials",
        content=key,
        position=None,
        fingerprint=b"f" * 16,
        signal=json.dumps(body).encode() if signal is None else signal,
        record=b"{}",
    )
    return Entry(number=number, claim=claim, send="on_change", lanes=(key,))


def turn_until(dispatch: Dispatch, condition: Callable[[], bool]) -> None:
    """Let a dispatch work until something holds."""

    def holds() -> bool:
        dispatch.step()
        return condition()

    wait_until(holds)


def answered(dispatch: Dispatch) -> None:
    """Wait for a response without taking it."""
    readable, _, _ = select.select([dispatch.wake_descriptor], [], [], 30)
    assert readable


def test_turn_that_breaks_off_keeps_the_claims_of_what_was_sent(
    sandbox: Sandbox, ledger: Ledger, window: SendQueue, dispatch: Dispatch
) -> None:
    """The responses it took are not on disk, so nothing is certainly not accepted."""
    sandbox.faults.add(Fault(kind="status", status=503, retry_after=0, count=1))
    entry = an_entry(ledger, 1)
    window.add(entry)
    turn_until(dispatch, lambda: entry.attempts == 2)
    answered(dispatch)
    window.add(an_entry(ledger, 2, b"no JSON"))

    with pytest.raises(msgspec.DecodeError):
        dispatch.step()

    assert dispatch.let_go() == []
    assert len(sandbox.signals) == 1
    with ledger.transaction() as transaction:
        assert transaction.claim_on(entry.claim) is not None
    assert not dispatch.is_whole


def test_guards_question_that_was_recalled_is_asked_when_its_time_has_come(
    sandbox: Sandbox, settings: Settings, ledger: Ledger, window: SendQueue
) -> None:
    guarded = replace(settings, first_run="guard", max_in_flight=1)
    dispatch = Dispatch(guarded, ledger, window)
    window.add(an_entry(ledger, 1))
    turn_until(dispatch, lambda: len(window) == 0)
    sandbox.faults.add(Fault(kind="slow", delay_ms=300))
    window.add(an_entry(ledger, 2))
    turn_until(dispatch, lambda: dispatch.in_flight == 1)
    window.add(an_entry(ledger, 3, source="another"))
    turn_until(dispatch, lambda: dispatch.in_flight == 2)

    dispatch.recall()

    assert dispatch.in_flight <= 1
    assert dispatch.pace.requests <= 3
    turn_until(dispatch, lambda: len(window) == 0)
    assert Counter(r.method for r in sandbox.requests) == {"GET": 2, "POST": 3}
    assert dispatch.pace.requests == 5
    dispatch.close()
