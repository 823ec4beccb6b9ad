"""Filter signals, deliveries and requests for the pages, the newest first.

A cursor is the sequence of the last row on a page, so new rows do not shift the pages.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from stairoids_pages.templating import shown
from stairoids_sandbox.api.query import sequence_from
from stairoids_sandbox.state import request_log
from stairoids_sandbox.webhooks import webhook_sender
from stairoids_sandbox.webhooks.automations import Automation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stairoids_sandbox.components import Components
    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.state.request_log import RequestSeen
    from stairoids_sandbox.webhooks.delivery import Delivery

SHOWN = 50
_MAX_OPTIONS = 100  # of a choice, the newest
_MAX_LENGTH = 200  # of an option
_MOST_COUNTED = 1_000  # of the rows that fit
_BEGAN = time.time() - time.monotonic()
_Row = TypeVar("_Row", "Signal", "Delivery", "RequestSeen")

KEPT = {
    "signals": "all signals",
    "deliveries": f"the latest {webhook_sender.KEPT:,} deliveries",
    "requests": f"the latest {request_log.KEPT:,} requests",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a list. An empty text filters nothing.

    Attributes:
        q: A text, in any case.
        to: The id of an automation or a subscription.
        status: The state of a delivery; the status of a request, or ``refused``.
        key: The name of an API key.
        day: A date in UTC.
    """

    q: str = ""
    type: str = ""
    status: str = ""
    to: str = ""
    key: str = ""
    day: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Filters:
        """Read the filters of a query string."""
        return cls(**{name: given.get(name, "").strip() for name in cls.__slots__})

    def query(self, **more: object) -> str:
        """Return them as a query string."""
        given = {name: getattr(self, name) for name in self.__slots__} | more
        return urlencode({name: value for name, value in given.items() if value})

    def _fit(self, **values: str | None) -> bool:
        wanted = {name: getattr(self, name) for name in values}
        return all(not want or want == values[name] for name, want in wanted.items())

    def signal(self, signal: Signal) -> bool:
        """Return whether a signal is wanted."""
        day = str(signal.created_at.date())
        return (
            self._fit(type=signal.type, key=signal.key_name, day=day)
            and self.q.casefold() in signal.searched
        )

    def delivery(self, delivery: Delivery) -> bool:
        """Return whether a delivery is wanted."""
        day = str(wall_time(delivery.created).date())
        fits = self._fit(status=delivery.state, to=delivery.owner.id, day=day)
        if not (fits and self.q):
            return fits
        last = delivery.attempts[-1] if delivery.attempts else None
        parts = [delivery.event, delivery.owner.name, place_of(delivery.endpoint.url)]
        if last is not None:
            parts += [last.error or "", last.response.decode(errors="replace")]
        searched = " ".join(parts).casefold()
        return self.q.casefold() in f"{searched} {delivery.signal.searched}"

    def request(self, request: RequestSeen) -> bool:
        """Return whether a request is wanted."""
        status = str(request.status or "cut off")
        if self.status == "refused":
            status = "refused" if status >= "400" else status
        day = str(wall_time(request.arrived).date())
        fits = self._fit(status=status, key=request.key_name, day=day)
        parts = [request.method, request.path, request.query]
        if request.error is not None:
            error = request.error
            parts += [error.code, error.message, error.param, error.request_id]
        if request.signal is not None:
            parts.append(request.signal.searched)
        parts.append(request.body.decode(errors="replace"))
        return fits and self.q.casefold() in " ".join(parts).casefold()


