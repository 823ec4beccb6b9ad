"""The application: routes, and every refusal in the documented envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from stairoids_sandbox.api.responses import error_response
from stairoids_sandbox.exceptions import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

_CODES = {404: "not_found", 405: "method_not_allowed"}


def application(routes: Sequence[BaseRoute], *, send_signal: ASGIApp) -> ASGIApp:
    """Build the application behind the gate.

    Args:
        send_signal: Answers ``POST /v1/signals``, past the router: the path that
            benchmarks load.
    """
    router = Starlette(
        routes=routes,
        exception_handlers={ApiError: _refuse, HTTPException: _refuse_route},
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and scope["path"] == "/v1/signals":
            await send_signal(scope, receive, send)
        else:
            await router(scope, receive, send)

    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error_response(error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = _CODES.get(error.status_code, "invalid_request")
    msg = f"{request.method} {request.url.path[:100]}: {error.detail}."
    return error_response(ApiError(error.status_code, code, msg))
