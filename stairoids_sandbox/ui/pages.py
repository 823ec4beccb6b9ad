"""Serve ``/``: the sandbox in a browser, for a person on this machine.

A program that does not accept HTML gets a list of the routes in plain text.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import SplitResult, urlsplit

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stairoids_pages.exceptions import FormRefusedError
from stairoids_pages.forms import Forms
from stairoids_pages.pages import Pages
from stairoids_sandbox.api.local_only import LocalOnly
from stairoids_sandbox.api.query import sequence_from
from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.faults.switches import (
    PROBABILITIES,
    STATUSES,
    fault_for,
    switches_for,
)
from stairoids_sandbox.state.keys import DEFAULT_KEY
from stairoids_sandbox.ui.lists import (
    SHOWN,
    Filters,
    headline_of,
    hint_for,
    place_of,
    rows_of,
    subject_of,
    wall_time,
)
from stairoids_sandbox.webhooks.automations import ANY_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.components import Components
    from stairoids_sandbox.webhooks.automations import Automation
    from stairoids_sandbox.webhooks.delivery import Delivery

_INDEX = """\
stairoids-sandbox: the documented Stairoids API on this machine.
Open this address in a browser to watch it.

POST GET     /v1/signals       GET /v1/signals/{id}
POST GET     /v1/webhooks      DELETE /v1/webhooks/{id}
POST GET     /v1/automations

