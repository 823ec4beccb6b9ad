"""Post stored events to the URL of a handler."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import requests
from typing_extensions import override
from urllib3 import HTTPResponse

from stairoids_common.http import (
    WholeAdapter,
    WholeConnection,
    breach_of,
    environment_error,
    obstacle_of,
    session_of_whole_responses,
)
from stairoids_common.retry import http_date, retry_after_in
from tap_stairoids_webhooks.endpoints import checked_url, proxies_to
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.forwarding.decision import Response
from tap_stairoids_webhooks.store.schema import StoredEvent

_SECONDS = 10  # as long as Stairoids waits
#: Of a response, so that its connection can be used again.
_READ_BYTES, _MOST_READS = 65536, 64


class Handler:
    """The URL of a handler. Each thread has its own connection.

    `place` is for logs and has no path, because a path may hold a token.
    """

    def __init__(self, url: str, *, allow_http: bool = False) -> None:
        if wrong := environment_error(url):
            raise ConfigError(wrong)
        self._url = checked_url(url, name="the URL", allow_http=allow_http)
        parts = urlsplit(self._url)
        self.place = f"{parts.scheme}://{parts.netloc}"
        self._proxies = proxies_to(self._url)
        self._of_thread = threading.local()

    def post(self, event: StoredEvent) -> Response:
        """Post the body with its signature; every error is a response."""
        try:
            response = self._session.post(
                self._url,
                data=event.body,
                headers=_headers_of(event),
                timeout=_SECONDS,
                allow_redirects=False,
                proxies=self._proxies,
                stream=True,
            )
        except requests.RequestException as error:
            return Response(obstacle=obstacle_of(error) or breach_of(error))
        except Exception as error:  # noqa: BLE001 -- a worker must not end
            return Response(obstacle=type(error).__name__)
        with response, suppress(Exception):  # the status has arrived
            ends_at = time.monotonic() + _SECONDS
            for _ in range(_MOST_READS):
                if not response.raw.read1(_READ_BYTES) or time.monotonic() > ends_at:
                    break
        headers = response.headers
        now = http_date(headers.get("Date", "")) or datetime.now(UTC)
        return Response(
            status=response.status_code,
            retry_after=retry_after_in(headers.get("Retry-After"), now),
        )

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._of_thread, "session", None)
        if session is None:
            session = session_of_whole_responses(_Deadlines())
            session.auth = lambda request: request  # no password of a `.netrc` file
            self._of_thread.session = session
        return session


class _LimitedConnection(WholeConnection):
    """A connection with a time limit for the head of a response, also of a proxy.

    The timeout of `requests` is for each part that arrives, however small.
    """

    @override
    def _tunnel(self) -> None:
        with self._limit(self.sock):
            super()._tunnel()

    @override
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does
        with self._limit(self.sock):
            return super().getresponse()

    @contextmanager
    def _limit(self, ours: socket.socket) -> Iterator[None]:
        """Hang up after some seconds."""
        late = threading.Event()

        def hang_up() -> None:
            late.set()
            with suppress(OSError):  # it was closed meanwhile
                socket.socket.shutdown(ours, socket.SHUT_RDWR)

        timer = threading.Timer(_SECONDS, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if late.is_set():  # also if the part that came is a head
                raise TimeoutError


class _Deadlines(WholeAdapter):
    """Limits the time for the head of a response."""

    connection_class = _LimitedConnection


def _headers_of(event: StoredEvent) -> dict[str, str]:
    """Return the headers that Stairoids sent with an event."""
    stored = event.headers
    headers = {
        "Content-Type": stored.get("content-type", "application/json"),
        "X-Stairoids-Signature": event.signature,
        "X-Stairoids-Event": stored.get("x-stairoids-event", event.event or "").strip(),
        "X-Stairoids-Delivery": stored.get("x-stairoids-delivery", ""),
        "User-Agent": "stairoids-webhooks",
    }
    return {k: v for k, v in headers.items() if v and v.isascii() and v.isprintable()}
