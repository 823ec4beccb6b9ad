"""The key and the time limit of a request, and the reason why it has no response."""

from __future__ import annotations

import http.client
import os
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import lru_cache
from http import HTTPStatus
from http.client import HTTPException, RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from io import BufferedReader
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from requests import PreparedRequest, RequestException, Response, Session, Timeout
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, InvalidURL
from typing_extensions import override
from urllib3 import exceptions as urllib3
from urllib3.connection import HTTPConnection

Result = TypeVar("Result")

#: Why there is no connection. The first that fits, because some are subclasses.
_OBSTACLES = (
    (InvalidURL, "the URL is not valid"),
    (urllib3.NameResolutionError, "host not found"),
    (urllib3.SSLError, "TLS failed"),
    (urllib3.ProxyError, "proxy failed"),
    (urllib3.NewConnectionError, "host not reached"),
    ((urllib3.ConnectTimeoutError, Timeout), "timeout"),
)

_LARGEST_RESPONSE = 1 << 22  # a page of 200 signals with large properties fits
_POLL_SECONDS = 0.1  # between two questions whether a call is over
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")


def environment_error(url: str) -> str | None:
    """Return why a proxy or the certificates of the environment cannot be used, if so.

    Requests would fail for each request, which looks like an outage of Stairoids. A URL
    without TLS needs no certificates.
    """
    for name in (*_PROXIES, *map(str.upper, _PROXIES)):
        try:
            _ = urlsplit(os.environ.get(name, "")).port
        except ValueError:
            return f"The variable {name} is no URL of a proxy. Correct it or unset it."
    if not url.lower().startswith("https:"):
        return None
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        path = os.environ.get(name)
        if not path or Path(path).is_dir():
            continue
        try:
            _read_certificates(path)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            why = "names no file" if missing else "names a file without certificates"
            return f"The variable {name} {why}. Correct it or unset it."
    return None


@lru_cache  # an error is no result, so it is found again
def _read_certificates(path: str) -> None:
    # About 300 certificates take 40 ms, and the variables often name one file.
    ssl.create_default_context(cafile=path)


class BearerAuth(AuthBase):
    """The key of the API. In a header, a `.netrc` file would replace it."""

    def __init__(self, api_key: str) -> None:
        self._header = f"Bearer {api_key}"

    @override
    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


class _WholeLines(BufferedReader):
    """Reads lines, and fails at the end of a connection within or before one of a head.

    In a body, `urllib3` knows which lines may lack: some servers end no last chunk.
    """

    is_head = True

    @override
    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if self.is_head and not line.endswith(b"\n") and len(line) != size:
            raise RemoteDisconnected("")  # the head is cut off
        return line


class _WholeResponse(http.client.HTTPResponse):
    """The final response, if its head is whole.

    Python takes a part of a head for a head, and 103 (Early Hints) for a response.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp = self._lines = _WholeLines(self.fp.detach())

    @override
    def begin(self) -> None:
        super().begin()
        while 100 < self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # so that `begin` reads on
            super().begin()
        self._lines.is_head = False


class WholeConnection(HTTPConnection):
    """A connection on which a response that is cut off is none."""

    response_class = _WholeResponse


class WholeAdapter(HTTPAdapter):
    """Takes only whole responses, and never repeats a request."""

    connection_class: type[WholeConnection] = WholeConnection

    @override
    def send(self, *args: Any, **options: Any) -> Response:
        try:
            return super().send(*args, **options)
        except urllib3.LocationParseError as error:  # such as of `https://a..b/`
            raise InvalidURL(error) from error

    @override
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        if not issubclass(pool.ConnectionCls, self.connection_class):
            bases = (self.connection_class, pool.ConnectionCls)
            pool.ConnectionCls = type("Connection", bases, {})
        return pool


def session_of_whole_responses(adapter: WholeAdapter | None = None) -> Session:
    """Return a session that takes only whole responses, and no cookies."""
    session = Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter or WholeAdapter())
    return session


def within(
    seconds: float,
    call: Callable[[], Result],
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> Result:
    """Return the result of a call, however slowly the host name or parts come.

    `TimeoutError` after these seconds, or soon after `is_over` is true. The call then
    goes on in a thread that delays no exit.
    """
    result = in_thread(call)
    deadline = time.monotonic() + seconds
    while not is_over() and (left := deadline - time.monotonic()) > 0:
        if wait([result], min(left, _POLL_SECONDS)).done:
            break
    return result.result(timeout=0)


def in_thread(call: Callable[[], Result]) -> Future[Result]:
    """Begin a call in a thread that delays no exit, and return its future result."""
    result: Future[Result] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            result.set_exception(error)

    result.set_running_or_notify_cancel()  # it cannot be cancelled
    Thread(target=run, daemon=True).start()
    return result


def text_of(response: Response) -> bytes:
    """Return a response's body; if it is too large, only its beginning."""
    text = b""
    for chunk in response.iter_content(65536):
        text += chunk
        if len(text) > _LARGEST_RESPONSE:
            response.close()
            break
    return text


def obstacle_of(error: RequestException) -> str:
    """Return why a request had no connection or timed out, or an empty text."""
    cause = _cause_of(error)
    if isinstance(getattr(cause, "__cause__", None), ConnectionRefusedError):
        return "connection refused"
    for kind, reason in _OBSTACLES:
        if isinstance(cause, kind) or isinstance(error, kind):
            return reason
    return ""


def breach_of(error: RequestException) -> str:
    """Return why no usable response came to a request that was sent."""
    if isinstance(error, ContentDecodingError):
        return "the response cannot be decoded"
    if isinstance(error, ChunkedEncodingError):
        return "the response broke off"
    cause = _cause_of(error)
    inner = cause.args[-1] if isinstance(cause, urllib3.ProtocolError) else None
    if isinstance(inner, HTTPException) and not isinstance(inner, ConnectionError):
        return "the response is not HTTP"
    return "the connection broke off before a response"


def _cause_of(error: RequestException) -> object:
    # The error of urllib3 below an error of requests.
    cause = error.args[0] if error.args else None
    return getattr(cause, "reason", cause)
