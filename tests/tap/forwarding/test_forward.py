"""The command `stairoids-webhooks forward`, with a handler that verifies requests."""

from __future__ import annotations

import html
import json
import logging
import re
import shlex
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from tap_stairoids_webhooks.cli.main import main
from tap_stairoids_webhooks.event import Delivery
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.forwarding.decision import MAX_ATTEMPTS, Response
from tap_stairoids_webhooks.forwarding.forwarder import Forwarder
from tap_stairoids_webhooks.forwarding.handler import Handler
from tap_stairoids_webhooks.forwarding.plan import Plan
from tap_stairoids_webhooks.store.consumers import acknowledge, lags
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.forwards import ForwardQueue, reasons_in
from tap_stairoids_webhooks.store.retention import prune
from tap_stairoids_webhooks.store.schema import FORWARDS
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.handler import OK, Answer, Payload, WebhookHandler
from tests.support.raw_server import Server, raw, running
from tests.support.silent_proxy import SilentProxy
from tests.support.webhook_builders import EMAIL, SECRET, a_body, a_delivery
from tests.tap.receiver.test_admin import administered, get
from tests.tap.receiver.test_app import until
from tests.tap.receiver.test_recovery import locked
from tests.tap.test_bookmarks import copied, put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BROKEN: Answer = (500, {})
BUSY: Answer = (429, {"Retry-After": "99999999999999999999"})


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}.pause_before", lambda _attempt: 0.01)
    monkeypatch.setattr(f"{package}._LEASE_SECONDS", 0.3)
    for name in ("_POLL_SECONDS", "_RELOAD_SECONDS"):
        monkeypatch.setattr(f"{package}.{name}", 0.02)


def of_account(account: int, number: int, event: str = "signal.created") -> Delivery:
    data = {"account": {"id": f"acc_{account}"}, "contact": {"email": EMAIL}}
    return a_delivery(a_body(f"evt_{account}_{number}", event, data=data))


def fill(store: EventStore, accounts: int = 3, number: int = 4) -> list[str]:
    """Store events of several accounts in turn; return their ids."""
    batch = [of_account(a, n) for n in range(number) for a in range(accounts)]
    store.append(batch)
    return [str(delivery.event.event_id) for delivery in batch]


def forward(url: str, *arguments: str) -> Result:
    command = ["forward", *arguments, "--store-url", url]
    return CliRunner().invoke(main, command)


def totals(result: Result) -> dict[str, int]:
    return dict(json.loads(result.stdout))


def failures(url: str, *arguments: str) -> list[dict[str, Any]]:
    done = forward(url, "failures", "--format", "json", *arguments)
    return list(json.loads(done.stdout))


def test_events_are_delivered_with_their_signature_and_type(
    home: EventStore, home_url: str
) -> None:
    ids = fill(home)
    with WebhookHandler() as handler:
        done = forward(home_url, handler.url, "--once")

    assert (done.exit_code, totals(done)) == (0, {"delivered": 12, "failed": 0})
    assert sorted(handler.ids) == sorted(ids)
    (headers, *_) = handler.headers
    assert headers["X-Stairoids-Event"] == "signal.created"
    assert headers["X-Stairoids-Delivery"] == "d-1"
    assert headers["Content-Type"] == "application/json"


def test_page_shows_why_a_forwarder_tries_again(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}.pause_before", lambda _attempt: 600.0)
    fill(store, accounts=1, number=1)
    with (
        administered(store_url) as receiver,
        WebhookHandler(lambda *_: BROKEN) as handler,
    ):
        plan = Plan(store_url=store_url, name="forward")

        Forwarder(plan, Handler(handler.url), lambda: bool(reasons_in(store))).run()
        assert "1 retrying: status 500" in get(receiver, "/").text


def test_cookies_of_a_handler_are_not_sent_back(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=1, number=3)
    with WebhookHandler(lambda *_: (200, {"Set-Cookie": "session=1"})) as handler:
        done = forward(store_url, handler.url, "--once", "--workers", "1")

    assert totals(done)["delivered"] == 3
    assert not any("Cookie" in headers for headers in handler.headers)


def test_forwarder_goes_on_after_its_last_event(
    home: EventStore, home_url: str
) -> None:
    fill(home)
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
        home.append([of_account(9, 9)])
        done = forward(home_url, handler.url, "--once")

    assert totals(done) == {"delivered": 1, "failed": 0}
    assert handler.ids[-1] == "evt_9_9"
    assert set(handler.requests.values()) == {1}
    assert lags(home)["forward"].events == 0


def test_events_of_an_account_come_in_order_despite_failures(
    home: EventStore, home_url: str
) -> None:
    ids = fill(home, accounts=5, number=6)

    def answer(payload: Payload, number: int) -> Answer:
        return BROKEN if payload["id"].endswith(("_0", "_3")) and number < 3 else OK

    with WebhookHandler(answer) as handler:
        done = forward(home_url, handler.url, "--once", "--workers", "4")

    assert totals(done)["delivered"] == 30
    for account in range(5):
        prefix = f"evt_{account}_"
        assert [i for i in handler.ids if i.startswith(prefix)] == [
            i for i in ids if i.startswith(prefix)
        ]


def test_failing_account_does_not_hold_back_others(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=3, number=2)

    def answer(payload: Payload, _number: int) -> Answer:
        if payload["id"] == "evt_0_0":
            until(lambda: len(handler.ids) == 4)  # the other accounts are done
        return OK

    with WebhookHandler(answer) as handler:
        done = forward(home_url, handler.url, "--once", "--workers", "2")

    assert totals(done)["delivered"] == 6
    assert handler.ids[-2:] == ["evt_0_0", "evt_0_1"]


