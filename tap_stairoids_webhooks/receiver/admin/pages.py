"""Show the newest deliveries, refusals and consumers as web pages.

The pages read the store through a connection of their own, so that no delivery waits
for them.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Route

from stairoids_pages.pages import Pages
from tap_stairoids_webhooks.exceptions import StoreError
from tap_stairoids_webhooks.reading.payload_schemas import KNOWN_EVENTS
from tap_stairoids_webhooks.store.consumers import lags
from tap_stairoids_webhooks.store.event_summary import event_at, latest
from tap_stairoids_webhooks.store.statistics import refusals_by_day

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from tap_stairoids_webhooks.receiver.admin.metrics import ReceiverStatus
    from tap_stairoids_webhooks.receiver.app import Receive, Scope, Send
    from tap_stairoids_webhooks.store.consumers import Lag
    from tap_stairoids_webhooks.store.schema import StoredEvent

_LIVE_SECONDS = 2
_NO_TYPE = "(none)"  # as in `stats --format json`
_PAGE_EVENTS = 50
_DAYS = 14
_LAG_SECONDS = 5.0  # lags are cached, because to count them may read many rows


class AdminPages:
    """The ASGI application of the pages. Its caller checks the token.

    Args:
        status: The status of the receiver.
    """

    def __init__(self, status: ReceiverStatus) -> None:
        self._status = status
        self._cached_lags: tuple[float, dict[str, Lag]] | None = None
        self._pages = Pages("tap_stairoids_webhooks", live_seconds=_LIVE_SECONDS)
        event = "/events/{sequence}"
        self._app = Starlette(
            routes=[
                Route("/", self._overview, methods=["GET"]),
                Route(event, self._event, methods=["GET"]),
                Route(f"{event}/body", self._body, methods=["GET"]),
            ],
            exception_handlers={StoreError: self._store_failed, 404: self._not_found},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        await self._app(scope, receive, send)

    async def _overview(self, request: Request) -> Response:
        kind = request.query_params.get("type") or None
        before = _sequence_from(request.query_params.get("before", ""))
        found = await asyncio.to_thread(self._overview_of, kind=kind, before=before)
        return self._pages.page(request, "overview.html", **found)

    async def _event(self, request: Request) -> Response:
        event = await self._requested_event(request)
        if event is None:
            return self._error(request, 404, "There is no such event in the store.")
        return self._pages.page(request, "event.html", event=event)

    async def _body(self, request: Request) -> Response:
        event = await self._requested_event(request)
        if event is None:
            return self._error(request, 404, "There is no such event in the store.")
        return self._pages.download(event.body, name=f"event-{event.sequence}.json")

    async def _requested_event(self, request: Request) -> StoredEvent | None:
        sequence = _sequence_from(request.path_params["sequence"])
        if sequence is None:
            return None
        return await asyncio.to_thread(
            lambda: event_at(self._status.reader(), sequence)
        )

    async def _store_failed(self, request: Request, error: Exception) -> Response:
        return self._error(request, 503, f"{str(error)[:1].upper()}{str(error)[1:]}.")

    async def _not_found(self, request: Request, _error: Exception) -> Response:
        return self._error(request, 404, "There is nothing here.")

    def _error(self, request: Request, status: int, message: str) -> Response:
        return self._pages.page(request, "error.html", status=status, message=message)

    def _overview_of(self, *, kind: str | None, before: int | None) -> dict[str, Any]:
        """Return the values of the first page; reads the store.

        Raises:
            StoreError: The store cannot be read now.
        """
        store = self._status.reader()
        events = latest(
            store,
            number=_PAGE_EVENTS + 1,
            before=before,
            kind=None if kind == _NO_TYPE else kind,
            untyped=kind == _NO_TYPE,
        )
        has_older = len(events) > _PAGE_EVENTS
        today = datetime.now(UTC).date()
        days = [f"{today - timedelta(days=n)}" for n in range(_DAYS - 1, -1, -1)]
        return {
            "events": events[:_PAGE_EVENTS],
            "older": events[_PAGE_EVENTS - 1].sequence if has_older else None,
            "kind": kind,
            "kinds": {**{name: name for name in KNOWN_EVENTS}, _NO_TYPE: "no type"},
            "before": before,
            "stored": store.last_sequence(),
            "readiness": self._status.readiness(),
            "counts": self._status.counts(),
            "keys": self._status.keys(),
            "lags": self._lags(),
            "days": days,
            "today": str(today),
            "refused": refusals_by_day(store, since=days[0]),
        }

    def _lags(self) -> dict[str, Lag]:
        now = time.monotonic()
        if self._cached_lags is None or now - self._cached_lags[0] > _LAG_SECONDS:
            self._cached_lags = (now, lags(self._status.reader()))
        return self._cached_lags[1]


def _sequence_from(text: str) -> int | None:
    """Read a sequence of a URL; None if the text is no sequence."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
