"""Show the newest deliveries, refusals and consumers as web pages.

The pages read the store through a connection of their own, so that no delivery waits
for them.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stairoids_pages.pages import Pages
from stairoids_pages.templating import shown, size_of
from tap_stairoids_webhooks.exceptions import StoreError
from tap_stairoids_webhooks.receiver.admin.metrics import ReceiverStatus
from tap_stairoids_webhooks.store.consumers import lags
from tap_stairoids_webhooks.store.event_summary import (
    event_with_sequence,
    latest,
    subject_of,
)
from tap_stairoids_webhooks.store.forwards import reasons_in
from tap_stairoids_webhooks.store.schema import StoredEvent
from tap_stairoids_webhooks.store.statistics import (
    last_refusals,
    refusals_by_day,
    types_of,
    use_of_secrets,
)
from tap_stairoids_webhooks.store.store import EventStore

_PAGES = Pages("tap_stairoids_webhooks", live_seconds=2)
_NO_TYPE = "(none)"  # as in `stats --format json`
_PAGE_EVENTS = 50
_DAYS = 14
_CACHE_SECONDS = 5.0  # of values that may read many rows, at least
_CACHE_FACTOR = 20  # or as many times the seconds that reading them took
_MAX_TYPES = 100  # of the choice
_PROBLEMS = {
    "draining": "The receiver is stopping. Deliveries get 503, and come again.",
    "disk_full": "The disk is nearly full: it has less free space than the limit of"
    " --min-free, {limit}. Deliveries get 503 until there is room.",
    "store_failing": "The store cannot be written{cause}. Deliveries get 503."
    " The receiver tries again every second.",
    "store_too_slow": "A delivery has waited for the store for over 8 seconds."
    " Deliveries get 503, and come again.",
}
#: The meaning of each reason, and the remedy.
_REFUSALS = {
    "signature_mismatch": "Signed with another secret, or a proxy changed the body.",
    "signature_missing": "No signature: the endpoint in Stairoids has no secret.",
    "not_found": "Another path. Compare the URL in Stairoids with the one above.",
    "method_not_allowed": "Not a POST: a browser or a scanner.",
    "too_large": "The body is over the limit of --max-body.",
    "disk_full": "The disk was nearly full. Stairoids sends again.",
    "draining": "The receiver was stopping. Stairoids sends again.",
    "store_unavailable": "The store could not be written. Stairoids sends again.",
    "store_too_slow": "The store took over 8 seconds. Stairoids sends again.",
    "failed": "An error of the receiver: see its log.",
    "disconnected": "The sender closed the connection early.",
    "too_slow": "The sender took too long.",
    "too_many_connections": "More connections than the limit.",
    "too_many_large_bodies": "More large bodies at once than the limit.",
    "too_many_requests": "More requests on a connection than the limit.",
}


class AdminPages:
    """The ASGI application of the pages. Its caller checks the token."""

    def __init__(self, status: ReceiverStatus, *, url: str) -> None:
        self._status = status
        self._url = url.replace("://0.0.0.0:", "://127.0.0.1:")
        self._cached: tuple[float, dict[str, Any]] | None = None
        event = "/events/{sequence}"
        self.app = Starlette(
            routes=[
                Route("/", self._overview, methods=["GET"]),
                Route(event, self._event, methods=["GET"]),
                Route(f"{event}/body", self._body, methods=["GET"]),
            ],
            exception_handlers={StoreError: self._store_failed, 404: self._not_found},
        )

    async def _overview(self, request: Request) -> Response:
        given = {
            name: request.query_params.get(name, "").strip()
            for name in ("type", "day", "text")
        }
        before = _sequence_from(request.query_params.get("before", ""))
        found = await self._status.reads.run(
            lambda: self._overview_of(given, before=before)
        )
        return _PAGES.page(request, "overview.html", **found)

    async def _event(self, request: Request) -> Response:
        event = await self._requested_event(request)
        if event is None:
            return self._error(request, 404, "There is no such event in the store.")
        subject = subject_of(event.body)
        return _PAGES.page(request, "event.html", event=event, subject=subject)

    async def _body(self, request: Request) -> Response:
        event = await self._requested_event(request)
        if event is None:
            return self._error(request, 404, "There is no such event in the store.")
        return _PAGES.download(event.body, name=f"event-{event.sequence}.json")

    async def _requested_event(self, request: Request) -> StoredEvent | None:
        sequence = _sequence_from(request.path_params["sequence"])
        if sequence is None:
            return None
        return await self._status.reads.run(
            lambda: event_with_sequence(self._status.reader(), sequence)
        )

    async def _store_failed(self, request: Request, error: Exception) -> Response:
        return self._error(request, 503, f"{str(error)[:1].upper()}{str(error)[1:]}.")

    async def _not_found(self, request: Request, _error: Exception) -> Response:
        return self._error(request, 404, "There is nothing here.")

    def _error(self, request: Request, status: int, message: str) -> Response:
        return _PAGES.page(request, "error.html", status=status, message=message)

    def _overview_of(
        self, given: dict[str, str], *, before: int | None
    ) -> dict[str, Any]:
        """Return the values of the first page; reads the store."""
        store = self._status.reader()
        kind = given["type"]
        events = latest(
            store,
            number=_PAGE_EVENTS + 1,
            before=before,
            kind=None if kind == _NO_TYPE else kind,
            day=given["day"],
            text=given["text"],
        )
        has_older = len(events) > _PAGE_EVENTS
        app, failure = self._status.app, self._status.commits.failure
        details = {
            "limit": size_of(self._status.app.settings.min_free),
            "cause": f": {failure}" if failure else "",
        }
        today = datetime.now(UTC).date()
        readiness = self._status.readiness()
        days = [f"{today - timedelta(days=n)}" for n in range(_DAYS - 1, -1, -1)]
        refused = refusals_by_day(store, since=days[0])
        return {
            "events": events[:_PAGE_EVENTS],
            "older": events[_PAGE_EVENTS - 1].sequence if has_older else None,
            "given": given,
            "query": urlencode({name: value for name, value in given.items() if value}),
            "url": self._url,
            "store_url": quote(store.database.url),
            "quote": quote,
            "before": before,
            "stored": store.last_sequence(),
            "readiness": readiness,
            "counts": app.counts.copy(),
            "keys": app.verifier.key_ids,
            "days": days,
            "today": str(today),
            "refused": refused,
            "most": max(
                (n for each in refused.values() for n in each.values()), default=1
            ),
            "refused_at": last_refusals(store),
            "meanings": _REFUSALS,
            "problems": [
                text.format(**details)
                for name, text in _PROBLEMS.items()
                if readiness.get(name)
            ],
            "since": app.not_ready_since,
            **self._counted(store),
        }

    def _counted(self, store: EventStore) -> dict[str, Any]:
        """Return the values that may read many rows."""
        began = time.monotonic()
        if self._cached is None or began > self._cached[0]:
            types = [name or _NO_TYPE for name in types_of(store)]
            found = {
                "lags": lags(store),
                "reasons": reasons_in(store),
                "uses": use_of_secrets(store),
                "kinds": [name for name in types if shown(name) == name][:_MAX_TYPES],
            }
            ended = time.monotonic()
            pause = max(_CACHE_SECONDS, _CACHE_FACTOR * (ended - began))
            self._cached = (ended + pause, found)
        return self._cached[1]


def _sequence_from(text: str) -> int | None:
    """Read a sequence of a URL; None if the text is no sequence."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
