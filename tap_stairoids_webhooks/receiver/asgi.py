"""The receiver as an ASGI application, for another server or inside another app.

It has the limits of signature, body and store. The limits of connections, heads and
slow senders are those of the outer server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from stairoids_common.error_ids import with_id
from tap_stairoids_webhooks import environment
from tap_stairoids_webhooks.environment import READY_PATH, ReceiverSettings
from tap_stairoids_webhooks.exceptions import WebhooksError
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.receiver.app import (
    RETRY_AFTER,
    Receive,
    ReceiverApp,
    Scope,
    Send,
    send_response,
)
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.receiver.housekeeping import (
    Housekeeping,
    logged_error,
    problems_of,
)
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0
_PAUSE_SECONDS = 1.0  # after a store that cannot be opened


class EmbeddedReceiver:
    """Receives deliveries; `GET /readyz` responds 200 or 503.

    It opens the store at the start of the server. Without a lifespan protocol, as in
    Starlette's `Mount`, it does so at the first request. Settings about addresses,
    ports and logs are not used. `WebhooksError` if the store cannot be opened now.
    """

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._verifier = Verifier(environment.secrets())
        # Closed again, because a server may fork after this.
        EventStore.create(settings.store_url).close()
        self._running: _Running | None = None
        self._lock = asyncio.Lock()
        self._failure: tuple[float, WebhooksError] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the start and the stop of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._respond(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            running = await self._start()
        except WebhooksError:
            await send_response(send, 503, b"store_unavailable", RETRY_AFTER)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == READY_PATH:
            is_ready = not any(problems_of(running.app, running.commits).values())
            text = b"ready" if is_ready else b"not ready"
            await send_response(send, 200 if is_ready else 503, text)
        else:
            await running.app({**scope, "path": path}, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            running = await self._start()
        except WebhooksError as error:
            message = with_id(str(error))
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await running.stop()
        self._running = None  # a server may start this app again
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> _Running:
        """Open the store once, beside the other work of the server."""
        async with self._lock:
            if self._running is None:
                store = await self._open_store()
                self._running = _Running(self._settings, self._verifier, store)
            return self._running

    async def _open_store(self) -> EventStore:
        if self._failure and time.monotonic() < self._failure[0]:
            raise self._failure[1]
        try:
            return await asyncio.to_thread(EventStore.create, self._settings.store_url)
        except WebhooksError as error:
            self._failure = time.monotonic() + _PAUSE_SECONDS, error
            logger.error(LogLine("store failing", error=str(error)))  # noqa: TRY400 -- a log line has no traceback
            raise


class _Running:
    """The parts of a receiver whose store is open."""

    def __init__(
        self, settings: ReceiverSettings, verifier: Verifier, store: EventStore
    ) -> None:
        self._store = store
        self.commits = CommitQueue(store)
        self.app = ReceiverApp(
            settings=settings, verifier=verifier, commits=self.commits
        )
        self._housekeeping = Housekeeping(
            self.app, self.commits, store.database, [store.database.interrupt]
        )
        self.commits.start()
        self._task = asyncio.get_running_loop().create_task(self._keep_house())

    async def stop(self) -> None:
        """Refuse new deliveries, and commit those that wait."""
        self.app.draining = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        try:
            self._housekeeping.store_refusals()
        finally:
            await asyncio.to_thread(self.commits.close, seconds=_CLOSE_SECONDS)
            self._store.close()

    async def _keep_house(self) -> None:
        while True:
            with logged_error():
                self._housekeeping.check()
                self._housekeeping.store_refusals()
            await asyncio.sleep(1)
