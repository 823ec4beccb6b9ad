"""Check each request under ``/v1``: API key, quota, faults and scope, in this order.

Every request with a valid key counts against its quota and may meet a fault, even if
the request is wrong in another way.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from email.utils import format_datetime
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import HTMLResponse

from stairoids_sandbox.api.responses import error_response
from stairoids_sandbox.exceptions import ApiError
from stairoids_sandbox.faults import connection
from stairoids_sandbox.state.keys import masked_key
from stairoids_sandbox.state.request_log import BODY_KEPT, ErrorBody, RequestSeen

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stairoids_sandbox.components import Components
    from stairoids_sandbox.faults.faults import Fault, FaultEffect
    from stairoids_sandbox.state.keys import ApiKey
    from stairoids_sandbox.state.quota import QuotaDecision
    from stairoids_sandbox.state.request_log import RequestLog

_ERROR_DECODER = msgspec.json.Decoder(ErrorBody)
_PAGE = "<!doctype html><title>Sign in</title><p>Sign in to go on.</p>"
_UNAUTHORIZED = ApiError(401, "unauthorized", "Invalid or missing API key.")


class AuthMiddleware:
    """Pass a request under ``/v1`` to the application, or refuse it.

    Args:
        app: The application. It gets all other paths without a check.
        parts: The parts of the sandbox.
        stopping: Set when delayed responses must be given up.
    """

    def __init__(
        self, app: ASGIApp, parts: Components, *, stopping: asyncio.Event
    ) -> None:
        self._app = app
        self._parts = parts
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if not scope["path"].startswith("/v1"):
            await self._app(scope, receive, send)
            return
        key = self._parts.keys.key_for(scope["headers"])
        now = self._parts.workspace.exact_now()
        exchange = _Exchange(scope, receive, send, key, self._parts.requests, now)
        try:
            await self._handle(key, exchange, exchange.receive)
        finally:
            exchange.record(None)

    async def _handle(
        self, key: ApiKey | None, exchange: _Exchange, receive: Receive
    ) -> None:
        if key is None:
            await exchange.refuse(_UNAUTHORIZED, receive)
            return
        decision = self._parts.quotas[key.name].take(exchange.arrived)
        exchange.add_headers(decision)
        if decision.retry_after is not None:
            await exchange.refuse(_throttled(decision.retry_after), receive)
            return
        scope = exchange.scope
        effect = None
        if self._parts.faults:
            body, receive = await _read_all(receive)
            effect = self._parts.faults.effect_on(scope["method"], scope["path"], body)
        if effect is not None:
            await self._fail(effect, key, exchange, receive)
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
        self, effect: FaultEffect, key: ApiKey, exchange: _Exchange, receive: Receive
    ) -> None:
        fault = effect.fault
        await self._delay(effect.accept_delay)
        if effect.accept_delay and self._stopping.is_set():
            connection.drop(exchange.scope)
        elif fault is not None and not fault.is_handled:
            await self._delay(effect.delay)
            await _respond_instead(fault, exchange, receive)
        else:
            await self._accept_then_fail(effect, key, exchange, receive)

    async def _accept_then_fail(
        self, effect: FaultEffect, key: ApiKey, exchange: _Exchange, receive: Receive
    ) -> None:
        fault = effect.fault
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._pass(key, exchange.scope, receive, keep)
        await self._delay(effect.delay)
        if fault is None or messages[0]["status"] >= 300:
            for message in messages:
                await exchange.send(message)
        else:
            await _spoil_response(fault, exchange, receive, messages)

    async def _delay(self, seconds: float) -> None:
        """Wait, but not after the server has stopped."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                return


async def _respond_instead(fault: Fault, exchange: _Exchange, receive: Receive) -> None:
    """Fail in place of accepting a request, once it has been read.

    A reset in the middle of its body would look like an ordinary close to some clients.
    """
    while (await receive()).get("more_body", False):
        pass
    if fault.kind == "reset":
        exchange.record(None)
        connection.reset(exchange.scope)
        await _until_closed(receive)
        return
    if fault.kind == "html":
        await HTMLResponse(_PAGE)(exchange.scope, receive, exchange.send)
        return
    await exchange.refuse(_fault_error(fault), receive)


