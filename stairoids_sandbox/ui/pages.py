"""Serve ``/``: the sandbox in a browser, for a person on this machine.

A program that does not accept HTML gets a list of the routes in plain text.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stairoids_pages.exceptions import FormRefusedError
from stairoids_pages.forms import Forms
from stairoids_pages.pages import Pages
from stairoids_sandbox.api.local_only import LocalOnly
from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.faults.switches import (
    PROBABILITIES,
    STATUSES,
    fault_for,
    switches_for,
)
from stairoids_sandbox.state.keys import DEFAULT_KEY
from stairoids_sandbox.state.signal_index import SignalQuery
from stairoids_sandbox.webhooks.automations import ANY_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.components import Components

_INDEX = """\
stairoids-sandbox: the documented Stairoids API on this machine.
Open this address in a browser to watch it.

POST GET     /v1/signals       GET /v1/signals/{id}
POST GET     /v1/webhooks      DELETE /v1/webhooks/{id}
POST GET     /v1/automations

GET POST     /_sandbox/faults
GET          /_sandbox/signals  /_sandbox/deliveries  /_sandbox/stats
POST         /_sandbox/deliveries/{id}/send-again
"""
_LOCAL = [Middleware(LocalOnly)]
_LIVE_SECONDS = 0.75
_SHOWN = 50


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
        self._pages = Pages("stairoids_sandbox", live_seconds=_LIVE_SECONDS)

    def routes(self) -> list[Route]:
        """Return the routes."""
        again = "/deliveries/{delivery_id}/send-again"
        pages = {
            "/": self._overview,
            "/signals/{signal_id}": self._signal,
            "/deliveries/{delivery_id}": self._delivery,
        }
        forms = {
            again: self._send_again,
            "/automations": self._add_automation,
            "/automations/{automation_id}": self._change_automation,
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
        signals = parts.workspace.signals
        now = time.monotonic()
        return self._page(
            request,
            "overview.html",
            status=400 if error else 200,
            given=given,
            error=error,
            signals=signals.find(SignalQuery(limit=_SHOWN)),
            signals_total=len(signals),
            deliveries=parts.sender.latest(_SHOWN),
            deliveries_total=len(parts.sender),
            deliveries_ended=parts.sender.ended,
            automations=parts.automations.all(),
            webhooks=parts.webhooks.all(),
            switches=switches_for(parts.faults.all()),
            probabilities=PROBABILITIES,
            statuses=STATUSES,
            keys=[(key, parts.quotas[key.name].usage(now)) for key in parts.keys.all()],
            key=DEFAULT_KEY if parts.keys.has(DEFAULT_KEY) else "YOUR_KEY",
            responses=sorted(
                parts.requests.statuses.items(),
                key=lambda item: (item[0] is None, item[0]),
            ),
        )

    async def _signal(self, request: Request) -> Response:
        signal = self._parts.workspace.signals.get(request.path_params["signal_id"])
        if signal is None:
            return self._error(request, 404, "Signal not found")
        found = [d for d in self._parts.sender.all() if d.signal_id == signal.id]
        latest = found[: -_SHOWN - 1 : -1]
        return self._page(request, "signal.html", signal=signal, deliveries=latest)

    async def _delivery(self, request: Request) -> Response:
        delivery = self._parts.sender.get(request.path_params["delivery_id"])
        if delivery is None:
            return self._error(request, 404, "Delivery not found")
        return self._page(request, "delivery.html", delivery=delivery)

    def _send_again(self, request: Request, fields: dict[str, str]) -> Response:
        delivery = self._parts.sender.get(request.path_params["delivery_id"])
        if delivery is None:
            return self._error(request, 404, "Delivery not found")
        again = self._parts.sender.send_again(delivery)
        pages = {
            "delivery": f"/deliveries/{again.id}",
            "signal": f"/signals/{again.signal_id}",
        }
        return self._pages.redirect(pages.get(fields.get("from", ""), "/"))

    def _add_automation(self, request: Request, fields: dict[str, str]) -> Response:
        try:
            self._parts.automations.add(
                type=fields.get("type", "").strip() or ANY_TYPE,
                url=fields.get("url", "").strip(),
                secret=fields.get("secret") or None,
                name=fields.get("name", "").strip() or None,
            )
        except ApiError as error:
            return self._show_overview(request, fields, error)
        return self._pages.redirect("/")

    def _change_automation(self, request: Request, fields: dict[str, str]) -> Response:
        automation_id = request.path_params["automation_id"]
        match fields.get("do"):
            case "remove":
                self._parts.automations.remove(automation_id)
            case "on" | "off" as enabled:
                self._parts.automations.switch(automation_id, enabled=enabled == "on")
            case _:
                return self._error(request, 400, "Unknown change of an automation")
        return self._pages.redirect("/")

    def _switch_fault(self, request: Request, fields: dict[str, str]) -> Response:
        kind = request.path_params["kind"]
        try:
            fault = fault_for(kind, fields)
        except UsageError as error:
            return self._error(request, 400, f"Unknown switch: {error}")
        self._parts.faults.remove(kind)
        if fields.get("do") == "on":
            self._parts.faults.add(fault)
        return self._pages.redirect("/")

    def _error(self, request: Request, status: int, message: str) -> Response:
        return self._page(request, "error.html", status=status, message=message)

    def _page(
        self, request: Request, template: str, *, status: int = 200, **values: object
    ) -> Response:
        return self._pages.page(
            request,
            template,
            status=status,
            form_token=self._forms.token(),
            url=self._url,
            place_of=_place_of,
            signal_with=self._parts.workspace.signals.get,
            wall_time=_wall_time,
            **values,
        )


def _place_of(url: str) -> str:
    """Return a URL without its scheme, its credentials and its query."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def _wall_time(moment: float) -> datetime:
    """Return the date and time of a value of ``time.monotonic()``."""
    return datetime.fromtimestamp(time.time() - time.monotonic() + moment, UTC)
