"""Serve ``/v1/automations``: add and list. The list is flat."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from starlette.routing import Route

from stairoids_sandbox.api.query import limit_from, parameters
from stairoids_sandbox.api.request_body import read_body
from stairoids_sandbox.api.responses import JsonResponse
from stairoids_sandbox.exceptions import invalid
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.webhooks.automations import Automation
from stairoids_sandbox.webhooks.delivery import Endpoint
from stairoids_sandbox.webhooks.subscriptions import checked_url

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.webhooks.automations import Automations

_PARAMETERS = frozenset({"type", "enabled", "limit", "cursor"})
_CURSOR_SECONDS = 600  # a cursor is valid for 10 minutes
_Name = Annotated[str, msgspec.Meta(min_length=1)]


#: Headers that the sender of a webhook sets, or that are about its connection.
_REFUSED_HEADERS = {
    *("authorization", "cookie", "host", "content-length", "content-type"),
    *("content-encoding", "connection", "keep-alive", "proxy-authorization"),
    *("te", "trailer", "transfer-encoding", "upgrade", "expect"),
    *("x-stairoids-delivery", "x-stairoids-event", "x-stairoids-signature"),
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class _Condition(msgspec.Struct):
    field: Literal["signal.type", "signal.source"]
    operator: Literal["equals"]
    value: str


class _Trigger(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    event: Literal["signal.created"]
    conditions: list[_Condition] = []


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    headers: dict[str, str] = {}
    secret: str | None = None


class _Action(msgspec.Struct):
    type: Literal["webhook"]
    config: _Config


class _Incoming(
    msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="incoming"
):
    name: _Name
    trigger: dict[str, Any]
    action: None = None
    enabled: bool = False


class _Outgoing(
    msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="outgoing"
):
    name: _Name
    trigger: _Trigger
    action: _Action
    enabled: bool = False


_DECODER: msgspec.json.Decoder[_Incoming | _Outgoing] = msgspec.json.Decoder(
    _Incoming | _Outgoing
)


class AutomationRoutes:
    """The routes for a workspace's automations."""

    def __init__(self, automations: Automations) -> None:
        self._automations = automations

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/automations", self._list, methods=["GET"]),
            Route("/v1/automations", self._create, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        found = parameters(request, _PARAMETERS)
        limit = limit_from(found, default=50, maximum=100)
        begin = _place_from(found["cursor"]) if "cursor" in found else 0
        kind = _one_of(found, "type", "incoming", "outgoing")
        enabled = _one_of(found, "enabled", "true", "false")
        workspace = request.state.api_key.workspace
        matching = [
            automation
            for automation in self._automations.all()
            if automation.workspace == workspace
            and kind in {None, automation.kind}
            and enabled in {None, str(automation.enabled).lower()}
        ]
        end = begin + limit
        return JsonResponse(
            {
                "automations": [a.body() for a in matching[begin:end]],
                "next_cursor": _cursor_at(end) if end < len(matching) else None,
                "total": len(matching),
            }
        )

    async def _create(self, request: Request) -> Response:
        body, _ = await read_body(request.scope, request.receive, _DECODER)
        workspace = request.state.api_key.workspace
        automation = replace(_automation_from(body), workspace=workspace)
        self._automations.put(automation)
        shown = automation.body()
        if automation.endpoint is not None:
            shown["action"]["config"]["secret"] = automation.endpoint.secret
        return JsonResponse(shown, status_code=201)


def _automation_from(body: _Incoming | _Outgoing) -> Automation:
    if isinstance(body, _Incoming):
        return Automation(
            id=new_id("auto"),
            name=body.name,
            kind="incoming",
            enabled=body.enabled,
            trigger=body.trigger,
        )
    config = body.action.config
    for name, value in config.headers.items():
        msg = "action.config.headers must hold one line of text each."
        if name.lower() in _REFUSED_HEADERS:
            msg = f"action.config.headers must not set {name}."
        elif _TOKEN.fullmatch(name) and value.isprintable():
            continue
        raise invalid(msg, param="action.config.headers")
    return Automation(
        id=new_id("auto"),
        name=body.name,
        kind="outgoing",
        enabled=body.enabled,
        trigger=msgspec.to_builtins(body.trigger),
        conditions=tuple((c.field, c.value) for c in body.trigger.conditions),
        endpoint=Endpoint(
            url=checked_url(config.url),
            secret=config.secret or secrets.token_hex(24),
            headers=config.headers,
        ),
    )


def _one_of(found: dict[str, str], name: str, *choices: str) -> str | None:
    """Return a parameter, None if it is not given; refuse another value."""
    value = found.get(name)
    if value is None or value in choices:
        return value
    raise invalid(f"{name} must be {' or '.join(choices)}.", param=name)


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
