"""``/v1/automations``: add and list. The list is flat, its cursor lives 10 minutes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.routing import Route

from stairoids_sandbox.api.query import limit_from, parameters
from stairoids_sandbox.api.request_body import json_body
from stairoids_sandbox.api.responses import JsonResponse
from stairoids_sandbox.exceptions import invalid

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.webhooks.automations import Automation, Automations

_PARAMETERS = frozenset({"type", "enabled", "limit", "cursor"})
_CURSOR_SECONDS = 600


class AutomationRoutes:
    """Serve a workspace's automations."""

    def __init__(self, automations: Automations) -> None:
        self._automations = automations

    def routes(self) -> list[Route]:
        """List what to serve."""
        return [
            Route("/v1/automations", self._list, methods=["GET"]),
            Route("/v1/automations", self._create, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        found = parameters(request, _PARAMETERS)
        limit = limit_from(found, default=50, maximum=100)
        begin = _place_from(found["cursor"]) if "cursor" in found else 0
        fitting = [a for a in self._automations.all() if _fits(a, found)]
        end = begin + limit
        return JsonResponse(
            {
                "automations": [a.body() for a in fitting[begin:end]],
                "next_cursor": _cursor_at(end) if end < len(fitting) else None,
                "total": len(fitting),
            }
        )

    async def _create(self, request: Request) -> Response:
        body, _ = await json_body(request.scope, request.receive)
        automation = self._automations.add_from(body)
        shown = automation.body()
        if automation.endpoint is not None:
            shown["action"]["config"]["secret"] = automation.endpoint.secret
        return JsonResponse(shown, status_code=201)


def _fits(automation: Automation, found: dict[str, str]) -> bool:
    kind = found.get("type", automation.kind)
    if kind not in {"incoming", "outgoing"}:
        msg = "type must be incoming or outgoing."
        raise invalid(msg, param="type")
    enabled = found.get("enabled", str(automation.enabled).lower())
    if enabled not in {"true", "false"}:
        msg = "enabled must be true or false."
        raise invalid(msg, param="enabled")
    return automation.kind == kind and automation.enabled == (enabled == "true")


def _cursor_at(place: int) -> str:
    return f"{place}-{int(time.time()) + _CURSOR_SECONDS}"


def _place_from(cursor: str) -> int:
    place, _, expires = cursor.partition("-")
    digits = place + expires
    if (
        (place and expires and len(digits) < 40)
        and (digits.isascii() and digits.isdecimal())
        and int(expires) >= time.time()
    ):
        return int(place)
    msg = "cursor is unknown or older than 10 minutes."
    raise invalid(msg, param="cursor")
