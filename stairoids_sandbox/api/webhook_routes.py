"""Serve ``/v1/webhooks``: subscribe, list, unsubscribe. The bodies are flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from stairoids_sandbox.api.query import parameters
from stairoids_sandbox.api.request_body import read_body
from stairoids_sandbox.api.responses import JsonResponse
from stairoids_sandbox.exceptions import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from stairoids_sandbox.webhooks.subscriptions import Subscriptions


class _WebhookRequest(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    events: list[str]
    secret: Annotated[str, msgspec.Meta(min_length=1)] | None = None


_DECODER = msgspec.json.Decoder(_WebhookRequest)


class WebhookRoutes:
    """The routes for a workspace's event subscriptions."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/webhooks", self._list, methods=["GET"]),
            Route("/v1/webhooks", self._create, methods=["POST"]),
            Route("/v1/webhooks/{webhook_id}", self._delete, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        parameters(request, ())
        subscriptions = self._subscriptions.of(request.state.api_key.workspace)
        bodies = [subscription.body() for subscription in subscriptions]
        return JsonResponse({"webhooks": bodies, "total": len(bodies)})

    async def _create(self, request: Request) -> Response:
        body, _ = await read_body(request.scope, request.receive, _DECODER)
        subscription = self._subscriptions.add(
            url=body.url,
            events=body.events,
            secret=body.secret,
            workspace=request.state.api_key.workspace,
        )
        return JsonResponse(subscription.body(), status_code=201)

    async def _delete(self, request: Request) -> Response:
        webhook_id = request.path_params["webhook_id"]
        workspace = request.state.api_key.workspace
        if not self._subscriptions.remove(webhook_id, workspace=workspace):
            msg = f"No webhook found with ID {webhook_id[:100]}."
            raise ApiError(404, "webhook_not_found", msg)
        return Response(status_code=204)