async def _read_all(receive: Receive) -> tuple[bytes, Receive]:
    """Return a request's body, and a function that receives it once more."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return body, again


async def _spoil_response(
    fault: Fault, exchange: _Exchange, receive: Receive, messages: list[Message]
) -> None:
    """Fail after the request was handled. ``messages`` are its response."""
    if fault.kind == "status_after_accept":
        await exchange.refuse(_fault_error(fault), receive)
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
    """Wait until the server has noticed. Otherwise it would respond with 500."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _fault_error(fault: Fault) -> ApiError:
    code = "rate_limit_exceeded" if fault.status == 429 else "fault_injected"
    msg = f"A fault of the sandbox responded with {fault.status}."
    return ApiError(fault.status, code, msg, retry_after=fault.retry_after)


def _throttled(retry_after: int) -> ApiError:
    msg = f"Rate limit exceeded. Retry after {retry_after} seconds."
    return ApiError(429, "rate_limit_exceeded", msg, retry_after=retry_after)


class _Exchange:
    """One request and its response, with its `Date` and the quota's headers."""

    __slots__ = (
        *("_body", "_headers", "_is_read", "_key", "_log", "_now", "_receive"),
        *("_recorded", "_refusal", "_send", "arrived", "scope"),
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        key: ApiKey | None,
        log: RequestLog,
        now: datetime,
    ) -> None:
        self.arrived = time.monotonic()
        self._now = now
        self.scope = scope
        self._body: bytes = b""
        self._is_read = False
        self._receive = receive
        self._send = send
        self._key = key
        self._log = log
        date = format_datetime(now, usegmt=True).encode()
        self._headers: list[tuple[bytes, bytes]] = [(b"date", date)]
        self._recorded = False
        self._refusal: Message | None = None

    def add_headers(self, decision: QuotaDecision) -> None:
        """Add the quota's headers to the response, if there is a limit."""
        if decision.limit is None:
            return
        reset = math.ceil(self._now.timestamp() + decision.reset_after)
        self._headers += [
            (b"x-ratelimit-limit", b"%d" % decision.limit),
            (b"x-ratelimit-remaining", b"%d" % decision.remaining),
            (b"x-ratelimit-reset", b"%d" % reset),
        ]

    async def receive(self) -> Message:
        """Receive a part of the request, and keep the beginning of its body."""
        message = await self._receive()
        self._is_read = not message.get("more_body", False)
        if len(self._body) < BODY_KEPT:
            self._body += message.get("body", b"")
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": message["headers"] + self._headers}
            if message["status"] >= 400:
                self._refusal = message  # sent with its body, which names the error
                return
            self.record(message["status"])
        elif self._refusal is not None:
            self.record(self._refusal["status"], message["body"])
            await self._send(self._refusal)
            self._refusal = None
        await self._send(message)

    async def refuse(self, error: ApiError, receive: Receive) -> None:
        """Respond with an error, once the beginning of the body is known."""
        while not self._is_read and len(self._body) < BODY_KEPT:
            await self.receive()
        await error_response(error)(self.scope, receive, self.send)

    def record(self, status: int | None, refusal: bytes | None = None) -> None:
        """Log the request once, before the client can receive the response.

        Args:
            status: The status of the response; None if a fault cut it off.
            refusal: The body of a response that refuses the request.
        """
        if self._recorded:
            return
        self._recorded = True
        error = None
        if refusal is not None:
            with suppress(msgspec.DecodeError):
                error = _ERROR_DECODER.decode(refusal).error
        self._log.add(
            RequestSeen(
                method=self.scope["method"],
                path=self.scope["path"],
                query=self.scope["query_string"].decode("latin-1"),
                status=status,
                arrived=self.arrived,
                responded=time.monotonic(),
                key_name=self._key.name if self._key else None,
                wrong_key="" if self._key else masked_key(self.scope["headers"]),
                error=error,
                signal=self.scope["state"].get("signal"),
                body=b"" if status and status < 400 else self._body[:BODY_KEPT],
                sequence=self._log.total + 1,
            )
        )
