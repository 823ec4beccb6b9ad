"""Run the sandbox in a thread, and give access to its state."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from stairoids_common.config import is_loopback, listening_socket
from stairoids_sandbox.api.auth import AuthMiddleware
from stairoids_sandbox.api.automation_routes import AutomationRoutes
from stairoids_sandbox.api.control_routes import ControlRoutes
from stairoids_sandbox.api.local_only import LocalNames
from stairoids_sandbox.api.responses import ACCEPTED_BODIES, error_response
from stairoids_sandbox.api.signal_routes import SignalRoutes
from stairoids_sandbox.api.webhook_routes import WebhookRoutes
from stairoids_sandbox.components import Components
from stairoids_sandbox.exceptions import ApiError, NotRunningError, UsageError
from stairoids_sandbox.faults.faults import Fault, Faults
from stairoids_sandbox.server_thread import ServerThread
from stairoids_sandbox.state.keys import DEFAULT_KEY, KeyRing
from stairoids_sandbox.state.quota import PLANS, Quota
from stairoids_sandbox.state.request_log import RequestLog
from stairoids_sandbox.state.signal_log import SignalLog
from stairoids_sandbox.state.workspace import Workspace
from stairoids_sandbox.ui.pages import PageRoutes
from stairoids_sandbox.webhooks.automations import Automations
from stairoids_sandbox.webhooks.event_dispatcher import EventDispatcher
from stairoids_sandbox.webhooks.subscriptions import Subscriptions
from stairoids_sandbox.webhooks.webhook_sender import WebhookSender

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.request_log import RequestSeen
    from stairoids_sandbox.webhooks.delivery import Delivery

_T = TypeVar("_T")
_ROUTE_ERRORS = {404: "not_found", 405: "method_not_allowed"}


class Sandbox:
    """A local Stairoids, used as ``with Sandbox() as sandbox:``.

    After the block, the thread, the socket and the database are closed. The signals,
    requests and deliveries can still be read.

    Args:
        plan: starter, growth, agency or unlimited.
        keys: Scope by API key. The default is ``sk_test_sandbox`` with read_write.
        workspaces: Workspace by API key. Other keys belong to ``default``. A key does
            not see the signals, accounts and webhooks of other workspaces.
        requests_per_minute: Replaces the plan's number.
        requests_per_day: Replaces the plan's number.
        window_seconds: The length of the plan's minute.
        success_shape: The 201 body: flat, nested or enveloped.
        excluded_domains: Refused with 422 ``domain_excluded``.
        clock_offset_seconds: How far the clock of Stairoids is ahead; negative if it is
            behind.
        list_lag_seconds: Lists of signals leave out signals that are younger.
        filters_exactly: Whether the filters of a list keep upper case. Signals are
            stored in lower case.
        accepts_names: Whether ``account.name`` is enough to name a company.
        faults: Active from the start.
        retry_base_seconds: Delay before a delivery's second attempt. It doubles for
            each further one.
        delivery_timeout_seconds: The longest time for one attempt of a delivery.
        db: SQLite file for the signals; None keeps them in memory.
        host: Address to listen on.
        port: 0 picks a free one.

    Attributes:
        api_key: The first key of ``keys``.
        automations: Add outgoing webhooks here.
        webhooks: Add event subscriptions here.
        faults: Add, replace or remove faults here, also while requests run.

    Raises:
        UsageError: An argument does not fit, or the database cannot be used.
    """

    def __init__(  # noqa: PLR0913 -- each is one documented property of the service, optional and by keyword
        self,
        *,
        plan: str = "unlimited",
        keys: Mapping[str, str] | None = None,
        workspaces: Mapping[str, str] = MappingProxyType({}),
        requests_per_minute: int | None = None,
        requests_per_day: int | None = None,
        window_seconds: float = 60.0,
        success_shape: str = "flat",
        excluded_domains: Iterable[str] = (),
        clock_offset_seconds: float = 0.0,
        list_lag_seconds: float = 0.0,
        filters_exactly: bool = False,
        accepts_names: bool = False,
        faults: Iterable[Fault] = (),
        retry_base_seconds: float = 1.0,
        delivery_timeout_seconds: float = 10.0,
        db: Path | str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        chosen = _chosen(PLANS, plan, "plan")
        limits = dataclasses.replace(
            chosen,
            requests_per_minute=requests_per_minute or chosen.requests_per_minute,
            requests_per_day=requests_per_day or chosen.requests_per_day,
            window_seconds=window_seconds,
        )
        body_of = _chosen(ACCEPTED_BODIES, success_shape, "success shape")
        keys = keys or {DEFAULT_KEY: "read_write"}
        self.api_key = next(iter(keys))
        key_ring = KeyRing(keys, workspaces)
        self.faults = Faults(faults)
        self.automations = Automations()
        self.webhooks = Subscriptions()
        sender = WebhookSender(
            retry_base_seconds=retry_base_seconds,
            timeout_seconds=delivery_timeout_seconds,
        )
        dispatcher = EventDispatcher(self.automations, self.webhooks, sender)
        self._signal_log = None if db is None else SignalLog(Path(db))
        workspace = Workspace(
            log=self._signal_log,
            on_accepted=dispatcher.dispatch,
            excluded_domains=excluded_domains,
            clock_offset_seconds=clock_offset_seconds,
            accepts_names=accepts_names,
        )
        self._parts = Components(
            keys=key_ring,
            quotas={key.name: Quota(limits) for key in key_ring.all()},
            faults=self.faults,
            requests=RequestLog(),
            workspace=workspace,
            automations=self.automations,
            webhooks=self.webhooks,
            dispatcher=dispatcher,
            sender=sender,
        )
        self._signal_routes = SignalRoutes(
            workspace,
            body_of=body_of,
            list_lag_seconds=list_lag_seconds,
            filters_exactly=filters_exactly,
        )
        self._address = (host, port)
        self._thread: ServerThread | None = None
        self._origin: str | None = None

    @property
    def origin(self) -> str:
        """The address without a path, ``http://127.0.0.1:PORT``."""
        if self._origin is None:
            raise NotRunningError("the sandbox has not been started")
        return self._origin

    @property
    def url(self) -> str:
        """The base URL of the API, ``/v1`` included."""
        return f"{self.origin}/v1"

    @property
    def signals(self) -> list[Signal]:
        """The accepted signals of all workspaces, in order of acceptance."""
        return self._parts.workspace.signals.all()

    @property
    def requests(self) -> list[RequestSeen]:
        """The requests under ``/v1``, in order of arrival."""
        return self._parts.requests.all()

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries of webhooks, in order of creation."""
        return self._parts.sender.all()

    def send_again(self, delivery: Delivery) -> Delivery:
        """Deliver the same body again, to the present endpoint.

        Raises:
            NotRunningError: The sandbox does not run.
        """
        return self._parts.dispatcher.send_again(delivery)

    def start(self) -> Self:
        """Start, and return once requests are served. A sandbox starts only once.

        Raises:
            UsageError: The address cannot be used.
        """
        try:
            listener = listening_socket(*self._address)
        except OSError as error:
            self.stop()
            host, port = self._address
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror}. Choose another "
                "host or port."
            ) from error
        host, port = listener.getsockname()[:2]
        self._origin = (
            f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        )
        stopping = asyncio.Event()
        self._thread = ServerThread(
            self._app(stopping),
            listener,
            stopping=stopping,
            at_start=self._parts.sender.open,
            at_end=self._parts.sender.close,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop the thread, and close the socket and the database."""
        if self._thread is not None:
            self._thread.stop()
        if self._signal_log is not None:
            self._signal_log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def _app(self, stopping: asyncio.Event) -> ASGIApp:
        routes: list[BaseRoute] = [
            *self._signal_routes.routes(),
            *WebhookRoutes(self.webhooks).routes(),
            *AutomationRoutes(self.automations).routes(),
            *ControlRoutes(self._parts).routes(),
            *PageRoutes(self._parts, url=self.url).routes(),
        ]
        app = _application(routes, send_signal=self._signal_routes.send)
        authorized = AuthMiddleware(app, self._parts, stopping=stopping)
        return LocalNames(authorized) if is_loopback(self._address[0]) else authorized


def _chosen(choices: Mapping[str, _T], name: str, option: str) -> _T:
    if name not in choices:
        raise UsageError(f"{option} {name!r} is none of {', '.join(choices)}")
    return choices[name]


def _application(routes: Sequence[BaseRoute], *, send_signal: ASGIApp) -> ASGIApp:
    """Return the application, with errors in the documented envelope.

    ``POST /v1/signals`` passes by the router, because it must be fast.
    """
    router = Starlette(
        routes=routes,
        exception_handlers={ApiError: _refuse, HTTPException: _refuse_route},
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and scope["path"] == "/v1/signals":
            await send_signal(scope, receive, send)
        else:
            await router(scope, receive, send)

    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error_response(error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = _ROUTE_ERRORS.get(error.status_code, "invalid_request")
    msg = f"{request.method} {request.url.path[:100]}: {error.detail}."
    return error_response(ApiError(error.status_code, code, msg))
