"""A connection is closed when its sender stops to read, and not before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override
from uvicorn import Config
from uvicorn.server import ServerState

from tap_stairoids_webhooks.receiver.http_limits import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator


class Transport(asyncio.Transport):
    """A transport to a sender that reads as the test says."""

    unread = 0
    aborted = False

    @override
    def get_write_buffer_size(self) -> int:
        return self.unread

    @override
    def abort(self) -> None:
        self.aborted = True


async def _no_app(_scope: object, _receive: object, _send: object) -> None:
    """Respond to nothing."""


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection that is late at the second look without a difference."""
    package = "tap_stairoids_webhooks.receiver"
    monkeypatch.setattr(f"{package}.http_limits.REQUEST_SECONDS", 0)
    loop = asyncio.new_event_loop()
    made = Connection(
        Config(_no_app, log_config=None), ServerState(), app_state={}, _loop=loop
    )
    made.connection_made(Transport())
    made.waiting_since = None
    yield made
    loop.close()


@pytest.mark.parametrize(
    ("looks", "is_closed"),
    [
        ([9, 8, 7, 1], False),
        ([9, 0, 9, 0, 9], False),
        ([9, 9], True),
        ([9, 8, 8], True),
    ],
)
def test_sender_that_reads_steadily_is_not_late(
    connection: Connection, looks: list[int], *, is_closed: bool
) -> None:
    transport = connection.transport
    assert isinstance(transport, Transport)
    for transport.unread in looks:
        connection.close_if_late()

    assert transport.aborted is is_closed


@pytest.mark.parametrize("unread", [0, 9])
def test_only_unread_responses_make_a_busy_connection_unneeded(
    connection: Connection, unread: int
) -> None:
    transport = connection.transport
    assert isinstance(transport, Transport)
    transport.unread = 9
    connection.close_if_late()
    connection._other_bytes = 1  # a request has arrived
    transport.unread = unread

    assert (connection.age_if_unneeded is not None) is bool(unread)
