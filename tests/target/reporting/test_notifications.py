"""People get one notification for each change of a pipeline's state."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stairoids_common.time import timestamp
from target_stairoids.exceptions import ConfigError
from target_stairoids.ledger.structs import NotifiedState, PipelineFacts
from target_stairoids.reporting.notifications import Ending, event_of, state_after
from tests.support.raw_server import Server, running
from tests.support.sandbox_receiver import Receiver
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    text_of,
    wait_until,
)
from tests.target.test_settings import settings_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path


# Apprise imports it on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def watched(target: TargetUnderTest, endpoint: Receiver) -> TargetUnderTest:
    """A target that notifies an endpoint on this machine."""
    target.config |= {"notify": [endpoint.url], "source": "billing"}
    return target


def events_in(endpoint: Receiver) -> list[str]:
    return [received.json()["event"] for received in endpoint.received]


def test_revoked_key_is_one_notification_and_its_recovery_another(
    watched: TargetUnderTest, endpoint: Receiver
) -> None:
    watched.run(a_schema(), a_record(1))
    for _ in range(3):
        assert watched.run(a_schema(), a_record(2), api_key="sk_no").exit_code == 1
    watched.run(a_schema(), a_record(2))
    watched.run(a_schema(), a_record(2))

    failing, recovered = (received.json() for received in endpoint.received)
    assert (failing["event"], recovered["event"]) == ("failing", "recovered")
    assert (failing["source"], failing["namespace"]) == ("billing", None)
    assert (failing["run"], failing["exit_code"]) == (2, 1)
    assert failing["last_success"] is not None
    assert recovered["outcomes"] == {"accepted": 1}
    assert failing["text"] == (
        "Stairoids signals of billing: the pipeline fails (exit 1)."
    )


def test_new_dead_letters_are_one_notification_without_personal_data(
    watched: TargetUnderTest, endpoint: Receiver
) -> None:
    bad = a_schema(), a_record(1, email="canary"), a_record(2, email="canary")
    for _ in range(2):
        watched.run(*bad)
    watched.run(*bad, a_record(3, email="canary"))

    first, second = (received.json() for received in endpoint.received)
    assert (first["event"], first["new_dead_letters"]) == ("dead_letters", 2)
    assert (second["new_dead_letters"], second["dead_letters"]) == (1, 3)
    assert not any(b"canary" in received.body for received in endpoint.received)
    assert not any(b"trials" in received.body for received in endpoint.received)


def test_pipelines_have_states_of_their_own(
    watched: TargetUnderTest, endpoint: Receiver
) -> None:
    for more in ({}, {"source": "crm"}, {"namespace": "eu"}):
        watched.run(a_schema(), a_record(1), api_key="sk_no", **more)

    named = [(r.json()["namespace"], r.json()["source"]) for r in endpoint.received]
    assert named == [(None, "billing"), (None, "crm"), ("eu", "billing")]


@pytest.mark.parametrize("status", [500, 302, 0])
def test_failing_notification_fails_no_run_and_is_sent_by_the_next_one(
    watched: TargetUnderTest,
    endpoint: Receiver,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    endpoint.responses = [status]

    first = watched.run(a_schema(), a_record(1, email="nobody"))
    second = watched.run(a_schema())
    third = watched.run(a_schema())

    assert [run.exit_code for run in (first, second, third)] == [0, 0, 0]
    assert events_in(endpoint) == ["dead_letters", "dead_letters"]
    assert "`notify[0]` got no notification" in caplog.text
    assert endpoint.url not in caplog.text


def test_notification_whose_response_never_ends_delays_no_run(
    watched: TargetUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("target_stairoids.reporting.notifications._SECONDS", 0.5)

    def drip_a_head(connection: socket.socket) -> None:
        with suppress(OSError):  # until the run has hung up
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.1):
                connection.sendall(b"x")

    ended = threading.Event()
    server = Server()
    server.response = drip_a_head
    with running(server):
        watched.run(a_schema(), a_record(1), api_key="sk_no", notify=[server.url])
        ended.set()

    assert "`notify[0]` got no notification: TimeoutError." in caplog.text


def test_head_that_is_cut_off_takes_no_notification(
    watched: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    server.response = b"HTTP/1.1 200 O"
    with running(server):
        watched.run(a_schema(), a_record(1), api_key="sk_no", notify=[server.url])

    assert "`notify[0]` got no notification: ConnectionError." in caplog.text


def test_each_run_that_cannot_open_its_ledger_is_notified(
    watched: TargetUnderTest, endpoint: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    watched.config["ledger_url"] = f"sqlite:///{tmp_path}/broken.db"

    for dry_run in (False, False, True):
        assert watched.run(a_schema(), a_record(1), dry_run=dry_run).exit_code == 1

    failing, again = (received.json() for received in endpoint.received)
    assert failing == again
    assert (failing["event"], failing["run"]) == ("failing", None)
    assert failing["text"] == (
        "Stairoids signals of billing: the pipeline fails"
        " (its ledger cannot be opened)."
    )


def test_next_run_sends_the_notification_of_a_killed_run(
    watched: TargetUnderTest, endpoint: Receiver
) -> None:
    watched.run(a_schema(), a_record(1))
    process = watched.start(text_of([a_schema()]))
    wait_until(lambda: watched.has_begun(2))
    process.kill()
    process.communicate()

    watched.run(a_schema(), a_record(3))

    killed, recovered = (received.json() for received in endpoint.received)
    assert (killed["event"], killed["run"]) == ("failing", 2)
    assert killed["exit_code"] is None
    assert (recovered["event"], recovered["run"]) == ("recovered", 3)


def test_run_beside_another_one_leaves_the_state(
    watched: TargetUnderTest, endpoint: Receiver
) -> None:
    watched.run(a_schema(), a_record(1), api_key="sk_no")
    process = watched.start(text_of([a_schema()]))
    wait_until(lambda: watched.has_begun(2))

    watched.run(a_schema(), a_record(1))
    process.communicate()

    assert events_in(endpoint) == ["failing", "recovered"]


def test_dry_run_sends_no_notification(
    watched: TargetUnderTest, endpoint: Receiver
) -> None:
    watched.run(a_schema(), a_record(1, email="nobody"), dry_run=True)

    assert endpoint.received == []


@pytest.mark.slow
def test_services_of_apprise_get_the_sentence(
    target: TargetUnderTest, endpoint: Receiver
) -> None:
    url = endpoint.url.replace("http://", "json://")

    target.run(a_schema(), a_record(1, email="nobody"), notify=[url])

    (received,) = endpoint.received
    assert json.loads(received.body)["message"] == (
        "Stairoids signals of singer: the pipeline has new dead letters (exit 0). "
        "1 new dead letter."
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/canary", "must be https"),
        ("https:///canary", "is not a URL"),
        ("nowhere://canary", "is no URL that Apprise knows"),
        ("https://[canary", "is not a URL"),
    ],
)
def test_url_that_cannot_be_used_is_refused_without_its_text(
    url: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"`notify\[1\]` {says}") as caught:
        settings_of(notify=["https://example.com", url])

    assert "canary" not in str(caught.value)


def ending(code: int | None, *, is_whole: bool = False) -> Ending:
    return Ending(1, code, is_whole, {})


@pytest.mark.parametrize(
    ("known", "end", "hours", "state"),
    [
        ("ok", ending(0, is_whole=True), 1, "ok"),
        ("failing", ending(0, is_whole=True), 1, "ok"),
        ("ok", ending(1), 1, "failing"),
        ("ok", ending(2), 1, "failing"),
        ("ok", ending(None), 1, "failing"),
        ("incomplete", ending(1), 1, "failing"),
        ("ok", ending(75), 23, "ok"),
        ("ok", ending(75), 25, "incomplete"),
        ("ok", ending(143), 25, "incomplete"),
        ("ok", ending(0), 25, "incomplete"),  # `on_incomplete: succeed`
        ("failing", ending(75), 25, "failing"),
        ("incomplete", ending(75), 1, "incomplete"),
    ],
)
def test_state_follows_from_the_end_of_a_run(
    known: str, end: Ending, hours: int, state: str
) -> None:
    success = timestamp(NOW - timedelta(hours=hours))

    for facts in (
        PipelineFacts(success, None, 0, None, 0),
        PipelineFacts(None, success, 0, None, 0),
    ):
        assert state_after(known, end, facts, NOW) == state


@pytest.mark.parametrize(
    ("known", "state", "newest", "event"),
    [
        ("ok", "ok", 5, None),
        ("ok", "ok", 6, "dead_letters"),
        ("ok", "failing", 6, "failing"),
        ("failing", "incomplete", 5, "incomplete"),
        ("incomplete", "ok", 5, "recovered"),
        ("failing", "failing", 4, None),
    ],
)
def test_event_is_the_change_that_people_do_not_know(
    known: str, state: str, newest: int, event: str | None
) -> None:
    assert event_of(NotifiedState(known, 5), state, newest) == event
