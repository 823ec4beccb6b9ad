"""Any bytes get a response, raise nothing, and do not disturb the next sender."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from tap_stairoids_webhooks.environment import ReceiverSettings
from tap_stairoids_webhooks.event import event_from, payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tap_stairoids_webhooks.receiver.app import ReceiverApp
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.signature import Verifier, sign
from tap_stairoids_webhooks.store.erasure import Person
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_receiver,
    exchange,
    raw_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from tap_stairoids_webhooks.event import Delivery
    from tap_stairoids_webhooks.store.schema import Outcome

# No shared database of examples.
settings.register_profile("ours", deadline=None, database=None)
FUZZ = settings(
    settings.get_profile("ours"),
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)

STATUSES = {200, 400, 401, 404, 405, 408, 413, 415, 431, 503}
NAMES = st.sampled_from(
    [
        b"x-stairoids-signature",
        b"x-stairoids-event",
        b"x-stairoids-delivery",
        b"content-length",
        b"content-encoding",
        b"content-type",
    ]
)
SIGNED = sign(a_body(), SECRET)
VALUES = st.one_of(
    st.binary(max_size=100),
    st.sampled_from([SIGNED, SIGNED[:-1], b"identity", b"gzip", b"12", b"-1"]),
)
HEADERS = st.lists(st.tuples(NAMES | st.binary(max_size=30), VALUES), max_size=8)
CHUNKS = st.lists(st.binary(max_size=300), max_size=5)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    url = f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/webhooks.db"
    with a_receiver(url, max_body=1_000) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommitQueue]:
    url = f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/webhooks.db"
    with EventStore.create(url) as store:
        queue = CommitQueue(store)
        queue.start()
        yield queue
        queue.close()


async def status_of(
    app: ReceiverApp, scope: MutableMapping[str, Any], chunks: list[bytes]
) -> int:
    parts = iter(chunks)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        part = next(parts, None)
        if part is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": part, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


@given(
    headers=HEADERS,
    chunks=CHUNKS,
    method=st.sampled_from(["POST", "GET", "\x00"]),
    path=st.sampled_from(["/webhooks/stairoids", "/healthz"]) | st.text(max_size=20),
    signed=st.booleans(),
)
@FUZZ
def test_any_request_gets_a_response(
    commits: CommitQueue,
    headers: list[tuple[bytes, bytes]],
    chunks: list[bytes],
    method: str,
    path: str,
    *,
    signed: bool,
) -> None:
    if signed:
        given_ = [(n, v) for n, v in headers if n != b"x-stairoids-signature"]
        headers = [*given_, (b"x-stairoids-signature", sign(b"".join(chunks), SECRET))]
    app = ReceiverApp(
        settings=ReceiverSettings(max_body=1_000),
        verifier=Verifier([SECRET]),
        commits=commits,
    )
    scope = {"type": "http", "method": method, "path": path, "headers": headers}

    status = asyncio.run(status_of(app, scope, chunks))

    assert status in STATUSES
    assert app.counts["failed"] == 0


class Broken(CommitQueue):
    """A queue with a bug."""

    @override
    def submit(self, delivery: Delivery) -> asyncio.Future[Outcome]:
        raise KeyError(delivery.body)


def test_bug_is_logged_by_its_place_without_the_body(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    app = ReceiverApp(
        settings=ReceiverSettings(),
        verifier=Verifier([SECRET]),
        commits=Broken(store),
    )
    headers = [(b"x-stairoids-signature", SIGNED)]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/webhooks/stairoids",
        "headers": headers,
    }

    status = asyncio.run(status_of(app, scope, [a_body()]))

    assert status == 503
    assert re.search(
        r"request failed: error=KeyError at=test_fuzz\.py:\d+", caplog.text
    )
    assert EMAIL not in caplog.text


@given(noise=st.binary(max_size=200), at=st.integers(0, 600), cut=st.integers(0, 50))
@FUZZ
def test_damaged_request_disturbs_no_other(
    served: Receiver, noise: bytes, at: int, cut: int
) -> None:
    parts = urlsplit(served.url)
    address = (str(parts.hostname), int(parts.port or 0))
    request = raw_request(a_body())
    damaged = request[:at] + noise + request[at + cut :]

    with (
        suppress(ConnectionError),
        socket.create_connection(address, timeout=60) as connection,
    ):
        connection.sendall(damaged)
        connection.shutdown(socket.SHUT_WR)
        first = connection.recv(65536)
        assert not first or int(first.split(b" ", 2)[1]) in STATUSES

    assert exchange(address, raw_request(a_body("evt_honest"))) == 200
    assert served.counts["failed"] == 0


@given(body=st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
@FUZZ
def test_any_signed_body_is_an_event(body: bytes) -> None:
    event = event_from(body)

    assert event.dedupe_key.isprintable()
    assert event_from(body) == event
    Person(email="a@b.test", contact_id="1").is_in(body)
    with suppress(MalformedBodyError):
        assert isinstance(payload_from(body), dict)


@given(body=st.binary(max_size=200), header=st.binary(max_size=100))
@FUZZ
def test_no_bytes_pass_for_a_signature(body: bytes, header: bytes) -> None:
    verifier = Verifier([SECRET])

    assert verifier.key_id_for(body, header) is None
    assert verifier.key_id_for(body, sign(body, SECRET)) is not None
