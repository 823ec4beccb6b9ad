"""Serve ``/v1/signals``: send a signal, list signals, read one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.routing import Route

from stairoids_sandbox.api.query import limit_from, parameters, sequence_from
from stairoids_sandbox.api.request_body import read_body
from stairoids_sandbox.api.responses import (
    JsonResponse,
    enveloped,
    error_response,
    nested,
)
from stairoids_sandbox.exceptions import ApiError, invalid
from stairoids_sandbox.state.signal_index import SignalQuery
from stairoids_sandbox.state.signal_request import SignalRequest, time_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.workspace import Workspace

_PARAMETERS = frozenset(
    {"account_domain", "contact_email", "type", "source"}
    | {"from", "to", "limit", "cursor"}
)
_CURSOR_PREFIX = "cur_"
_DECODER = msgspec.json.Decoder(SignalRequest)


class SignalRoutes:
    """The routes for a workspace's signals.

    Args:
        body_of: Builds the 201 body of a signal.
        list_lag_seconds: A list leaves out signals that are younger.
        filters_exactly: Whether the filters of a list keep upper case. Signals are
            stored in lower case.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        body_of: Callable[[Signal], dict[str, Any]],
        list_lag_seconds: float,
        filters_exactly: bool,
    ) -> None:
        self._workspace = workspace
        self._body_of = body_of
        self._lag = timedelta(seconds=list_lag_seconds)
        self._cleaned: Callable[[str], str] = str if filters_exactly else _lower

    def routes(self) -> list[Route]:
        """Return the routes, without ``POST /v1/signals``."""
        return [
            Route("/v1/signals", self._list, methods=["GET"]),
            Route("/v1/signals/{signal_id}", self._read, methods=["GET"]),
        ]

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle ``POST /v1/signals``. This is plain ASGI, because it must be fast."""
        try:
            request, raw = await read_body(scope, receive, _DECODER)
            signal = self._workspace.accept(
                request, raw=raw, key=scope["state"]["api_key"]
            )
            scope["state"]["signal"] = signal
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        await JsonResponse(self._body_of(signal), status_code=201)(scope, receive, send)

    async def _list(self, request: Request) -> Response:
        query = self._query_from(request)
        page = self._workspace.signals.find(query)
        more = len(page) == query.limit and page[-1].sequence > 1
        cursor = f"{_CURSOR_PREFIX}{page[-1].sequence}" if more else None
        return JsonResponse(
            enveloped(
                [nested(signal) for signal in page],
                self._workspace.now(),
                next_cursor=cursor,
            )
        )

    async def _read(self, request: Request) -> Response:
        signal_id = request.path_params["signal_id"]
        signal = self._workspace.signals.get(signal_id)
        if signal is None or signal.workspace != request.state.api_key.workspace:
            msg = f"No signal found with ID {signal_id[:100]}."
            raise ApiError(404, "signal_not_found", msg)
        return JsonResponse(enveloped(nested(signal), self._workspace.now()))

    def _query_from(self, request: Request) -> SignalQuery:
        found = parameters(request, _PARAMETERS)
        named = {
            name: self._cleaned(found[name])
            for name in ("account_domain", "contact_email")
            if name in found
        }
        return SignalQuery(
            workspace=request.state.api_key.workspace,
            type=found.get("type"),
            source=found.get("source"),
            since=time_from(found["from"], param="from") if "from" in found else None,
            until=time_from(found["to"], param="to") if "to" in found else None,
            before=_sequence_from(found["cursor"]) if "cursor" in found else None,
            limit=limit_from(found, default=50, maximum=200),
            accepted_until=self._workspace.now() - self._lag if self._lag else None,
            **named,
        )


def _lower(text: str) -> str:
    return text.strip().lower()


def _sequence_from(cursor: str) -> int:
    found = sequence_from(cursor.removeprefix(_CURSOR_PREFIX))
    if cursor.startswith(_CURSOR_PREFIX) and found is not None:
        return found
    msg = "cursor is not one of meta.next_cursor."
    raise invalid(msg, param="cursor")
