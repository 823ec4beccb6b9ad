"""Let only programs on this machine in.

The caller must have a loopback address and must have used a loopback name. Otherwise a
web page could reach the sandbox through a name of its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stairoids_common.config import is_loopback
from stairoids_sandbox.api.responses import error_response
from stairoids_sandbox.exceptions import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_NOT_LOCAL = ApiError(403, "forbidden", "Only this machine may ask for this.")
_NOT_LOCAL_NAME = ApiError(
    403, "forbidden", "The Host header must be 127.0.0.1, ::1 or localhost."
)


class LocalOnly:
    """Refuse requests from other machines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        app = self._app if is_local(scope) else error_response(_NOT_LOCAL)
        await app(scope, receive, send)


class LocalNames:
    """Refuse requests to a name that is not of this machine.

    A web page can reach a server on loopback through a name of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        app = self._app if _has_local_name(scope) else error_response(_NOT_LOCAL_NAME)
        await app(scope, receive, send)


def is_local(scope: Scope) -> bool:
    """Return whether this machine sent the request to a name of its own."""
    client = scope["client"]
    return client is not None and is_loopback(client[0]) and _has_local_name(scope)


def _has_local_name(scope: Scope) -> bool:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) == 1 and _is_local_name(hosts[0])


@lru_cache(maxsize=100)
def _is_local_name(value: bytes) -> bool:
    try:
        host = urlsplit(f"//{value.decode('latin-1')}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)
