"""Break the connection of a request.

Uvicorn hides the transport from applications. ``TransportProtocol`` adds it to the
scope.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Scope

_EXTENSION = "stairoids_sandbox.transport"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TransportProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol, which also puts the transport into each scope."""

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: self.transport}  # type: ignore[dict-item]  # the extension is ours: a transport, not the dictionary ASGI expects


def drop(scope: Scope) -> None:
    """Close the connection once all written bytes are sent."""
    _transport(scope).close()


def reset(scope: Scope) -> None:
    """Close the connection with a TCP reset."""
    transport = _transport(scope)
    if transport.is_closing():  # the client was faster
        return
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
    )
    transport.abort()


def _transport(scope: Scope) -> asyncio.Transport:
    return cast("asyncio.Transport", scope["extensions"][_EXTENSION])
