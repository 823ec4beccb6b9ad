"""Repeated kill -9 of a forwarder loses no event, and repeats only those in flight.

`STAIROIDS_KILLS` is the number of kills.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest

from stairoids_common.text import counted
from tap_stairoids_webhooks.store.consumers import lags
from tests.support.forks import Forked, forked
from tests.support.handler import OK, Answer, Payload, WebhookHandler
from tests.tap.forwarding.test_forward import of_account
from tests.tap.receiver.test_app import until
from tests.tap.receiver.test_server import COMMAND, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_stairoids_webhooks.store.store import EventStore

pytestmark = pytest.mark.slow

_KILLS = int(os.environ.get("STAIROIDS_KILLS", "10"))
_ACCOUNTS = 20
_WORKERS = 4
_IN_FLIGHT = 2 * _WORKERS  # requests whose result is not noted yet


@contextmanager
def forwarding(url: str, to: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    process: subprocess.Popen[str] = Forked(
        forked([COMMAND, "forward", to, "--store-url", url, *options]),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(payload: Payload, number: int) -> Answer:
    """Refuse some first requests."""
    if number == 1 and hash(payload["id"]) % 50 == 0:
        return 500, {}
    return OK


def _has(handler: WebhookHandler, number: int) -> bool:
    return len(handler.ids) >= number


@pytest.mark.timeout(60 + 15 * _KILLS)
def test_every_event_is_delivered_and_few_are_repeated(
    home: EventStore, home_url: str
) -> None:
    ids: list[str] = []
    repeated: list[int] = []
    with WebhookHandler(answer) as handler:
        for kill in range(_KILLS):
            batch = [
                of_account(account, kill * 10 + number)
                for number in range(10)
                for account in range(_ACCOUNTS)
            ]
            home.append(batch)
            ids += [str(delivery.event.event_id) for delivery in batch]
            before, delivered = len(handler.ids), set(handler.ids)
            enough = before + random.randint(1, 150)  # noqa: S311 -- any moment will do
            with forwarding(home_url, handler.url, f"--workers={_WORKERS}") as process:
                until(partial(_has, handler, enough), seconds=60)
                process.send_signal(signal.SIGKILL)
                process.wait()
            # A request of the killed forwarder may be read after it was sent again.
            repeated.append(len(delivered.intersection(handler.ids[before:])))
        with forwarding(home_url, handler.url, "--once") as process:
            _, log = process.communicate(timeout=200)

    assert process.returncode == 0, log
    assert set(handler.ids) == set(ids)
    # A forwarder that is killed early leaves repeats of older kills to the next one.
    for kills, repeats in enumerate(accumulate(repeated)):
        assert repeats <= kills * _IN_FLIGHT, counted(kills, "kill")
    assert sum(repeated) < len(ids) / 10
    assert lags(home)["forward"].events == 0
    first = list(dict.fromkeys(handler.ids))
    for account in range(_ACCOUNTS):
        prefix = f"evt_{account}_"
        assert [i for i in first if i.startswith(prefix)] == [
            i for i in ids if i.startswith(prefix)
        ]
