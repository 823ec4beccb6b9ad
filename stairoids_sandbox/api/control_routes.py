"""Serve ``/_sandbox``: watch and control the sandbox itself.

This is not part of Stairoids' API. It needs no key and serves this machine only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from stairoids_common.time import rfc3339
from stairoids_sandbox.api.local_only import LocalOnly
from stairoids_sandbox.api.query import limit_from, parameters, sequence_from
from stairoids_sandbox.api.request_body import read_body
from stairoids_sandbox.api.responses import JsonResponse
from stairoids_sandbox.exceptions import ApiError, UsageError, invalid
from stairoids_sandbox.faults.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.components import Components
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.request_log import RequestSeen
    from stairoids_sandbox.webhooks.delivery import Delivery

_Item = TypeVar("_Item", "Signal", "Delivery", "RequestSeen")


class _FaultsRequest(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[Fault]


_DECODER = msgspec.json.Decoder(_FaultsRequest)


class ControlRoutes:
    """The routes for the sandbox's own state and faults."""

    def __init__(self, parts: Components) -> None:
        self._workspace = parts.workspace
        self._sender = parts.sender
        self._dispatcher = parts.dispatcher
        self._faults = parts.faults
        self._requests = parts.requests

    def routes(self) -> list[Mount]:
        """Return the routes."""
        again = "/deliveries/{delivery_id}/send-again"
        routes = [
            Route("/faults", self._list_faults, methods=["GET"]),
            Route("/faults", self._set_faults, methods=["POST"]),
            Route("/signals", self._list_signals, methods=["GET"]),
            Route("/deliveries", self._list_deliveries, methods=["GET"]),
            Route(again, self._send_again, methods=["POST"]),
            Route("/requests", self._list_requests, methods=["GET"]),
            Route("/stats", self._stats, methods=["GET"]),
        ]
        return [Mount("/_sandbox", routes=routes, middleware=[Middleware(LocalOnly)])]

    async def _list_faults(self, _request: Request) -> Response:
        return JsonResponse({"faults": self._faults.all()})

    async def _set_faults(self, request: Request) -> Response:
        try:
            body, _ = await read_body(request.scope, request.receive, _DECODER)
        except UsageError as error:
            raise invalid(str(error), param="faults") from error
        self._faults.set(body.faults)
        return JsonResponse({"faults": body.faults})

    async def _list_signals(self, request: Request) -> Response:
        signals = self._workspace.signals.all()
        return _page(request, "signals", signals, _signal, total=len(signals))

    async def _list_deliveries(self, request: Request) -> Response:
        deliveries, total = self._sender.all(), self._sender.started
        return _page(request, "deliveries", deliveries, _delivery, total=total)

    async def _list_requests(self, request: Request) -> Response:
        found = [*self._requests.newest_first()][::-1]
        return _page(request, "requests", found, _request, total=self._requests.total)

    async def _send_again(self, request: Request) -> Response:
        delivery_id = request.path_params["delivery_id"]
        delivery = self._sender.get(delivery_id)
        if delivery is None:
            msg = f"No delivery found with ID {delivery_id[:100]}."
            raise ApiError(404, "delivery_not_found", msg)
        again = self._dispatcher.send_again(delivery)
        return JsonResponse(_delivery(again), status_code=202)

    async def _stats(self, _request: Request) -> Response:
        deliveries = Counter(delivery.status for delivery in self._sender.all())
        return JsonResponse(
            {
                "signals": len(self._workspace.signals),
                "requests": self._requests.total,
                "deliveries": dict(deliveries),
            }
        )


def _page(
    request: Request,
    name: str,
    items: list[_Item],
    shown: Callable[[_Item], dict[str, Any]],
    *,
    total: int,
) -> Response:
    """Return the latest items, or those before a cursor, in their order.

    Args:
        items: The kept items, with sequences that count up.
        total: The number of all items, also of forgotten ones.
    """
    found = parameters(request, {"limit", "cursor"})
    limit = limit_from(found, default=1_000, maximum=99_999)
    end = len(items)
    if "cursor" in found:
        before = sequence_from(found["cursor"])
        if before is None:
            msg = "cursor is not one of next_cursor."
            raise invalid(msg, param="cursor")
        end = bisect_left(items, before, key=attrgetter("sequence"))
    begin = max(0, end - limit)
    cursor = str(items[begin].sequence) if begin else None
    page = [shown(item) for item in items[begin:end]]
    return JsonResponse({name: page, "total": total, "next_cursor": cursor})


def _signal(signal: Signal) -> dict[str, Any]:
    return {
        "id": signal.id,
        "created_at": rfc3339(signal.created_at),
        "key": signal.key_name,
        "scope": signal.key_scope,
        "body": msgspec.Raw(signal.raw),
    }


def _request(request: RequestSeen) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "status": request.status,
        "key": request.key_name,
        "error": request.error,
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "event": delivery.event,
        "again_of": delivery.again_of,
        "again_as": delivery.again_as,
        "url": delivery.endpoint.url,
        "status": delivery.status,
        "attempts": [
            {
                "delivery_id": attempt.delivery_id,
                "status": attempt.status,
                "error": attempt.error,
                "seconds": round(attempt.ended - attempt.began, 3),
                "content_type": attempt.content_type,
                "response": attempt.response.decode(errors="replace"),
            }
            for attempt in delivery.attempts
        ],
        "body": msgspec.Raw(delivery.body),
    }
