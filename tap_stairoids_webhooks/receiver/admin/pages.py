"""The pages of the admin listener: what came in, what was refused, who is behind.

Whoever comes here has shown the token, as a header or in the form for it.
"""

from __future__ import annotations

import asyncio
import re
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from stairoids_pages.exceptions import FormRefusedError
from stairoids_pages.forms import Forms
from stairoids_pages.pages import Pages
from tap_stairoids_webhooks.exceptions import StoreError
from tap_stairoids_webhooks.receiver.admin.views import Views

if TYPE_CHECKING:
    from starlette.responses import Response

    from tap_stairoids_webhooks.receiver.admin.metrics import Facts
    from tap_stairoids_webhooks.receiver.admin.sessions import Sessions
    from tap_stairoids_webhooks.receiver.app import Receive, Scope, Send
    from tap_stairoids_webhooks.store.schema import StoredEvent

_LIVE_SECONDS = 2


class PageRoutes:
    """The ASGI application of the pages.

    Args:
        facts: What they tell.
        sessions: Who may see it.
        cookie: The name of the session's cookie; each port has its own.
    """

    def __init__(self, facts: Facts, sessions: Sessions, *, cookie: str) -> None:
        self._views = Views(facts)
        self._sessions = sessions
        self._cookie = cookie
        self._forms = Forms()
        self._pages = Pages("tap_stairoids_webhooks", live_seconds=_LIVE_SECONDS)
        event = "/events/{sequence}"
        self._app = Starlette(
            routes=[
                Route("/", self._overview, methods=["GET"]),
                Route(event, self._event, methods=["GET"]),
                Route(f"{event}/body", self._body, methods=["GET"]),
                Route("/login", self._login, methods=["POST"]),
                Route("/logout", self._logout, methods=["POST"]),
            ],
            exception_handlers={
                FormRefusedError: self._refuse,
                StoreError: self._fail,
                404: self._miss,
            },
        )

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, *, known: bool
    ) -> None:
        """Answer one request.

        Args:
            scope: As of ASGI.
            receive: As of ASGI.
            send: As of ASGI.
            known: Whether the token came with it; else a session must.
        """
        session = self._session_of(scope)
        scope["state"] = {"session": session}
        if scope["path"] == "/login" or known or session:
            await self._app(scope, receive, send)
        else:
            request = Request(scope, receive)
            response = self._page(request, "login.html", status=401, wrong=False)
            await response(scope, receive, send)

    def _session_of(self, scope: Scope) -> str:
        """Return the open session a request belongs to, or nothing."""
        for name, value in scope["headers"]:
            if name != b"cookie":
                continue
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(self._cookie)
            except CookieError:
                continue
            if morsel is not None and self._sessions.use(morsel.value):
                return str(morsel.value)
        return ""

    async def _overview(self, request: Request) -> Response:
        kind = request.query_params.get("type") or None
        before = _sequence_from(request.query_params.get("before", ""))
        found = await asyncio.to_thread(self._views.overview, kind=kind, before=before)
        return self._page(request, "overview.html", **found)

    async def _event(self, request: Request) -> Response:
        event = await self._found(request)
        if event is None:
            return self._sorry(request, 404, "There is no such event in the store.")
        return self._page(request, "event.html", event=event)

    async def _body(self, request: Request) -> Response:
        event = await self._found(request)
        if event is None:
            return self._sorry(request, 404, "There is no such event in the store.")
        return self._pages.download(event.body, name=f"event-{event.sequence}.json")

    async def _found(self, request: Request) -> StoredEvent | None:
        sequence = _sequence_from(request.path_params["sequence"])
        if sequence is None:
            return None
        return await asyncio.to_thread(self._views.event, sequence)

    async def _login(self, request: Request) -> Response:
        fields = await self._forms.read(request)
        session = self._sessions.open(fields.get("token", "").strip())
        if session is None:
            return self._page(request, "login.html", status=401, wrong=True)
        response = self._pages.redirect("/")
        response.set_cookie(self._cookie, session, httponly=True, samesite="strict")
        return response

    async def _logout(self, request: Request) -> Response:
        session = request.state.session
        await self._forms.read(request, session=session)
        self._sessions.close(session)
        response = self._pages.redirect("/")
        response.delete_cookie(self._cookie, httponly=True, samesite="strict")
        return response

    async def _refuse(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, FormRefusedError):
            raise error
        return self._sorry(request, error.status, error.message)

    async def _fail(self, request: Request, error: Exception) -> Response:
        return self._sorry(request, 503, f"{str(error)[:1].upper()}{str(error)[1:]}.")

    async def _miss(self, request: Request, _error: Exception) -> Response:
        return self._sorry(request, 404, "There is nothing here.")

    def _sorry(self, request: Request, status: int, message: str) -> Response:
        return self._page(request, "sorry.html", status=status, message=message)

    def _page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> Response:
        session = "" if template == "login.html" else request.state.session
        return self._pages.page(
            request,
            template,
            status=status,
            form_token=self._forms.token(session),
            session=session,
            **values,
        )


def _sequence_from(text: str) -> int | None:
    """Read a sequence of a query; what is none asks for nothing."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