def test_many_events_of_a_failing_account_do_not_hold_back_others(
    home: EventStore, home_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}.pause_before", lambda _attempt: 3600)
    fill(home, accounts=1, number=600)
    home.append([of_account(1, 0)])

    def answer(payload: Payload, _number: int) -> Answer:
        return OK if payload["id"] == "evt_1_0" else BROKEN

    with WebhookHandler(answer) as handler:
        plan = Plan(store_url=home_url, name="forward")
        Forwarder(plan, Handler(handler.url), lambda: bool(handler.ids)).run()

    assert handler.ids == ["evt_1_0"]
    assert handler.requests["evt_0_0"] == 1


def test_failing_account_with_more_events_than_fit_in_memory_holds_back_no_other(
    home: EventStore, home_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.forwarding"
    monkeypatch.setattr(f"{package}.forwarder.pause_before", lambda _attempt: 3600)
    monkeypatch.setattr(f"{package}.forwarder._MOST_WAITING", 20)
    monkeypatch.setattr(f"{package}.forwarder._PAGE_ROWS", 5)
    monkeypatch.setattr(f"{package}.lanes.MOST_OF_LANE", 4)
    fill(home, accounts=1, number=50)
    ids = [str(of_account(1, n).event.event_id) for n in range(30)]
    home.append([of_account(1, n) for n in range(30)])
    is_repaired = False

    def answer(payload: Payload, _number: int) -> Answer:
        return OK if is_repaired or payload["id"] in ids else BROKEN

    with WebhookHandler(answer) as handler:
        plan = Plan(store_url=home_url, name="forward")
        Forwarder(plan, Handler(handler.url), lambda: len(handler.ids) >= 30).run()
        assert handler.ids == ids

        is_repaired = True
        with home.transaction("cannot be changed", lock=True) as connection:
            connection.execute(sa.update(FORWARDS).values(due_at=0.0))
        done = forward(home_url, handler.url, "--once")

    assert (totals(done)["delivered"], lags(home)["forward"].events) == (50, 0)
    assert handler.ids[30:] == [f"evt_0_{n}" for n in range(50)]


def test_failing_accounts_that_fill_the_memory_hold_back_no_other(
    home: EventStore, home_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.forwarding"
    monkeypatch.setattr(f"{package}.forwarder.pause_before", lambda _attempt: 3600)
    monkeypatch.setattr(f"{package}.forwarder._MOST_WAITING", 20)
    monkeypatch.setattr(f"{package}.forwarder._PAGE_ROWS", 5)
    monkeypatch.setattr(f"{package}.lanes.MOST_OF_LANE", 4)
    ids = fill(home, accounts=5, number=4)
    home.append([of_account(9, n) for n in range(3)])
    is_repaired = False

    def answer(payload: Payload, _number: int) -> Answer:
        return OK if is_repaired or payload["id"].startswith("evt_9_") else BROKEN

    with WebhookHandler(answer) as handler:
        for number in (3, 6):  # the second forwarder begins with a queue
            _run_until(home_url, handler, number)
            home.append([of_account(9, n) for n in range(3, 6)])
        assert handler.ids == [f"evt_9_{n}" for n in range(6)]

        is_repaired = True
        with home.transaction("cannot be changed", lock=True) as connection:
            connection.execute(sa.update(FORWARDS).values(due_at=0.0))
        done = forward(home_url, handler.url, "--once")

    assert totals(done)["delivered"] == 20
    for account in range(5):
        prefix = f"evt_{account}_"
        assert [i for i in handler.ids if i.startswith(prefix)] == [
            i for i in ids if i.startswith(prefix)
        ]


def test_event_is_kept_as_a_failure_after_eight_attempts(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=2, number=2)
    answers = {"evt_1_0": BROKEN}
    with WebhookHandler(lambda payload, _: answers.get(payload["id"], OK)) as handler:
        done = forward(home_url, handler.url, "--once")
        assert (done.exit_code, totals(done)) == (1, {"delivered": 3, "failed": 1})
        assert "1 event failed. Run stairoids-webhooks forward failures" in done.stderr
        assert handler.requests["evt_1_0"] == 8
        assert "evt_1_1" in handler.ids

        (failure,) = failures(home_url)
        assert failure["sequence"] == 2
        assert (failure["attempts"], failure["reason"]) == (8, "status 500")
        assert lags(home)["forward"].failures == 1
        assert prune(home_url, before="2030").kept_for == {"forward": 1}

        answers.clear()
        again = forward(home_url, "retry", "2")
        assert json.loads(again.stdout) == {"retried": 1}
        done = forward(home_url, handler.url, "--once")

    assert totals(done) == {"delivered": 1, "failed": 0}
    assert handler.ids[-1] == "evt_1_0"
    assert failures(home_url) == []
    assert prune(home_url, before="2030").removed == 1


def test_metrics_and_page_show_failures_and_lag(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=2, number=1)
    with WebhookHandler(lambda *_: BROKEN) as handler:
        forward(store_url, handler.url, "--once", "--name", "my crm")
    forward(store_url, "retry", "2")
    with administered(store_url) as receiver:
        metrics = get(receiver, "/metrics").text
        page = get(receiver, "/").text
    stats = CliRunner().invoke(main, ["stats", "--store-url", store_url]).stdout

    assert 'stairoids_webhooks_forward_failures{consumer="my crm"} 1.0' in metrics
    assert 'stairoids_webhooks_consumer_lag_events{consumer="my crm"} 1.0' in metrics
    assert "1 failed: status 500, 8 attempts" in page
    assert "1 behind" in page
    command = re.search(r'"the command">(stairoids-webhooks.*?)</code>', page)
    assert command is not None
    words = shlex.split(html.unescape(re.sub("<.*?>", "", command[1])))
    shown = CliRunner().invoke(main, words[1:])
    assert "status 500" in shown.stdout
    assert re.search(r"failed: my crm +1 ", stats)


def test_failure_of_two_forwarders_stands_for_no_other_sequence(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=1, number=1)
    with WebhookHandler(lambda *_: BROKEN) as handler:
        for name in ("crm", "bi"):
            forward(
                *(store_url, handler.url, "--once", "--attempts", "1", "--name", name)
            )

    for command in (["retry"], ["discard", "--yes"]):
        done = forward(store_url, *command, "1", "2")
        assert done.exit_code == 1
        assert "some of these are no failures" in done.stderr


def test_discarded_failure_is_never_delivered(home: EventStore, home_url: str) -> None:
    fill(home, accounts=2, number=1)
    with WebhookHandler(lambda *_: BROKEN) as handler:
        forward(home_url, handler.url, "--once")
    table = forward(home_url, "failures").stdout
    dry = forward(home_url, "discard", "1", "--dry-run")
    done = forward(home_url, "discard", "1", "--yes")
    wrong = forward(home_url, "discard", "1", "--yes")
    dry_wrong = forward(home_url, "discard", "1", "--dry-run")

    assert "signal.created" in table
    assert "status 500" in table
    assert "1 failure will never be delivered. Nothing was removed" in dry.stdout
    assert json.loads(done.stdout) == {"discarded": 1}
    for result in (wrong, dry_wrong):
        assert result.exit_code == 1
        assert "some of these are no failures" in result.stderr
    assert [failure["sequence"] for failure in failures(home_url)] == [2]
    for command in (["failures"], ["retry"], ["discard", "--yes"]):
        other = forward(home_url, *command, "--name", "other")
        assert (other.exit_code, other.stdout) == (1, "")
        assert "there is no consumer 'other' [E245]" in other.stderr


def test_handler_without_a_response_is_a_failure(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=1, number=1)
    server = Server()  # hangs up
    with running(server):
        done = forward(store_url, server.url, "--once")

    assert done.exit_code == 1
    (failure,) = failures(store_url)
    assert failure["reason"].startswith("no response (")


def test_response_whose_body_never_ends_is_a_delivery(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.forwarding.handler._SECONDS", 1)
    fill(store, accounts=1, number=2)
    server = Server()

    def respond(connection: socket.socket) -> None:
        connection.sendall(raw(200, "x" * 1000)[:-999])
        with suppress(OSError):  # until the forwarder has hung up
            while not ended.wait(0.1):
                connection.sendall(b"x")

    ended = threading.Event()
    server.response = respond
    with running(server):
        done = forward(store_url, server.url, "--once")
        ended.set()

    assert totals(done)["delivered"] == 2


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"HTTP/1.1 200 ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["header", "status", "continue", "processing"],
)
def test_response_whose_head_never_ends_is_a_failure(
    store: EventStore,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
    begin: bytes,
    part: bytes,
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.forwarding.handler._SECONDS", 1)
    fill(store, accounts=1, number=1)
    server = Server()

    def respond(connection: socket.socket) -> None:
        with suppress(OSError):  # until the forwarder has hung up
            connection.sendall(begin)
            while not ended.wait(0.1):
                connection.sendall(part)

    ended = threading.Event()
    server.response = respond
    with running(server):
        forward(store_url, server.url, "--once", "--attempts", "1")
        ended.set()

    (failure,) = failures(store_url)
    assert failure["reason"] == "no response (timeout)"


@pytest.mark.parametrize(
    "part",
    [b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\r\nContent-Len"],
)
def test_response_whose_head_breaks_off_is_a_failure(
    store: EventStore, store_url: str, part: bytes
) -> None:
    fill(store, accounts=1, number=1)
    server = Server()
    server.response = part
    with running(server):
        forward(store_url, server.url, "--once", "--attempts", "1")

    (failure,) = failures(store_url)
    expected = "no response (the connection broke off before a response)"
    assert failure["reason"] == expected


def test_interim_response_of_a_handler_is_skipped(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=1, number=1)
    server = Server()
    server.response = b"HTTP/1.1 103 Early Hints\r\n\r\n" + raw(204, "")
    with running(server):
        done = forward(store_url, server.url, "--once", "--attempts", "1")

    assert totals(done) == {"delivered": 1, "failed": 0}


def test_proxy_whose_response_never_ends_is_a_failure(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.forwarding.handler._SECONDS", 1)
    fill(store, accounts=1, number=1)
    server = Server()

    def respond(connection: socket.socket) -> None:
        with suppress(OSError):  # until the forwarder has hung up
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.1):
                connection.sendall(b"x")

    ended = threading.Event()
    server.response = respond
    monkeypatch.setenv("https_proxy", server.url)
    with running(server):
        url = "https://handler.invalid/"
        forward(store_url, url, "--once", "--attempts", "1")
        ended.set()

    (failure,) = failures(store_url)
    assert failure["reason"].startswith("no response")


def test_retry_after_of_a_busy_handler_holds_all_events(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=9, number=1)
    times: list[float] = []
    busy = {"Retry-After": "1"}

    def answer(_payload: Payload, _number: int) -> Answer:
        times.append(time.monotonic())
        return (503, busy) if len(times) == 1 else OK

    with WebhookHandler(answer) as handler:
        done = forward(store_url, handler.url, "--once", "--workers", "1")

    assert totals(done)["delivered"] == 9
    later = [at - times[0] for at in times]
    assert sum(pause < 0.9 for pause in later) <= 2  # one more was with the worker


@pytest.mark.parametrize("year", [2020, 2999])
def test_date_in_retry_after_is_of_the_clock_of_the_handler(
    store: EventStore, year: int
) -> None:
    fill(store, accounts=1, number=1)
    day = f"01 Jan {year}"
    server = Server()
    server.response = raw(
        503, Date=f"{day} 00:00:00 GMT", Retry_After=f"{day} 00:00:30 GMT"
    )

    with running(server):
        (event,) = store.read_after(0, upper=1)
        response = Handler(server.url).post(event)

    assert response == Response(status=503, retry_after=30.0)


def test_longest_retry_after_holds_all_events(
    store: EventStore, store_url: str
) -> None:
    fill(store, accounts=9, number=1)
    times: list[float] = []

    def answer(payload: Payload, number: int) -> Answer:
        times.append(time.monotonic())
        pauses = {"evt_0_0": "2", "evt_1_0": "1"}
        if number > 1 or payload["id"] not in pauses:
            return OK
        if payload["id"] == "evt_1_0":
            time.sleep(0.3)  # its response comes later
        return 503, {"Retry-After": pauses[payload["id"]]}

    with WebhookHandler(answer) as handler:
        done = forward(store_url, handler.url, "--once", "--workers", "2")

    assert totals(done)["delivered"] == 9
    assert sum(at - times[0] < 1.9 for at in times) <= 4  # two more were begun


def test_retry_ends_the_pause_that_a_handler_asked_for(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(home, accounts=2, number=2)
    is_busy = True

    def answer(_payload: Payload, _number: int) -> Answer:
        return BUSY if is_busy else OK

    with running_forwarder(home_url, answer) as handler:
        until(lambda: "forwarding waits" in caplog.text)
        is_busy = False
        done = forward(home_url, "retry")
        until(lambda: len(handler.ids) == 4)

    assert (done.exit_code, totals(done)["retried"] in {1, 2}) == (0, True)
    assert "reason=status 429" in caplog.text.split("forwarding waits")[1]
    assert caplog.text.count("forwarding waits") == 1


def test_retry_ends_the_pause_after_a_last_attempt(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=1, number=2)
    with running_forwarder(home_url, lambda _, n: BUSY if n < 2 else OK, 1) as handler:
        until(lambda: len(failures(home_url)) == 1)
        forward(home_url, "retry")
        until(lambda: handler.ids[:1] == ["evt_0_0"])


def test_start_logs_until_when_it_waits(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(home, accounts=1, number=1)
    with WebhookHandler(lambda *_: BUSY) as handler:
        plan = Plan(store_url=home_url, name="forward")
        Forwarder(plan, Handler(handler.url), lambda: len(handler.requests) == 1).run()
    caplog.clear()
    with running_forwarder(home_url) as handler:
        until(lambda: "forwarding waits" in caplog.text)
    assert "reason=status 429" in caplog.text
    assert handler.ids == []

    retried = forward(home_url, "retry", "1")
    with WebhookHandler() as handler:
        done = forward(home_url, handler.url, "--once")

    assert (totals(retried), totals(done)["delivered"]) == ({"retried": 1}, 1)


def test_only_the_types_of_the_options_are_delivered(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    home.append([of_account(1, n, f"type.{n % 3}") for n in range(6)])
    home.append([a_delivery(b"not JSON")])
    types = ["--event-type", "type.0", "--event-type", "type.2"]
    with WebhookHandler() as handler:
        done = forward(home_url, handler.url, "--once", *types)
        forward(home_url, handler.url, "--once", "--event-type", "type.1")

    assert handler.ids == ["evt_1_0", "evt_1_2", "evt_1_3", "evt_1_5"]
    assert totals(done)["delivered"] == 4
    assert "older events that --event-type left out are not delivered" in caplog.text
    assert "sequence=1..7" in caplog.text


def test_types_that_were_left_out_are_named_once(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(home, accounts=2, number=2)
    types = ["--event-type", "signal.created"]
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once", *types)
        forward(home_url, handler.url, "--sequence", "1")
        forward(home_url, handler.url, "--once", *types)
        assert "left out" not in caplog.text
        forward(home_url, handler.url, "--once")
        forward(home_url, handler.url, "--once")
        forward(home_url, handler.url, "--once", *types)
        forward(home_url, handler.url, "--once")  # the types left out no event

    assert caplog.text.count("left out") == 1


def test_queued_events_of_other_types_wait_for_a_start_without_types(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    home.append([of_account(n, n, f"type.{n % 2}") for n in range(4)])
    with WebhookHandler(lambda *_: BROKEN) as handler:
        plan = Plan(store_url=home_url, name="forward")
        Forwarder(plan, Handler(handler.url), lambda: len(handler.requests) == 4).run()
    with WebhookHandler() as handler:
        some = forward(home_url, handler.url, "--once", "--event-type", "type.1")
        assert "stay in the queue" in caplog.text
        assert "events=2" in caplog.text
        assert prune(home_url, before="2030").kept_for == {"forward": 2}
        rest = forward(home_url, handler.url, "--once")

    assert (totals(some)["delivered"], totals(rest)["delivered"]) == (2, 2)
    assert sorted(handler.ids[:2]) == ["evt_1_1", "evt_3_3"]


def test_type_that_no_event_has_is_named(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    home.append([of_account(1, 1, "type.1")])
    types = ("--event-type", "signal.craeted", "--event-type", "type.1")
    with WebhookHandler() as handler:
        done = forward(home_url, handler.url, "--once", *types)

    assert totals(done)["delivered"] == 1
    assert "no event has the type signal.craeted; did you mean" in caplog.text
    assert "type.1" not in caplog.text


def test_event_without_a_json_body_is_delivered_as_it_is(
    store: EventStore, store_url: str
) -> None:
    store.append([a_delivery(b"not JSON"), a_delivery(b"")])
    server = Server()
    server.response = raw(204)
    with running(server):
        done = forward(store_url, server.url, "--once")

    assert totals(done)["delivered"] == 2
    assert sorted(body for _, body in server.requests) == [b"", b"not JSON"]


def test_event_whose_type_has_odd_characters_is_delivered(
    home: EventStore, home_url: str
) -> None:
    odd = (" signal.created ", "gr\u00f6\u00dfe \u2192", " ")
    home.append([of_account(n, n, kind) for n, kind in enumerate(odd, 1)])
    with WebhookHandler() as handler:
        done = forward(home_url, handler.url, "--once", "--attempts", "1")

    assert totals(done)["delivered"] == 3


def test_since_begins_with_later_events_and_goes_back_once(home_url: str) -> None:
    lines = [
        {
            "body": delivery.body.decode(),
            "signature": delivery.signature,
            "received_at": f"2026-01-0{n}",
        }
        for n, delivery in enumerate((of_account(1, n) for n in range(1, 5)), 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    env = {"STAIROIDS_WEBHOOK_SECRET": "whsec_tests_only"}
    CliRunner().invoke(
        main, ["import", "-", "--store-url", home_url], input=text, env=env
    )
    since = ["--once", "--since", "2026-01-03"]
    with WebhookHandler() as handler:
        first = forward(home_url, handler.url, *since)
        second = forward(home_url, handler.url, *since)
        third = forward(home_url, handler.url, "--once", "--since", "2026-01-02")

    assert [totals(done)["delivered"] for done in (first, second, third)] == [2, 0, 3]
    assert handler.ids[:2] == ["evt_1_3", "evt_1_4"]
    assert handler.ids[2:] == ["evt_1_2", "evt_1_3", "evt_1_4"]


def test_sequences_are_delivered_again(home: EventStore, home_url: str) -> None:
    ids = fill(home)
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
        done = forward(home_url, handler.url, "--sequence", "2..4", "--name", "replay")
        one = forward(home_url, f" {handler.url}\n", "--sequence", "12")

    assert (done.exit_code, totals(done)["delivered"]) == (0, 3)
    assert sorted(handler.ids[12:15]) == sorted(ids[1:4])
    assert handler.ids[15:] == ids[11:]
    assert totals(one)["delivered"] == 1
    assert list(lags(home)) == ["forward"]


def test_replay_delivers_no_other_event_that_waits(
    home: EventStore, home_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    fill(home, accounts=4, number=1)
    with monkeypatch.context() as patch, WebhookHandler(lambda *_: BROKEN) as handler:
        patch.setattr(f"{package}.pause_before", lambda _attempt: 3600)
        plan = Plan(store_url=home_url, name="forward")
        Forwarder(plan, Handler(handler.url), lambda: len(handler.requests) == 4).run()
    with home.transaction("cannot be changed", lock=True) as connection:
        connection.execute(sa.update(FORWARDS).values(due_at=0.0))

    with WebhookHandler() as laptop:
        replay = forward(home_url, laptop.url, "--sequence", "2..3")
    with WebhookHandler() as handler:
        rest = forward(home_url, handler.url, "--once")

    assert (replay.exit_code, totals(replay)["delivered"]) == (0, 2)
    assert sorted(laptop.ids) == ["evt_1_0", "evt_2_0"]
    assert totals(rest)["delivered"] == 2
    assert sorted(handler.ids) == ["evt_0_0", "evt_3_0"]


@pytest.mark.slow
def test_long_replay_keeps_its_lease(
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """PostgreSQL ends an idle session; here sooner than it takes to take events."""
    take = ForwardQueue.take
    soon = sa.text("SELECT set_config('idle_session_timeout', '1500ms', false)")
    monkeypatch.setattr("tap_stairoids_webhooks.store.leases._END_IF_IDLE", soon)
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}._PAGE_ROWS", 1)

    def slowly_take(*arguments: Any, **options: Any) -> None:
        time.sleep(0.3)
        take(*arguments, **options)

    monkeypatch.setattr(ForwardQueue, "take", slowly_take)
    with EventStore.create(postgres_url) as store, WebhookHandler() as handler:
        fill(store, accounts=2, number=4)
        done = forward(postgres_url, handler.url, "--sequence", "1..8")

    assert totals(done) == {"delivered": 8, "failed": 0}
    assert "store failing" not in caplog.text


def test_stop_ends_a_long_replay_at_once(store: EventStore, store_url: str) -> None:
    fill(store)
    taken: list[int] = []

    def is_stopping() -> bool:
        with store.transaction("cannot be read") as connection:
            taken.append(
                connection.scalar(sa.select(sa.func.count()).select_from(FORWARDS)) or 0
            )
        return taken[-1] >= 4

    with WebhookHandler() as handler, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tap_stairoids_webhooks.forwarding.forwarder._PAGE_ROWS", 2)
        plan = Plan(store_url=store_url, name="again", sequences=(1, 12))
        Forwarder(plan, Handler(handler.url), is_stopping).run()

    assert (max(taken), handler.ids) == (4, [])


@pytest.mark.parametrize("text", ["3", "5", "13..20", "99"])
def test_sequence_without_an_event_is_an_error(
    home: EventStore, home_url: str, text: str
) -> None:
    fill(home, accounts=1, number=4)
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
        prune(home_url, before="2030")
        home.append([of_account(5, 5)])
        erase(home_url, Person(email=EMAIL))
        done = forward(home_url, handler.url, "--sequence", text)

    assert done.exit_code == 1
    assert "the store has no such event" in done.stderr


def test_sequence_of_another_type_is_an_error(
    store: EventStore, store_url: str
) -> None:
    fill(store)
    url, type_ = "http://127.0.0.1:1/", "signal.scored"
    done = forward(store_url, url, "--sequence", "1..3", "--event-type", type_)

    assert done.exit_code == 1
    assert "it may be pruned, erased or of another type" in done.stderr


@pytest.mark.parametrize("option", ["--name", "--event-type"])
def test_empty_text_of_an_option_is_refused(store_url: str, option: str) -> None:
    done = forward(store_url, "http://127.0.0.1:1/", option, "")

    assert done.exit_code == 2
    assert "must not be empty" in done.stderr


@pytest.mark.parametrize("text", ["x", "4..2", "0x1", "1..", "-1", "1..2..3", ""])
def test_wrong_sequence_is_refused(store_url: str, text: str) -> None:
    done = forward(store_url, "http://127.0.0.1:1/", "--sequence", text)

    assert done.exit_code == 2
    assert done.stderr.startswith("Usage: main forward URL [OPTIONS]\nTry")
    assert "17..20" in done.stderr


def test_erased_event_is_not_delivered(home: EventStore, home_url: str) -> None:
    home.append([of_account(1, 1), a_delivery(a_body("evt_2", data={"id": "x"}))])

    def answer(payload: Payload, number: int) -> Answer:
        if payload["id"] == "evt_1_1":
            erase(home_url, Person(email=EMAIL))
        return BROKEN if number == 1 else OK

    with WebhookHandler(answer) as handler:
        done = forward(home_url, handler.url, "--once", "--workers", "1")

    assert (done.exit_code, handler.ids) == (0, ["evt_2"])
    assert handler.requests["evt_1_1"] == 1


def test_erased_or_pruned_failure_is_gone(home: EventStore, home_url: str) -> None:
    home.append([of_account(1, 1), a_delivery(a_body("evt_2", data={"id": "x"}))])
    with WebhookHandler(lambda *_: BROKEN) as handler:
        forward(home_url, handler.url, "--once")
    erase(home_url, Person(email=EMAIL))
    after_erasure = failures(home_url)
    pruned = prune(home_url, before="2030").removed
    forced = prune(home_url, before="2030", force=True).removed

    assert [failure["sequence"] for failure in after_erasure] == [2]
    assert (pruned, forced) == (1, 1)
    assert (failures(home_url), lags(home)["forward"].failures) == ([], 0)


@pytest.mark.parametrize("is_silent", [True, False])
@pytest.mark.slow
def test_forwarder_recovers_from_a_database_that_fails(
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_silent: bool,
) -> None:
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}._PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(f"{package}._STORE_SECONDS", 1)
    monkeypatch.setattr(f"{package}._LEASE_SECONDS", 15)
    with EventStore.create(postgres_url) as store, SilentProxy(postgres_url) as proxy:
        ids = fill(store, accounts=5, number=9)

        def answer(_payload: Payload, _number: int) -> Answer:
            if len(handler.headers) == 20:
                proxy.fall_silent() if is_silent else proxy.refuse(refuses=True)
            return OK

        def repair() -> None:
            until(lambda: "forwarding: store failing" in caplog.text)
            proxy.refuse(refuses=False)

        with WebhookHandler(answer) as handler, ThreadPoolExecutor() as pool:
            repaired = pool.submit(repair)
            done = forward(proxy.url, handler.url, "--once")
            repaired.result()

        assert done.exit_code == 0, done.stderr
        assert set(handler.ids) == set(ids)
        assert len(handler.ids) < 2 * len(ids)
        assert lags(store)["forward"].events == 0


def test_forwarders_of_different_names_deliver_everything_each(
    home: EventStore, home_url: str
) -> None:
    ids = fill(home)
    with WebhookHandler() as crm, WebhookHandler() as bi, ThreadPoolExecutor() as pool:
        named = {"crm": crm, "bi": bi}
        done = [
            pool.submit(_run, home_url, handler.url, name)
            for name, handler in named.items()
        ]
        for future in done:
            future.result()

    assert sorted(crm.ids) == sorted(bi.ids) == sorted(ids)


def _run(url: str, to: str, name: str) -> None:
    plan = Plan(store_url=url, name=name, once=True)
    Forwarder(plan, Handler(to), lambda: False).run()


def _run_until(url: str, handler: WebhookHandler, number: int) -> None:
    """Run a forwarder until it has delivered a number of events, or for 20 s."""
    ends_at = time.monotonic() + 20

    def is_stopping() -> bool:
        return len(handler.ids) >= number or time.monotonic() > ends_at

    plan = Plan(store_url=url, name="forward")
    Forwarder(plan, Handler(handler.url), is_stopping).run()


@contextmanager
def running_forwarder(
    url: str,
    answer: Callable[[Payload, int], Answer] = lambda *_: OK,
    attempts: int = MAX_ATTEMPTS,
) -> Iterator[WebhookHandler]:
    """Run a forwarder in a thread until the end of the block."""
    stopping = threading.Event()
    with WebhookHandler(answer) as handler, ThreadPoolExecutor() as pool:
        plan = Plan(store_url=url, name="forward", attempts=attempts)
        forwarder = Forwarder(plan, Handler(handler.url), stopping.is_set)
        running = pool.submit(forwarder.run)
        try:
            yield handler
        finally:
            stopping.set()
        running.result()


def test_running_forwarder_delivers_new_events_and_retried_failures(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=1, number=1)
    answers = {"evt_0_0": BROKEN}

    def answer(payload: Payload, _number: int) -> Answer:
        return answers.get(payload["id"], OK)

    with running_forwarder(home_url, answer) as handler:
        until(lambda: len(failures(home_url)) == 1)
        answers.clear()
        forward(home_url, "retry")
        home.append([of_account(9, 9)])
        until(lambda: sorted(handler.ids) == ["evt_0_0", "evt_9_9"])

    assert handler.requests == {"evt_0_0": 9, "evt_9_9": 1}


def test_running_forwarder_delivers_the_events_of_a_copy_that_was_put_back(
    store: EventStore, store_url: str, tmp_path: Path
) -> None:
    fill(store, accounts=1, number=1)
    with running_forwarder(store_url) as handler:
        until(lambda: len(handler.ids) == 1)
        put_back(copied(store_url, tmp_path), store_url)
        with EventStore.open(store_url) as other:
            other.append([of_account(9, 9)])
        until(lambda: "evt_9_9" in handler.ids)


def test_running_forwarder_is_not_forgotten(home: EventStore, home_url: str) -> None:
    fill(home, accounts=1, number=1)
    with running_forwarder(home_url) as handler:
        until(lambda: len(handler.ids) == 1)
        old = ["prune", "--older-than", "1d", "--forget-consumer", "forward"]
        for words in (["forget", "forward"], old, [*old, "--force"]):
            for answer in ("--dry-run", "--yes"):
                arguments = [*words, answer, "--store-url", home_url]
                done = CliRunner().invoke(main, arguments)
                assert done.exit_code == 1
                assert "the forwarder 'forward' runs: stop it first" in done.stderr
        home.append([of_account(9, 9)])
        until(lambda: len(handler.ids) == 2)

    done = CliRunner().invoke(
        main, ["forget", "forward", "--yes", "--store-url", home_url]
    )
    assert done.exit_code == 0
    assert lags(home) == {}


def test_clock_that_was_set_back_delays_no_event(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, accounts=1, number=1)
    package = "tap_stairoids_webhooks.forwarding.forwarder"

    def answer(_payload: Payload, number: int) -> Answer:
        if number == 1:
            monkeypatch.setattr(time, "time", lambda: earlier)
            return BROKEN
        return OK

    earlier = time.time() - 7 * 86_400
    with WebhookHandler(answer) as handler:
        done = forward(store_url, handler.url, "--once")
    assert totals(done) == {"delivered": 1, "failed": 0}

    monkeypatch.undo()
    monkeypatch.setattr(f"{package}.LONGEST_PAUSE", 0.1)
    forward(store_url, "http://127.0.0.1:1/", "--sequence", "1", "--attempts", "1")
    with store.transaction("cannot be changed", lock=True) as connection:
        in_a_week = {"failed_at": None, "due_at": time.time() + 7 * 86_400}
        connection.execute(sa.update(FORWARDS).values(in_a_week))
    with WebhookHandler() as handler:
        done = forward(store_url, handler.url, "--once")

    assert totals(done) == {"delivered": 1, "failed": 0}


def test_two_forwarders_of_one_name_are_refused(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=1, number=1)
    release, is_begun = threading.Event(), threading.Event()

    def answer(_payload: Payload, _number: int) -> Answer:
        is_begun.set()
        release.wait(10)
        return OK

    with WebhookHandler(answer) as handler, ThreadPoolExecutor() as pool:
        running = pool.submit(_run, home_url, handler.url, "crm")
        assert is_begun.wait(10)
        other = forward(home_url, handler.url, "--name", "crm", "--once")
        release.set()
        running.result()

    assert other.exit_code == 1
    assert "a forwarder with the name 'crm' runs already" in other.stderr


def test_lock_that_cannot_be_opened_is_one_sentence(
    store: EventStore, store_url: str, tmp_path: Path
) -> None:
    fill(store, accounts=1, number=1)
    with WebhookHandler() as handler:
        forward(store_url, handler.url, "--once")
    (lock,) = tmp_path.glob("*.forward-*")
    lock.unlink()
    lock.mkdir()

    done = CliRunner().invoke(
        main, ["forget", "forward", "--yes", "--store-url", store_url]
    )

    assert done.exit_code == 1
    assert f"the lock file {lock} cannot be opened: Is a directory" in done.stderr


def test_tap_and_forwarder_cannot_share_a_name(home: EventStore, home_url: str) -> None:
    fill(home)
    acknowledge(home, "warehouse", {"*": 3})
    with WebhookHandler() as handler:
        done = forward(home_url, handler.url, "--name", "warehouse", "--once")
        both = ["--store-url", home_url, "--forward", f"warehouse={handler.url}"]
        served = CliRunner(env={"STAIROIDS_WEBHOOK_SECRET": SECRET}).invoke(
            main, ["serve", "--port", "0", *both]
        )
        forward(home_url, handler.url, "--name", "crm", "--once")

    assert "the consumer 'warehouse' is a tap" in done.stderr
    assert served.exit_code == 1
    assert "the consumer 'warehouse' is a tap" in served.stderr
    assert served.stdout == ""
    with pytest.raises(ConfigError, match="'crm' is a forwarder"):
        acknowledge(home, "crm", {"*": 3})


def test_prune_keeps_events_that_are_not_delivered(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=1, number=4)
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
    home.append([of_account(1, n) for n in range(4, 9)])

    done = prune(home_url, before="2030")

    assert (done.removed, done.kept_for) == (4, {"forward": 5})


def test_prune_keeps_the_events_of_a_forwarder_that_has_had_none(
    home: EventStore, home_url: str
) -> None:
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
    fill(home, accounts=1, number=3)
    acknowledge(home, "warehouse", {"*": 3})

    done = prune(home_url, before="2030")

    assert (done.removed, done.kept_for) == (0, {"forward": 3})


def test_prune_keeps_all_events_of_a_forwarder_that_began_with_a_replay(
    home: EventStore, home_url: str
) -> None:
    fill(home, accounts=1, number=3)
    acknowledge(home, "warehouse", {"*": 3})
    with WebhookHandler(lambda *_: BROKEN) as handler:
        forward(home_url, handler.url, "--sequence", "1", "--attempts", "1")
    lag = lags(home)["forward"].events

    done = prune(home_url, before="2030")
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")

    assert (lag, done.removed, done.kept_for) == (3, 0, {"forward": 3})
    assert handler.ids == ["evt_0_0", "evt_0_1", "evt_0_2"]


def test_forgotten_forwarder_begins_with_the_oldest_event(
    home: EventStore, home_url: str
) -> None:
    fill(home)
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
        arguments = ["forget", "forward", "--yes", "--store-url", home_url]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        done = forward(home_url, handler.url, "--once")

    assert totals(done)["delivered"] == 12


def test_restored_store_is_not_delivered_again(home: EventStore, home_url: str) -> None:
    fill(home)
    acknowledge(home, "warehouse", {"*": 12})
    with WebhookHandler() as handler:
        forward(home_url, handler.url, "--once")
        assert home.begin_generation() == 2
        home.append([of_account(9, 9)])
        done = forward(home_url, handler.url, "--once")

    assert totals(done)["delivered"] == 1
    assert lags(home)["warehouse"].events == 13


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("http://example.com/", "only to this machine, or with --allow-http"),
        ("ftp://example.com/", "must begin with https://"),
        ("http://127.0.0.1:abc/", "must begin with https://"),
        ("https://u:hunter2@example.com/", "must hold no credentials"),
        ("nowhere", "must begin with https://"),
    ],
)
def test_unsafe_url_is_refused(store_url: str, to: str, message: str) -> None:
    done = forward(store_url, to)

    assert done.exit_code == 1
    assert message in done.stderr
    assert "hunter2" not in done.stderr


def test_http_beyond_this_machine_needs_an_option(
    store: EventStore, store_url: str
) -> None:
    done = forward(store_url, "http://0.0.0.0:1/", "--allow-http", "--once")

    assert done.exit_code == 0
    assert store.last_sequence() == 0


def test_missing_store_is_an_error(store_url: str) -> None:
    done = forward(store_url, "http://127.0.0.1:1/", "--once")

    assert done.exit_code == 1
    assert "there is no store" in done.stderr


@pytest.mark.slow
def test_nothing_secret_or_personal_is_logged(
    store: EventStore, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(store)
    with WebhookHandler(lambda *_: BROKEN) as handler:
        done = forward(store_url, handler.url, "--once")

    assert "forwarding failed, the event is kept" in caplog.text
    for canary in (EMAIL, "canary", "sha256=", "acc_"):
        assert canary not in done.output + caplog.text


@pytest.mark.slow
def test_many_events_are_taken_in_parts(
    store: EventStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}._MOST_WAITING", 10)
    monkeypatch.setattr(f"{package}._PAGE_ROWS", 4)
    monkeypatch.setattr(f"{package}._RELOAD_SECONDS", 60)
    ids = fill(store, accounts=7, number=10)
    with WebhookHandler() as handler:
        done = forward(store_url, handler.url, "--once")
        again = forward(store_url, handler.url, "--sequence", "1..70")

    assert totals(done)["delivered"] == totals(again)["delivered"] == 70
    for account in range(7):
        prefix = f"evt_{account}_"
        of_account_ = [i for i in ids if i.startswith(prefix)]
        assert [i for i in handler.ids if i.startswith(prefix)] == of_account_ * 2


def test_store_that_fails_is_tried_again(
    store: EventStore,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(store)
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0.1)
    package = "tap_stairoids_webhooks.forwarding.forwarder"
    monkeypatch.setattr(f"{package}._PAUSE_SECONDS", 0.1)
    is_begun, is_locked = threading.Event(), threading.Event()

    def answer(_payload: Payload, _number: int) -> Answer:
        is_begun.set()
        assert is_locked.wait(10)
        return OK

    def lock() -> None:
        assert is_begun.wait(10)
        with locked(store_url):
            is_locked.set()
            until(lambda: "forwarding: store failing" in caplog.text)

    with WebhookHandler(answer) as handler, ThreadPoolExecutor() as pool:
        is_done = pool.submit(lock)
        done = forward(store_url, handler.url, "--once")
        is_done.result()

    assert done.exit_code == 0
    assert len(set(handler.ids)) == 12
    assert lags(store)["forward"].events == 0
