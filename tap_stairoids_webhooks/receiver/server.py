"""Run the receiver as a web server: sockets, deadlines, start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from types import FrameType
from typing import Any, Self, cast

import uvicorn
from typing_extensions import override
from uvicorn.server import ServerState

from stairoids_common.config import listening_socket
from stairoids_common.http import in_thread
from stairoids_common.time import parse_time
from tap_stairoids_webhooks.environment import (
    HEALTH_PATH,
    ReceiverSettings,
    admin_token,
    check_path,
)
from tap_stairoids_webhooks.exceptions import ConfigError, StoreUnavailableError
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.posix_signals import handled_by
from tap_stairoids_webhooks.receiver.admin.app import AdminApp
from tap_stairoids_webhooks.receiver.admin.metrics import (
    CommitHistograms,
    ReceiverStatus,
)
from tap_stairoids_webhooks.receiver.app import ReceiverApp
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.receiver.housekeeping import Housekeeping, logged_error
from tap_stairoids_webhooks.receiver.http_limits import (
    REQUEST_SECONDS,
    Connection,
)
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)

#: Longer than proxies keep idle connections (Google Cloud: 600 s, Caddy: 120 s). If the
#: receiver closes first, a request that is on its way fails with 502.
KEEP_ALIVE_SECONDS = 620
_DRAIN_SECONDS = int(REQUEST_SECONDS) + 2
_COMMIT_SECONDS = 1.0
_STOP_SECONDS = 14.0  # after SIGTERM, in every case
_REFUSAL_SECONDS = 5  # between two updates of the refusal counts in the store
_TICKS_PER_SECOND = 10


class Receiver:
    """A receiver that listens. As a context manager it runs in a thread.

    Args:
        settings: Of these, it does not use those about logs and forwarding. A port 0
            takes a free one.
        secrets: The webhook secrets; each of them is valid.
        token: Of the admin port, if there is one. Without it, the environment's.

    Attributes:
        url: URL of the webhook.
        admin_url: URL of the admin pages; None without an admin port.
    """

    def __init__(
        self, settings: ReceiverSettings, *, secrets: Sequence[str], token: str = ""
    ) -> None:
        host, path, admin_port = settings.host, settings.path, settings.admin_port
        check_path("--path", path, HEALTH_PATH)
        if admin_port is not None:
            token = token or admin_token()
        with ExitStack() as opened:
            port = settings.port
            self._socket = opened.enter_context(_listen(host, port, "--host or --port"))
            admin_socket = None
            if admin_port is not None:
                admin_socket = _listen("127.0.0.1", admin_port, "--admin-port")
                opened.enter_context(admin_socket)
            self.store = opened.enter_context(EventStore.create(settings.store_url))
            last_at = None
            with suppress(ValueError):  # of a store that was changed by hand
                last_at = parse_time(self.store.last_received_at() or "").timestamp()
            self._opened = opened.pop_all()
        histograms = None if admin_socket is None else CommitHistograms()
        self._commits = CommitQueue(
            self.store,
            last_commit_at=last_at,
            on_commit=None if histograms is None else histograms.observe,
        )
        self._app = ReceiverApp(
            settings=settings, verifier=Verifier(secrets), commits=self._commits
        )
        self._on_ready: Callable[[], None] = lambda: None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}{path}"
        self.admin_url: str | None = None
        listening = None
        interrupts = [self.store.database.interrupt]
        if admin_socket is not None and histograms is not None:
            admin_port = admin_socket.getsockname()[1]
            self.admin_url = f"http://127.0.0.1:{admin_port}"
            status = ReceiverStatus(
                self._app, self._commits, self.store, histograms.registry
            )
            self._opened.callback(status.close)
            interrupts.append(status.interrupt)
            admin_app = AdminApp(status, token=token, port=admin_port, url=self.url)
            listening = (admin_app, admin_socket)
        self._server = _Server(
            self._app,
            self._commits,
            Housekeeping(self._app, self._commits, self.store.database, interrupts),
            admin=listening,
            on_ready=self._ready,
        )

    @property
    def counts(self) -> Counter[str]:
        """Number of requests so far by result."""
        return self._app.counts.copy()

    @property
    def is_stopping(self) -> bool:
        """Whether SIGTERM or SIGINT came."""
        return self._server.should_exit

    def run(self, *, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT, then finish the requests that have begun."""
        self._on_ready = on_ready
        self._serve()
        if not self._server.is_store_used:
            msg = "the thread that stores deliveries has ended: start again"
            raise StoreUnavailableError(msg)
        logger.info(LogLine("stopped", exit_code=0, unanswered=self._server.unanswered))

    def __enter__(self) -> Self:
        ready: Future[None] = Future()
        self._on_ready = lambda: ready.set_result(None)
        self._end = in_thread(self._serve)
        wait([ready, self._end], return_when=FIRST_COMPLETED)
        if not ready.done():
            self._end.result()  # raises the error that it could not start with
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._server.should_exit = True
        self._end.result()

    def close(self) -> None:
        """Free the port and the store of a receiver that does not run."""
        self._opened.close()

    def _ready(self) -> None:
        self._on_ready()

    def _serve(self) -> None:
        with closing(self):
            self._commits.start()
            try:
                self._server.run(sockets=[self._socket])
            finally:
                if not self._commits.close(seconds=_COMMIT_SECONDS):
                    self.store.database.interrupt()


