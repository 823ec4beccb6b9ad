"""Serve ``/``: the sandbox in a browser, for a person on this machine.

A program that does not accept HTML gets a list of the routes in plain text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stairoids_pages.exceptions import FormRefusedError
from stairoids_pages.forms import Forms
from stairoids_pages.pages import Pages
from stairoids_sandbox.api.local_only import LocalOnly
from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.faults.switches import fault_for
from stairoids_sandbox.ui.views import place_of, wall_time
from stairoids_sandbox.webhooks.automations import ANY_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from stairoids_sandbox.faults.faults import Faults
    from stairoids_sandbox.ui.views import Views
    from stairoids_sandbox.webhooks.automations import Automations
    from stairoids_sandbox.webhooks.webhook_sender import WebhookSender

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


class PageRoutes:
    """The routes of the pages and of their forms.

    Args:
        views: The values of the pages.
        url: The base URL of the API.
    """

    def __init__(
        self,
        views: Views,
        *,
        automations: Automations,
        sender: WebhookSender,
        faults: Faults,
        url: str,
    ) -> None:
        self._views = views
        self._automations = automations
        self._sender = sender
        self._faults = faults
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
        values = self._views.overview()
        return self._page(request, "overview.html", given={}, error=None, **values)

    async def _signal(self, request: Request) -> Response:
        found = self._views.signal(request.path_params["signal_id"])
        if found is None:
            return self._error(request, 404, "Signal not found")
        return self._page(request, "signal.html", **found)

    async def _delivery(self, request: Request) -> Response:
        found = self._views.delivery(request.path_params["delivery_id"])
        if found is None:
            return self._error(request, 404, "Delivery not found")
        return self._page(request, "delivery.html", **found)

    def _send_again(self, request: Request, fields: dict[str, str]) -> Response:
        delivery = self._sender.get(request.path_params["delivery_id"])
        if delivery is None:
            return self._error(request, 404, "Delivery not found")
        again = self._sender.send_again(delivery)
        pages = {
            "delivery": f"/deliveries/{again.id}",
            "signal": f"/signals/{again.signal_id}",
        }
        return self._pages.redirect(pages.get(fields.get("from", ""), "/"))

    def _add_automation(self, request: Request, fields: dict[str, str]) -> Response:
        try:
            self._automations.add(
                type=fields.get("type", "").strip() or ANY_TYPE,
                url=fields.get("url", "").strip(),
                secret=fields.get("secret") or None,
                name=fields.get("name", "").strip() or None,
            )
        except ApiError as error:
            return self._page(
                request,
                "overview.html",
                status=400,
                given=fields,
                error=error,
                **self._views.overview(),
            )
        return self._pages.redirect("/")

    def _change_automation(self, request: Request, fields: dict[str, str]) -> Response:
        automation_id = request.path_params["automation_id"]
        match fields.get("do"):
            case "remove":
                self._automations.remove(automation_id)
            case "on" | "off" as enabled:
                self._automations.switch(automation_id, enabled=enabled == "on")
            case _:
                return self._error(request, 400, "Unknown change of an automation")
        return self._pages.redirect("/")

    def _switch_fault(self, request: Request, fields: dict[str, str]) -> Response:
        kind = request.path_params["kind"]
        try:
            fault = fault_for(kind, fields)
        except UsageError as error:
            return self._error(request, 400, f"Unknown switch: {error}")
        self._faults.remove(kind)
        if fields.get("do") == "on":
            self._faults.add(fault)
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
            place_of=place_of,
            signal_with=self._views.signal_with,
            wall_time=wall_time,
            **values,
        )