GET POST     /_sandbox/faults
GET          /_sandbox/signals  /_sandbox/deliveries  /_sandbox/requests
GET          /_sandbox/stats
POST         /_sandbox/deliveries/{id}/send-again
"""
_LOCAL = [Middleware(LocalOnly)]
_PAGES = Pages("stairoids_sandbox", live_seconds=0.75)
_SINCE = {
    "600": "in the last 10 minutes",
    "3600": "in the last hour",
    "86400": "in the last day",
    "": "since the start",
}


class _AutomationFields(TypedDict):
    type: str
    url: str
    name: str | None


class PageRoutes:
    """The routes of the pages and of their forms.

    Args:
        parts: The parts of the sandbox.
        url: The base URL of the API.
    """

    def __init__(self, parts: Components, *, url: str) -> None:
        self._parts = parts
        self._url = url
        self._forms = Forms()

    def routes(self) -> list[Route]:
        """Return the routes."""
        again = "/deliveries/{delivery_id}/send-again"
        pages = {
            "/": self._overview,
            "/signals/{signal_id}": self._signal,
            "/deliveries/{delivery_id}": self._delivery,
            "/requests/{sequence}": self._request,
            "/signals": self._list,
            "/deliveries": self._list,
            "/requests": self._list,
        }
        forms = {
            again: self._send_again,
            "/deliveries/send-again": self._send_failed_again,
            "/endpoints/{owner_id}/test": self._send_test,
            "/automations": self._add_automation,
            "/automations/{automation_id}": self._change_automation,
            "/faults": self._remove_faults,
            "/faults/{kind}": self._switch_fault,
        }
        return [
            *(
                Route(path, endpoint, methods=["GET"], middleware=_LOCAL)
                for path, endpoint in pages.items()
            ),
            *(
                Route(path, self._form(handle), methods=["POST"], middleware=_LOCAL)
                for path, handle in forms.items()
            ),
        ]

    def _form(
        self, handle: Callable[[Request, dict[str, str]], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that reads a form and handles its fields."""

        async def endpoint(request: Request) -> Response:
            try:
                return handle(request, await self._forms.read(request))
            except FormRefusedError as error:
                return self._error(request, error.status, error.message)

        return endpoint

    async def _overview(self, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(_INDEX, headers={"Vary": "Accept"})
        return self._show_overview(request)

    def _show_overview(
        self,
        request: Request,
        given: Mapping[str, str] = MappingProxyType({}),
        error: ApiError | None = None,
    ) -> Response:
        """Show the first page, after an error with the given fields of the form."""
        parts = self._parts
        now = time.monotonic()
        return self._page(
            request,
            "overview.html",
            status=400 if error else 200,
            given=given,
            error=error,
            signals=rows_of(parts, "signals", Filters()),
            deliveries=rows_of(parts, "deliveries", Filters()),
            deliveries_ended=parts.sender.ended,
            automations=parts.automations.all(),
            removed=parts.automations.removed,
            webhooks=parts.webhooks.all(),
            probabilities=PROBABILITIES,
            statuses=STATUSES,
            keys=[(key, parts.quotas[key.name].usage(now)) for key in parts.keys.all()],
            key=DEFAULT_KEY if parts.keys.has(DEFAULT_KEY) else "YOUR_KEY",
            responses=sorted(
                parts.requests.statuses.items(),
                key=lambda item: (item[0] is None, item[0]),
            ),
        )

    async def _list(self, request: Request) -> Response:
        given = request.query_params
        name = request.url.path.strip("/")
        found = rows_of(
            self._parts, name, Filters.of(given), cursor=given.get("before", "")
        )
        return self._page(
            request, "list.html", since=_SINCE, sent=given.get("sent"), **found
        )

    async def _signal(self, request: Request) -> Response:
        signal = self._parts.workspace.signals.get(request.path_params["signal_id"])
        if signal is None:
            return self._error(request, 404, "Signal not found")
        found = [d for d in self._parts.sender.all() if d.signal.id == signal.id]
        latest = found[: -SHOWN - 1 : -1]
        return self._page(request, "signal.html", signal=signal, deliveries=latest)

    async def _request(self, request: Request) -> Response:
        sequence = sequence_from(request.path_params["sequence"])
        seen = self._parts.requests.get(sequence or 0)
        if seen is None:
            return self._error(request, 404, "Request not found")
        return self._page(request, "request.html", seen=seen)

    async def _delivery(self, request: Request) -> Response:
        delivery = self._parts.sender.get(request.path_params["delivery_id"])
        if delivery is None:
            return self._error(request, 404, "Delivery not found")
        return self._show_delivery(request, delivery)

    def _show_delivery(
        self, request: Request, delivery: Delivery, *, status: int = 200
    ) -> Response:
        owners = self._parts.dispatcher.owners()
        return self._page(
            request,
            "delivery.html",
            status=status,
            delivery=delivery,
            owners=owners,
            owner=owners.get(delivery.owner.id),
            automation=self._parts.automations.get(delivery.owner.id),
        )

    def _send_again(self, request: Request, fields: dict[str, str]) -> Response:
        delivery = self._parts.sender.get(request.path_params["delivery_id"])
        if delivery is None:
            return self._error(request, 404, "Delivery not found")
        owners = self._parts.dispatcher.owners()
        owner = owners.get(fields.get("to", delivery.owner.id))
        if owner is None and fields.get("to") != "old":
            return self._show_delivery(request, delivery, status=409)
        again = self._parts.dispatcher.send_again(delivery, owner)
        if fields.get("from") == "delivery":
            return _PAGES.redirect(f"/deliveries/{again.id}")
        return self._back(request)

    def _send_failed_again(self, _request: Request, fields: dict[str, str]) -> Response:
        """Send each delivery again that failed lately and whose endpoint exists."""
        seconds = fields.get("since", "")
        since = time.monotonic() - int(seconds) if seconds in _SINCE and seconds else 0
        owners = self._parts.dispatcher.owners()
        failed = [d for d in self._parts.sender.all() if d.state == "failed"]
        sent = [
            self._parts.dispatcher.send_again(delivery)
            for delivery in failed
            if delivery.attempts[-1].ended > since and delivery.owner.id in owners
        ]
        return _PAGES.redirect(f"/deliveries?sent={len(sent)}")

    def _send_test(self, request: Request, _fields: dict[str, str]) -> Response:
        owner = self._parts.dispatcher.owners().get(request.path_params["owner_id"])
        if owner is None:
            return self._error(request, 404, "This endpoint was removed")
        self._parts.dispatcher.send_test(owner)
        return self._back(request)

    def _add_automation(self, request: Request, fields: dict[str, str]) -> Response:
        automations = self._parts.automations
        given = _automation_from(fields)
        if _is_sent_twice(fields, automations.all(), given):
            return self._back(request)
        try:
            automations.add(**given, secret=fields.get("secret") or None)
        except ApiError as error:
            return self._show_overview(request, fields, error)
        return self._back(request)

    def _change_automation(self, request: Request, fields: dict[str, str]) -> Response:
        automation_id = request.path_params["automation_id"]
        automations = self._parts.automations
        match fields.get("do"):
            case "remove":
                automations.remove(automation_id)
            case "restore":
                automations.restore()
            case "on" | "off" as enabled:
                automations.switch(automation_id, enabled=enabled == "on")
            case "save" if automation := automations.get(automation_id):
                old = automation.endpoint.secret if automation.endpoint else None
                kept = None if fields.get("unsigned") else old
                secret = fields.get("secret") or kept
                try:
                    automations.edit(
                        automation, **_automation_from(fields), secret=secret
                    )
                except ApiError as error:
                    given = {**fields, "id": automation_id}
                    return self._show_overview(request, given, error)
            case _:
                return self._error(request, 400, "Unknown change of an automation")
        return self._back(request)

    def _remove_faults(self, request: Request, _fields: dict[str, str]) -> Response:
        self._parts.faults.set([])
        return self._back(request)

    def _switch_fault(self, request: Request, fields: dict[str, str]) -> Response:
        kind = request.path_params["kind"]
        try:
            fault = fault_for(kind, fields)
        except UsageError as error:
            return self._error(request, 400, f"Unknown switch: {error}")
        self._parts.faults.remove(kind)
        if fields.get("do") == "on":
            self._parts.faults.add(fault)
        return self._back(request)

    def _back(self, request: Request) -> Response:
        """Load the page again that a form was sent from."""
        referer = _referer(request)
        path = "/" + referer.path.lstrip("/")
        return _PAGES.redirect(f"{path}?{referer.query}".rstrip("?"))

    def _error(self, request: Request, status: int, message: str) -> Response:
        return self._page(request, "error.html", status=status, message=message)

    def _page(
        self, request: Request, template: str, *, status: int = 200, **values: object
    ) -> Response:
        deliveries = self._parts.sender.all()
        return _PAGES.page(
            request,
            template,
            status=status,
            form_token=self._forms.token(),
            url=self._url,
            path=request.url.path,
            today=str(datetime.now(UTC).date()),
            refused=sum(
                number
                for status, number in self._parts.requests.statuses.items()
                if status and status >= 400
            ),
            list_before=lambda path: _list_before(request, path),
            switches=switches_for(self._parts.faults.counts()),
            states=Counter(delivery.state for delivery in deliveries),
            headline_of=headline_of,
            hint_for=hint_for,
            place_of=place_of,
            subject_of=subject_of,
            signal_with=self._parts.workspace.signals.get,
            wall_time=wall_time,
            **values,
        )


def _referer(request: Request) -> SplitResult:
    """Return the URL of the page that led here; an empty one if it is no URL."""
    with suppress(ValueError):
        return urlsplit(request.headers.get("referer", ""))
    return urlsplit("")


def _list_before(request: Request, path: str) -> str:
    """Return a list's path, with the filters of the page before."""
    referer = _referer(request)
    return f"{path}?{referer.query}" if referer.path == path else path


def _automation_from(fields: Mapping[str, str]) -> _AutomationFields:
    return {
        "type": fields.get("type", "").strip() or ANY_TYPE,
        "url": fields.get("url", "").strip(),
        "name": fields.get("name", "").strip() or None,
    }


def _is_sent_twice(
    fields: Mapping[str, str], present: list[Automation], given: _AutomationFields
) -> bool:
    """Return whether a double click sent the form again that made the last one.

    The form has the number of automations that its page showed.
    """
    if not present or fields.get("number") != str(len(present) - 1):
        return False
    last = present[-1]
    kind = dict(last.conditions).get("signal.type", ANY_TYPE)
    url = last.endpoint.url if last.endpoint else ""
    return (kind, url) == (given["type"], given["url"])
