"""The web server around the receiver: sockets, deadlines, start and stop.

The only module that knows uvicorn. Its HTTP parser is strict, but it waits for
slow senders without end and takes headers of any size; `_Connection` does not.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, cast

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tap_stairoids_webhooks.commits import CommitQueue
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.receiver import ReceiverApp
from tap_stairoids_webhooks.settings import DEFAULT_MAX_BODY_BYTES, DEFAULT_PATH
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store import EventStore

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_CONNECTIONS = 500
_TICKS_PER_SECOND = 10


class Receiver:
    """A receiver that listens; as a context manager, in a thread of its own.

    Args:
        store_url: Where deliveries go.
        secrets: Any of them may have signed.
        host: The address to listen on.
        port: 0 takes a free one.
        path: Where deliveries come in.
        max_body_bytes: A larger body is refused.

    Raises:
        ConfigError: The address cannot be listened on.
        StoreError: The store cannot be used.
    """

    def __init__(
        self,
        *,
        store_url: str,
        secrets: Sequence[str],
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = DEFAULT_PATH,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        if not path.startswith("/"):
            msg = f"--path must begin with a slash, not {path!r}"
            raise ConfigError(msg)
        self._socket = _listen(host, port)
        try:
            self.store = EventStore.create(store_url)
        except BaseException:
            self._socket.close()
            raise
        self._commits = CommitQueue(self.store)
        self._app = ReceiverApp(
            verifier=Verifier(secrets),
            commits=self._commits,
            path=path,
            max_body_bytes=max_body_bytes,
        )
        self._server = _Server(self._app)
        self._thread = threading.Thread(target=self._serve, name="receiver")
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}{path}"

    @property
    def counts(self) -> Counter[str]:
        """Answers so far, by what became of the request."""
        return self._app.counts.copy()

    def run(self, *, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT; then finish what was begun."""
        self._server.on_ready = on_ready
        self._serve()

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._server.on_ready = ready.set
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _serve(self) -> None:
        self._commits.start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._commits.close()
            self.store.close()
            self._socket.close()


class _Server(uvicorn.Server):
    """Exits 0 after a signal, and looks after the connections each second."""

    def __init__(self, app: ReceiverApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(REQUEST_SECONDS) + 2,
            )
        )
        self._receiver = app
        self._reported: Counter[str] = app.counts.copy()
        self.on_ready: Callable[[], None] = lambda: None

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()

    @override
    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            self._report()
            for connection in list(self.server_state.connections):
                if isinstance(connection, _Connection):
                    connection.close_if_late()
        return await super().on_tick(counter)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._receiver.draining = True
        await super().shutdown(sockets)
        self._report()

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not raise the signal again at the end: a drained stop is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _report(self) -> None:
        """Log what came in since the last line, if anything did."""
        counts = self._receiver.counts.copy()
        new = counts - self._reported
        self._reported = counts
        if new:
            facts = " ".join(f"{name}={number}" for name, number in sorted(new.items()))
            logger.info("deliveries: %s", facts)


class _Connection(HttpToolsProtocol):
    """A connection whose requests must be small-headed and on time."""

    waiting_since: float | None = None  # when the request being read began
    _head_bytes = 0
    _in_head = True
    _refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.waiting_since is None and self._answered:
            self.waiting_since = self.loop.time()
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self.waiting_since = None
        self._in_head = True
        self._head_bytes = 0
        if not self._refused:
            super().on_message_complete()

    @property
    def _answered(self) -> bool:
        """True if no request is with the application."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def close_if_late(self) -> None:
        """End a request that takes too long to arrive."""
        if (
            self.waiting_since is None
            or self.loop.time() - self.waiting_since < REQUEST_SECONDS
        ):
            return
        if self._in_head and self._answered:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    @override
    def send_400_response(self, msg: str) -> None:
        self._count("not_http")
        super().send_400_response(msg)

    def _refuse(self, status: bytes) -> None:
        self._count("too_slow" if status.startswith(b"408") else "large_head")
        self._refused = True
        self.transport.write(
            b"HTTP/1.1 "
            + status
            + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()

    def _count(self, what: str) -> None:
        cast("ReceiverApp", self.app).counts[what] += 1

    def _make_room(self) -> None:
        """Drop the connection that has been sending one request for longest."""
        ages = {
            connection.waiting_since: connection
            for connection in self.connections
            if isinstance(connection, _Connection) and connection.waiting_since
        }
        ages[min(ages)].transport.abort()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(
            (str(address[0]), port), family=family, backlog=1024
        )
    except OSError as error:
        msg = f"cannot listen on {host} port {port}: {error.strerror}"
        raise ConfigError(msg) from error
