"""Respond to requests of the admin port: readiness, metrics and pages.

The port is on 127.0.0.1 only. That is not enough, because a web page in a browser on
this machine can send requests to it. So each request needs the admin token, and a
`Host` header of this machine.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json

from tap_stairoids_webhooks.environment import ADMIN_TOKEN_VARIABLE
from tap_stairoids_webhooks.exceptions import (
    RefusedRequestError,
    StoreUnavailableError,
)
from tap_stairoids_webhooks.receiver.admin.metrics import ReceiverStatus
from tap_stairoids_webhooks.receiver.admin.pages import AdminPages
from tap_stairoids_webhooks.receiver.app import Receive, Scope, Send, send_response

_JSON = b"application/json"
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"
_CHALLENGE = (b"www-authenticate", b'Basic realm="stairoids-webhooks", charset="UTF-8"')
_NEEDS_TOKEN = (
    "This port needs the token that the receiver was started with"
    f" ({ADMIN_TOKEN_VARIABLE}). In a browser, enter it as the password, with any user"
    " name. A program sends the header Authorization: Bearer with the token.\n"
)
_NEEDS_HOST = (
    "This port needs a Host of this machine: use 127.0.0.1 or localhost, with the port"
    " of --admin-port.\n"
)


class AdminApp:
    """The ASGI application of the admin port; `url` is that of the webhook."""

    def __init__(
        self, status: ReceiverStatus, *, token: str, port: int, url: str
    ) -> None:
        self._status = status
        self._token = token.encode()
        self._pages = AdminPages(status, url=url)
        names = (b"127.0.0.1", b"localhost")
        self._hosts = {*names, *(b"%b:%d" % (name, port) for name in names)}

    def count(self, result: str) -> None:
        """Count nothing. Only the requests of the public port are counted."""

    def stop(self) -> None:
        """Respond 503 to the requests that wait for the store."""
        self._status.reads.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        try:
            self._check_access(scope["headers"])
            if scope["path"] not in {"/readyz", "/metrics"}:
                await self._pages.app(scope, receive, send)
                return
            status, content_type, body = await self._respond(scope)
        except RefusedRequestError as refused:
            text = refused.text.encode()
            await send_response(send, refused.status, text, *refused.headers)
        except StoreUnavailableError as error:
            await send_response(send, 503, str(error).encode())
        else:
            await send_response(send, status, body, content_type=content_type)

    async def _respond(self, scope: Scope) -> tuple[int, bytes, bytes]:
        if scope["method"] not in {"GET", "HEAD"}:
            raise RefusedRequestError(
                405, "method_not_allowed", (b"allow", b"GET, HEAD")
            )
        if scope["path"] == "/metrics":
            metrics = await self._status.reads.run(self._status.metrics)
            return 200, _METRICS, metrics
        found = self._status.readiness()
        return 200 if found["ready"] else 503, _JSON, json.dumps(found).encode()

    def _check_access(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Refuse a request with another `Host` (403), or without the token (401)."""
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            raise RefusedRequestError(403, "host", text=_NEEDS_HOST)
        given = [value for name, value in headers if name == b"authorization"]
        token = _token_of(given[0]) if len(given) == 1 else b""
        if not hmac.compare_digest(token, self._token):
            raise RefusedRequestError(401, "token", _CHALLENGE, text=_NEEDS_TOKEN)


def _token_of(authorization: bytes) -> bytes:
    """Return the Bearer token or the Basic password of a header; empty for none."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            pass
    return b""