def rows_of(
    parts: Components, name: str, filters: Filters, cursor: str = ""
) -> dict[str, Any]:
    """Return one page of a list, for its template.

    Args:
        name: signals, deliveries or requests.
        cursor: Show only older rows.
    """
    page: _Page[Signal] | _Page[Delivery] | _Page[RequestSeen]
    before = sequence_from(cursor)
    most = _MOST_COUNTED if filters.query() else SHOWN
    keys = [key.name for key in parts.keys.all()]
    if name == "signals":
        signals = parts.workspace.signals
        page = _page(reversed(signals.all()), filters.signal, before, most)
        types = [text for text in signals.types() if shown(text, _MAX_LENGTH) == text]
        total, choices = len(signals), {"type": types, "key": keys}
    elif name == "deliveries":
        page = _page(reversed(parts.sender.all()), filters.delivery, before, most)
        total = parts.sender.started
        choices = {"status": ["failed", "waiting", "delivered", "sent again"]}
    else:
        page = _page(parts.requests.newest_first(), filters.request, before, most)
        total = parts.requests.total
        statuses = sorted(
            str(status or "cut off") for status in parts.requests.statuses
        )
        choices = {"status": ["refused", *statuses], "key": keys}
    return {
        "name": name,
        "rows": page.rows[:SHOWN],
        "older": page.rows[SHOWN - 1].sequence if page.rows[SHOWN:] else None,
        "newer": page.newer[0] + 1 if page.newer else None,
        "fitting": page.number,
        "is_older": before is not None,
        "total": total,
        "kept": KEPT[name],
        "filters": filters,
        "choices": {field: values[-_MAX_OPTIONS:] for field, values in choices.items()},
        "owners": _owners(parts) if name == "deliveries" else {},
    }


def _owners(parts: Components) -> dict[str, str]:
    """Return the names of all endpoints by id, also of removed ones."""
    known = {d.owner.id: d.owner.name for d in parts.sender.all()}
    known |= {owner.id: owner.name for owner in parts.dispatcher.owners().values()}
    return dict(list(known.items())[-_MAX_OPTIONS:])


class _Page(Generic[_Row]):
    """The wanted rows of a page and one more, and the sequences of those before it."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.newer: deque[int] = deque(maxlen=SHOWN)
        self.number = 0  # of all wanted rows, as far as they were counted


def _page(
    rows: Iterable[_Row], wanted: Callable[[_Row], bool], before: int | None, most: int
) -> _Page[_Row]:
    page = _Page[_Row]()
    for row in filter(wanted, rows):
        page.number += 1
        if before is not None and row.sequence >= before:
            page.newer.append(row.sequence)
        elif len(page.rows) <= SHOWN:
            page.rows.append(row)
        elif page.number > most:
            break
    return page


def headline_of(delivery: Delivery) -> str:
    """Return the name of a delivery's automation, or its event."""
    owner = delivery.owner
    return owner.name if isinstance(owner, Automation) else delivery.event


def hint_for(delivery: Delivery) -> str:
    """Return the likely cause of a failed last attempt, and its remedy."""
    if not delivery.attempts or delivery.attempts[-1].acknowledged:
        return ""
    last = delivery.attempts[-1]
    status, body = last.status or 0, last.response
    hints = {
        "No usable response came. Check that the receiver runs at this address.": (
            not status
        ),
        "The secret differs from the receiver's secret. Enter the receiver's secret, "
        "then send again.": status == 401 and body.startswith(b"signature_mismatch"),
        "The receiver needs a signature. Enter its secret, then send again.": (
            status == 401 and body.startswith(b"signature_missing")
        ),
        "The endpoint does not know this path. Check the URL, then send again.": (
            status in {404, 405}
        ),
        "Stairoids follows no redirects. Enter the final URL, then send again.": (
            300 <= status < 400
        ),
        "The receiver is over its limit. Send again later.": status == 429,
        "The receiver refused the event. Its response has the reason.": status < 500,
        "The receiver failed. Look at its response and its log, then send again.": True,
    }
    return next(hint for hint, fits in hints.items() if fits)


def subject_of(body: bytes) -> str:
    """Return the company and the email in the body of a refused request."""
    try:
        found = msgspec.json.decode(body)
        account, contact = found.get("account") or {}, found.get("contact") or {}
        parts = [account.get("domain") or account.get("name"), contact.get("email")]
    except (msgspec.DecodeError, RecursionError, AttributeError):
        return ""
    return " · ".join(str(part) for part in parts if part)


def place_of(url: str) -> str:
    """Return a URL without its scheme, its credentials and its query."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def wall_time(moment: float) -> datetime:
    """Return the date and time of a value of ``time.monotonic()``."""
    return datetime.fromtimestamp(_BEGAN + moment, UTC).replace(microsecond=0)
