"""Let only programs on this machine in.

The caller must have a loopback address and must have used a loopback name. Otherwise a
web page could reach the sandbox through a name of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stairoids_common.urls import is_loopback
from stairoids_sandbox.api.responses import error_response
from stairoids_sandbox.exceptions import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_NOT_LOCAL = ApiError(403, "forbidden", "Only this machine may ask for this.")


class LocalOnly:
    """Refuse requests from other machines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        app = self._app if is_local(scope) else error_response(_NOT_LOCAL)
        await app(scope, receive, send)


def is_local(scope: Scope) -> bool:
    """Return whether this machine sent the request to a name of its own."""
    client = scope["client"]
    if client is None or not is_loopback(client[0]):
        return False
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        return False
    try:
        host = urlsplit(f"//{hosts[0].decode('latin-1')}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)