def _config_for(app: ReceiverApp | AdminApp) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", app),
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )


class _Server(uvicorn.Server):
    """A web server that checks connections and free space every second.

    Attributes:
        unanswered: Number of requests without a response when the server stopped.
        is_store_used: False if the thread that stores deliveries has ended.
    """

    def __init__(
        self,
        app: ReceiverApp,
        commits: CommitQueue,
        housekeeping: Housekeeping,
        *,
        admin: tuple[AdminApp, socket.socket] | None,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(_config_for(app))
        self._receiver = app
        self._commits = commits
        self._housekeeping = housekeeping
        self._admin_state = ServerState()
        self._admin_server: asyncio.Server | None = None
        self._admin = admin
        self._on_ready = on_ready
        self.unanswered = 0
        self.is_store_used = True
        # Also while forwarders wait for the store, after the server has stopped.
        self._forced_exit = threading.Timer(_STOP_SECONDS, _exit_now)
        self._forced_exit.daemon = True

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with logged_error():
            self._housekeeping.check_disk()
        await super().startup(sockets)
        if self._admin is not None:
            app, listening = self._admin
            config = _config_for(app)
            self._admin_server = await asyncio.get_running_loop().create_server(
                lambda: Connection(
                    config=config, server_state=self._admin_state, app_state={}
                ),
                sock=listening,
            )
        self._on_ready()

    @override
    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            if not self._commits.is_alive:
                self.is_store_used = False
                self.should_exit = True
            with logged_error():
                self._housekeeping.check()
            states = (self.server_state, self._admin_state)
            for connection in [c for state in states for c in state.connections]:
                if isinstance(connection, Connection):
                    connection.close_if_late()
        if counter % (_REFUSAL_SECONDS * _TICKS_PER_SECOND) == 0:
            self._housekeeping.store_refusals()
        return await super().on_tick(counter)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._receiver.draining = True
        self._log_stopping()
        await super().shutdown(sockets)
        self.unanswered = len(self.server_state.tasks)
        if self._admin_server is not None and self._admin is not None:
            self._admin_server.close()
            self._admin[0].stop()
            for connection in list(self._admin_state.connections):
                connection.shutdown()
            if tasks := list(self._admin_state.tasks):
                await asyncio.wait(tasks, timeout=_COMMIT_SECONDS)
        self._housekeeping.report()
        self._housekeeping.store_refusals()

    def _log_stopping(self) -> None:
        """Log the stop here, because the signal handler may interrupt a log line."""
        number = next(iter(self._captured_signals), None)
        logger.info(
            LogLine(
                f"stopping, begun requests have {_DRAIN_SECONDS} s to finish",
                signal="none" if number is None else signal.Signals(number).name,
                requests=len(self.server_state.tasks),
            )
        )

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._forced_exit.start()
        super().handle_exit(sig, frame)

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not raise SIGTERM again at the end, so that the exit code is 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with handled_by(self.handle_exit):
            yield


def _exit_now() -> None:
    """End the process, in which a thread waits for a database without end."""
    logger.error(LogLine("stopped", exit_code=1))
    os._exit(1)


def _listen(host: str, port: int, options: str) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another "
            f"{options}."
        ) from error
