"""Serve an application with uvicorn in a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import uvicorn
from typing_extensions import override

from stairoids_sandbox.exceptions import NotRunningError
from stairoids_sandbox.faults.connection import TransportProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

_KEEP_ALIVE_SECONDS = 75
_START_SECONDS = 10.0
_CLOSING_TICKS = 100
_CLOSING_TICK_SECONDS = 0.002


class ServerThread:
    """A thread that serves on a listening socket. It closes the socket at the end.

    Args:
        stopping: Set in the thread's loop at the beginning of a stop.
        at_start: Called with the thread's loop before the first request.
        at_end: Awaited in the thread's loop after the last request.
    """

    def __init__(
        self,
        app: ASGIApp,
        sock: socket.socket,
        *,
        stopping: asyncio.Event,
        at_start: Callable[[asyncio.AbstractEventLoop], None],
        at_end: Callable[[], Awaitable[None]],
    ) -> None:
        config = uvicorn.Config(
            app,
            http=TransportProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = _Server(config, stopping)
        self._loop_factory = config.get_loop_factory()
        self._socket = sock
        self._at_start = at_start
        self._at_end = at_end
        self._thread = threading.Thread(
            target=self._run, name="stairoids-sandbox", daemon=True
        )

    def start(self) -> None:
        """Start, and return once requests are served.

        Raises:
            NotRunningError: The thread ended at once. Its log has the reason.
        """
        self._thread.start()
        self._server.ready.wait(_START_SECONDS)
        if self._server.loop is None:
            raise NotRunningError("the sandbox did not start")

    def stop(self) -> None:
        """Stop, and return once the thread has ended."""
        loop = self._server.loop
        if loop is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(self._server.stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve())
        finally:
            self._server.ready.set()

    async def _serve(self) -> None:
        self._at_start(asyncio.get_running_loop())
        await self._server.serve(sockets=[self._socket])
        await self._at_end()


class _Server(uvicorn.Server):
    """Uvicorn's server, which stops at an event instead of polling a flag."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self.stopping = stopping
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    @override
    async def main_loop(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ready.set()
        await self.stopping.wait()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.close()
        if not await self._all_closed():
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        for server in self.servers:
            await server.wait_closed()

    async def _all_closed(self) -> bool:
        """Wait briefly for clients that still read a response."""
        for _ in range(_CLOSING_TICKS):
            if not self.server_state.connections:
                return True
            await asyncio.sleep(_CLOSING_TICK_SECONDS)
        return False
