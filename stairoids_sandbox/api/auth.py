"""The gate before ``/v1``: key, quota, faults and scope, in this order.

Every request with a valid key counts against its quota and then may meet a
fault, whatever else is wrong with it.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from stairoids_sandbox.api.responses import error_response
from stairoids_sandbox.exceptions import ApiError
from stairoids_sandbox.faults import connection
from stairoids_sandbox.state.models import RequestSeen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stairoids_sandbox.api.quota import Quota, Ruling
    from stairoids_sandbox.faults.faults import Fault, Faults, Strike
    from stairoids_sandbox.state.keys import ApiKey, KeyRing
    from stairoids_sandbox.state.request_log import RequestLog

_UNAUTHORIZED = ApiError(401, "unauthorized", "Invalid or missing API key.")


class Gate:
    """Let a request under ``/v1`` through to the application, or answer it.

    Args:
        app: The application; every other path goes to it unasked.
        quotas: By the name of the key.
        stopping: Set when held-back answers must be given up.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        quotas: Mapping[str, Quota],
        faults: Faults,
        log: RequestLog,
        stopping: asyncio.Event,
    ) -> None:
        self._app = app
        self._keys = keys
        self._quotas = quotas
        self._faults = faults
        self._log = log
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not scope["path"].startswith("/v1"):
            await self._app(scope, receive, send)
            return
        key = self._keys.key_for(scope["headers"])
        exchange = _Exchange(scope, send, key, self._log)
        try:
            await self._answer(key, exchange, receive)
        finally:
            exchange.record(None)

    async def _answer(
        self, key: ApiKey | None, exchange: _Exchange, receive: Receive
    ) -> None:
        if key is None:
            await exchange.refuse(_UNAUTHORIZED, receive)
            return
        ruling = self._quotas[key.name].take(exchange.arrived)
        exchange.show(ruling)
        if ruling.retry_after is not None:
            await exchange.refuse(_throttled(ruling.retry_after), receive)
            return
        scope = exchange.scope
        strike = self._faults.strike(scope["method"], scope["path"])
        if strike is not None:
            await self._fail(strike, key, exchange, receive)
            return
        await self._pass(key, scope, receive, exchange.send)

    async def _pass(
        self, key: ApiKey, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not key.allows(scope["method"], scope["path"]):
            error = ApiError(403, "forbidden", "The API key's scope is insufficient.")
            await error_response(error)(scope, receive, send)
            return
        scope["state"]["api_key"] = key
        await self._app(scope, receive, send)

    async def _fail(
        self, strike: Strike, key: ApiKey, exchange: _Exchange, receive: Receive
    ) -> None:
        fault = strike.fault
        if fault is not None and not fault.after_accept:
            await self._hold(strike.delay)
            await _refuse_by(fault, exchange, receive)
            return
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._pass(key, exchange.scope, receive, keep)
        await self._hold(strike.delay)
        if fault is None or messages[0]["status"] >= 300:
            for message in messages:
                await exchange.send(message)
        else:
            await _spoil_by(fault, exchange, receive, messages)

    async def _hold(self, seconds: float) -> None:
        """Wait, but no longer than the server runs."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                return


async def _refuse_by(fault: Fault, exchange: _Exchange, receive: Receive) -> None:
    """Strike once the request has been read, before it is handled.

    A reset amid its body would reach some clients as an ordinary close.
    """
    while (await receive()).get("more_body", False):
        pass
    if fault.kind == "reset":
        exchange.record(None)
        connection.reset(exchange.scope)
        await _until_closed(receive)
        return
    await exchange.refuse(_gateway_error(fault), receive)


async def _spoil_by(
    fault: Fault, exchange: _Exchange, receive: Receive, messages: list[Message]
) -> None:
    """Strike after the request was handled; its answer is in ``messages``."""
    if fault.kind == "status_after_accept":
        await exchange.refuse(_gateway_error(fault), receive)
        return
    exchange.record(None)
    if fault.kind == "truncate_after_accept":
        await exchange.send(messages[0])
        body = messages[1]["body"]
        half = {**messages[1], "body": body[: len(body) // 2], "more_body": True}
        await exchange.send(half)
    connection.drop(exchange.scope)
    await _until_closed(receive)


async def _until_closed(receive: Receive) -> None:
    """Wait for the server to notice; else it would answer 500 for us."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _gateway_error(fault: Fault) -> ApiError:
    code = "rate_limit_exceeded" if fault.status == 429 else "fault_injected"
    msg = f"The sandbox was asked to answer {fault.status}."
    return ApiError(fault.status, code, msg, retry_after=fault.retry_after)


def _throttled(retry_after: int) -> ApiError:
    msg = f"Rate limit exceeded. Retry after {retry_after} seconds."
    return ApiError(429, "rate_limit_exceeded", msg, retry_after=retry_after)


class _Exchange:
    """One request and its answer, with the headers every answer carries."""

    __slots__ = ("_headers", "_key", "_log", "_recorded", "_send", "arrived", "scope")

    def __init__(
        self, scope: Scope, send: Send, key: ApiKey | None, log: RequestLog
    ) -> None:
        self.arrived = time.monotonic()
        self.scope = scope
        self._send = send
        self._key = key
        self._log = log
        self._headers: list[tuple[bytes, bytes]] = []
        self._recorded = False

    def show(self, ruling: Ruling) -> None:
        """Put the quota's headers on the answer, if there is a limit."""
        if ruling.limit is None:
            return
        reset = math.ceil(time.time() + ruling.reset_after)
        self._headers = [
            (b"x-ratelimit-limit", b"%d" % ruling.limit),
            (b"x-ratelimit-remaining", b"%d" % ruling.remaining),
            (b"x-ratelimit-reset", b"%d" % reset),
        ]

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        if message["type"] == "http.response.start":
            self.record(message["status"])
            if self._headers:
                message = {**message, "headers": message["headers"] + self._headers}
        await self._send(message)

    async def refuse(self, error: ApiError, receive: Receive) -> None:
        """Answer with an error."""
        await error_response(error)(self.scope, receive, self.send)

    def record(self, status: int | None) -> None:
        """Log the request, once, before the client can know the answer."""
        if self._recorded:
            return
        self._recorded = True
        self._log.add(
            RequestSeen(
                method=self.scope["method"],
                path=self.scope["path"],
                query=self.scope["query_string"].decode("latin-1"),
                status=status,
                arrived=self.arrived,
                answered=time.monotonic(),
                key_name=self._key.name if self._key else None,
            )
        )
