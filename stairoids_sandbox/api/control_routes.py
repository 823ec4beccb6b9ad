"""``/_sandbox``: what the shell and other processes ask of the sandbox itself.

Not part of Stairoids' API; it has no key and answers this machine only.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from stairoids_sandbox.api.local_only import LocalOnly
from stairoids_sandbox.api.query import limit_from, parameters
from stairoids_sandbox.api.request_body import json_body
from stairoids_sandbox.api.responses import JsonResponse
from stairoids_sandbox.exceptions import ApiError, UsageError, invalid
from stairoids_sandbox.faults.faults import Fault
from stairoids_sandbox.timestamps import rfc3339

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.faults.faults import Faults
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.request_log import RequestLog
    from stairoids_sandbox.state.workspace import Workspace
    from stairoids_sandbox.webhooks.delivery import Delivery
    from stairoids_sandbox.webhooks.webhook_sender import Courier


class ControlRoutes:
    """Serve the sandbox's own state, and take its faults."""

    def __init__(
        self, workspace: Workspace, courier: Courier, faults: Faults, log: RequestLog
    ) -> None:
        self._workspace = workspace
        self._courier = courier
        self._faults = faults
        self._log = log

    def routes(self) -> list[Mount]:
        """List what to serve."""
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
        return self._faults_response()

    async def _set_faults(self, request: Request) -> Response:
        body, _ = await json_body(request.scope, request.receive)
        match body:
            case {"faults": [*described], **rest} if not rest:
                self._faults.set([fault_from(fault) for fault in described])
            case _:
                msg = 'The body must be {"faults": [...]}; an empty list ends them.'
                raise invalid(msg)
        return self._faults_response()

    def _faults_response(self) -> Response:
        faults = [dataclasses.asdict(fault) for fault in self._faults.all()]
        return JsonResponse({"faults": faults})

    async def _list_signals(self, request: Request) -> Response:
        found = parameters(request, {"limit"})
        limit = limit_from(found, default=1_000, maximum=99_999)
        signals = self._workspace.signals.all()
        latest = [_signal(signal) for signal in signals[-limit:]]
        return JsonResponse({"signals": latest, "total": len(signals)})

    async def _list_deliveries(self, request: Request) -> Response:
        found = parameters(request, {"limit"})
        limit = limit_from(found, default=1_000, maximum=99_999)
        deliveries = self._courier.all()
        latest = [_delivery(delivery) for delivery in deliveries[-limit:]]
        return JsonResponse({"deliveries": latest, "total": len(deliveries)})

    async def _send_again(self, request: Request) -> Response:
        delivery_id = request.path_params["delivery_id"]
        delivery = self._courier.get(delivery_id)
        if delivery is None:
            msg = f"No delivery found with ID {delivery_id[:100]}."
            raise ApiError(404, "delivery_not_found", msg)
        again = self._courier.send_again(delivery)
        return JsonResponse(_delivery(again), status_code=202)

    async def _stats(self, _request: Request) -> Response:
        deliveries = Counter(delivery.status for delivery in self._courier.all())
        return JsonResponse(
            {
                "signals": len(self._workspace.signals),
                "requests": self._log.total,
                "deliveries": dict(deliveries),
            }
        )


def fault_from(described: object) -> Fault:
    """Read a fault from its fields.

    Raises:
        ApiError: 400; the message names the field.
    """
    names = {field.name for field in dataclasses.fields(Fault)}
    if not isinstance(described, dict) or not described.keys() <= names:
        msg = f"A fault is an object with some of {', '.join(sorted(names))}."
        raise invalid(msg, param="faults")
    try:
        return msgspec.convert(described, Fault, strict=True)
    except (msgspec.ValidationError, UsageError) as error:
        raise invalid(str(error)) from error


def _signal(signal: Signal) -> dict[str, Any]:
    return {
        "id": signal.id,
        "created_at": rfc3339(signal.created_at),
        "key": signal.key_name,
        "scope": signal.key_scope,
        "body": signal.body,
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
