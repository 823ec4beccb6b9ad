"""The admin listener: readiness, metrics and pages, for whoever has the token.

It listens on this machine only, and that is not proof enough: a page in a browser
here can send requests to it, so the token is asked for, and the Host checked first.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import Counter
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.receiver.admin.pages import PageRoutes
from tap_stairoids_webhooks.receiver.admin.sessions import Sessions
from tap_stairoids_webhooks.receiver.app import Refusal, send_answer
from tap_stairoids_webhooks.settings import ADMIN_TOKEN_VARIABLE

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.admin.metrics import Facts
    from tap_stairoids_webhooks.receiver.app import Receive, Scope, Send

_JSON = b"application/json"
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"
_CHALLENGE = (b"www-authenticate", b'Bearer realm="stairoids-webhooks"')
_WANTS_TOKEN = (
    "This wants the header Authorization: Bearer with the token that the receiver was"
    f" started with ({ADMIN_TOKEN_VARIABLE}).\n"
)
_WANTS_HOST = (
    "This wants a Host of this machine: ask for 127.0.0.1 or localhost, with the port"
    " of --admin-port.\n"
)


class AdminApp:
    """The ASGI application behind the admin listener.

    Args:
        facts: What it tells.
        token: What `Authorization: Bearer` must hold.
        port: Where it listens.

    Attributes:
        counts: Requests so far, by what was wrong with them.
    """

    def __init__(self, facts: Facts, *, token: str, port: int) -> None:
        self._facts = facts
        self._authorization = b"Bearer " + token.encode()
        self._pages = PageRoutes(
            facts, Sessions(token), cookie=f"stairoids_webhooks_{port}"
        )
        names = (b"127.0.0.1", b"localhost")
        self._hosts = {*names, *(b"%b:%d" % (name, port) for name in names)}
        self.counts: Counter[str] = Counter()

    def count(self, result: str) -> None:
        """Count what was wrong with a request."""
        self.counts[result] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._check_host(scope["headers"])
            known = self._has_token(scope["headers"])
            if scope["path"] not in {"/readyz", "/metrics"}:
                await self._pages(scope, receive, send, known=known)
                return
            status, content_type, body = await self._tell(scope, known=known)
        except Refusal as refusal:
            self.count(refusal.reason)
            text = refusal.text.encode()
            await send_answer(send, refusal.status, text, *refusal.headers)
        else:
            await send_answer(send, status, body, content_type=content_type)

    async def _tell(self, scope: Scope, *, known: bool) -> tuple[int, bytes, bytes]:
        if not known:
            raise Refusal(401, "token", _CHALLENGE, text=_WANTS_TOKEN)
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refusal(405, "method_not_allowed", (b"allow", b"GET, HEAD"))
        if scope["path"] == "/metrics":
            return 200, _METRICS, await asyncio.to_thread(self._facts.text)
        found = self._facts.readiness()
        return 200 if found["ready"] else 503, _JSON, json.dumps(found).encode()

    def _check_host(self, headers: list[tuple[bytes, bytes]]) -> None:
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            raise Refusal(403, "host", text=_WANTS_HOST)

    def _has_token(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._authorization)
