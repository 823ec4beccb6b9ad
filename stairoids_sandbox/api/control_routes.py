"""Serve ``/_sandbox``: watch and control the sandbox itself.

This is not part of Stairoids' API. It needs no key and serves this machine only.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from stairoids_common.time import rfc3339
from stairoids_sandbox.api.local_only import LocalOnly
from stairoids_sandbox.api.query import limit_from, parameters
from stairoids_sandbox.api.request_body import read_body
from stairoids_sandbox.api.responses import JsonResponse
from stairoids_sandbox.exceptions import ApiError, UsageError, invalid
from stairoids_sandbox.faults.faults import Fault

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.components import Components
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.webhooks.delivery import Delivery


class _FaultsRequest(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[Fault]


_DECODER = msgspec.json.Decoder(_FaultsRequest)


class ControlRoutes:
    """The routes for the sandbox's own state and faults."""

    def __init__(self, parts: Components) -> None:
        self._workspace = parts.workspace
        self._sender = parts.sender
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
        limit = _limit_of(request)
        signals = self._workspace.signals.all()
        latest = [_signal(signal) for signal in signals[-limit:]]
        return JsonResponse({"signals": latest, "total": len(signals)})

    async def _list_deliveries(self, request: Request) -> Response:
        limit = _limit_of(request)
        deliveries = self._sender.all()
        latest = [_delivery(delivery) for delivery in deliveries[-limit:]]
        return JsonResponse({"deliveries": latest, "total": len(deliveries)})

    async def _send_again(self, request: Request) -> Response:
        delivery_id = request.path_params["delivery_id"]
        delivery = self._sender.get(delivery_id)
        if delivery is None:
            msg = f"No delivery found with ID {delivery_id[:100]}."
            raise ApiError(404, "delivery_not_found", msg)
        again = self._sender.send_again(delivery)
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


def _limit_of(request: Request) -> int:
    return limit_from(parameters(request, {"limit"}), default=1_000, maximum=99_999)


def _signal(signal: Signal) -> dict[str, Any]:
    return {
        "id": signal.id,
        "created_at": rfc3339(signal.created_at),
        "key": signal.key_name,
        "scope": signal.key_scope,
        "body": msgspec.Raw(signal.raw),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "event": delivery.event,
        "url": delivery.endpoint.url,
        "status": delivery.status,
        "attempts": [
            {
                "delivery_id": attempt.delivery_id,
                "status": attempt.status,
                "error": attempt.error,
                "seconds": round(attempt.ended - attempt.began, 3),
            }
            for attempt in delivery.attempts
        ],
        "body": msgspec.Raw(delivery.body),
    }
