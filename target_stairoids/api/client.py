"""The HTTP client of the Stairoids API.

Each thread has its own session. Redirects are not followed, because the key must not go
to other hosts.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, NamedTuple, Self, TypeGuard
from urllib.parse import quote

import msgspec
import requests

from stairoids_common import http
from stairoids_common.retry import http_date, retry_after_in
from stairoids_common.text import visible
from stairoids_common.time import parse_time
from target_stairoids.exceptions import AccessRefusedError, ConfigError
from target_stairoids.settings import Settings

_LONGEST_RESET = 60  # seconds; the quota's window
USER_AGENT = "singer-stairoids"


class ResponseKind(Enum):
    """The meaning of a response, or of none, for the signal that was sent."""

    ACCEPTED = auto()
    REJECTED = auto()  # Stairoids will never accept it as it is
    REFUSED = auto()  # the key or the URL is wrong
    THROTTLED = auto()  # certainly not accepted: 429
    NOT_SENT = auto()  # certainly not accepted: no connection, or asked to come back
    UNKNOWN = auto()  # may or may not have been accepted
    FOREIGN = auto()  # a success that Stairoids does not write, such as HTML


#: Another attempt may have another result.
UNDECIDED = {ResponseKind.THROTTLED, ResponseKind.NOT_SENT, ResponseKind.UNKNOWN}
_LONGEST_NUMBER = 18  # digits in a header; Python refuses thousands of them
_REFUSALS = {401, 402, 403, 404, 405, 407, 410}
#: Status -> a likely cause of a refusal.
_HINTS: dict[int | None, str] = {
    402: " The workspace needs a plan or a paid invoice.",
    407: " The proxy needs a password, as in `https_proxy=http://me:secret@proxy`.",
}
_SUCCESSES = {ResponseKind.ACCEPTED, ResponseKind.FOREIGN}


class SignalIds(NamedTuple):
    """Stairoids' ids of an accepted signal; None if a response has none."""

    signal: str | None = None
    account: str | None = None
    contact: str | None = None


NO_IDS = SignalIds()


def is_id(value: object) -> TypeGuard[str]:
    """Return whether a value can be one of Stairoids' ids.

    PostgreSQL stores no NUL, and no long text in an index.
    """
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response to one request.

    Attributes:
        status: HTTP status; None if no response came.
        body: The parsed JSON; None if it was no JSON.
        retry_after: Seconds from `Retry-After` or `X-RateLimit-Reset`.
        limit: Requests per minute, from `X-RateLimit-Limit`.
        remaining: Requests left in this minute, from `X-RateLimit-Remaining`.
        server_time: From the header `Date`.
        failure: Why no usable response came, without any value of the request.
    """

    kind: ResponseKind
    status: int | None = None
    body: Any = field(default=None, repr=False)  # may repeat the request
    retry_after: float | None = None
    limit: int | None = None
    remaining: int | None = None
    server_time: datetime | None = None
    failure: str = ""

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON as Stairoids wrote it
        """The object in the response, with or without an envelope."""
        match self.body:
            case {"data": dict() | list() as data}:
                return data
        return self.body

    @property
    def ids(self) -> SignalIds:
        """Stairoids' ids of the signal, from any of the three documented shapes."""
        data = self.data if isinstance(self.data, dict) else {}
        found = [data.get("id")]
        for name in ("account", "contact"):
            part = data.get(name)
            inner = part.get("id") if isinstance(part, dict) else None
            found.append(data.get(f"{name}_id") or inner)
        return SignalIds(*(part if is_id(part) else None for part in found))

    @property
    def signal_id(self) -> str | None:
        """Stairoids' id of the signal."""
        return self.ids.signal

    @property
    def moment(self) -> datetime:
        """The time of the signal or response by the server's clock, else by our own."""
        for part in (self.data, self.body):
            match part:
                case {"created_at": str(text)} | {"meta": {"timestamp": str(text)}}:
                    with contextlib.suppress(ValueError):
                        return parse_time(text)
        return self.server_time or datetime.now(UTC)

    @property
    def request_id(self) -> str | None:
        """The request id for Stairoids' support, from any documented place."""
        match self.body:
            case (
                {"error": {"request_id": str(found)}}
                | {"meta": {"request_id": str(found)}}
                | {"request_id": str(found)}
            ):
                return visible(found[:100])
        return None

    @property
    def code(self) -> str | None:
        """The error's machine-readable code."""
        match self.body:
            case {"error": {"code": str(code)}} if code.replace("_", "").isalnum():
                return code[:60]
        return None

    @property
    def reason(self) -> str:
        """Status and error code. The message is left out: it may quote values."""
        if self.status is None:
            return self.failure
        if self.failure:
            return f"{self.status} with {self.failure}"
        return f"{self.status} {self.code or 'without an error code'}"


def kind_of(status: int, *, asks_to_return: bool) -> ResponseKind:
    """Return the meaning of a status for the signal that was sent."""
    if 200 <= status < 300:
        return ResponseKind.ACCEPTED
    if 300 <= status < 400 or status in _REFUSALS:
        return ResponseKind.REFUSED
    if status == 429:
        return ResponseKind.THROTTLED
    if status == 503 and asks_to_return:
        return ResponseKind.NOT_SENT
    if status == 408 or status >= 500 or status < 200:
        return ResponseKind.UNKNOWN
    return ResponseKind.REJECTED


def refusal(response: Response, url: str) -> AccessRefusedError:
    """Return the error about a request that the API refuses, or that is not the API."""
    if is_other_api(response):
        other = response.reason if _is_redirect(response) else "another JSON object"
        return AccessRefusedError(
            "`api_url` does not look like the Stairoids API. It answered with "
            f"{response.failure or other}. Such a response accepts no signal. The URL "
            "of Stairoids is https://api.stairoids.com/v1."
        )
    request = f" (request_id {response.request_id})" if response.request_id else ""
    return AccessRefusedError(
        f"Stairoids refuses the request: {response.reason}{request} at {url}."
        f"{_HINTS.get(response.status, '')} Check `api_key` (it needs the `read_write` "
        "scope) and `api_url`. No signals were lost. Fix it and run again."
    )


def is_other_api(response: Response) -> bool:
    """Return whether a response that is no list or signal is not of Stairoids."""
    return response.kind in _SUCCESSES or _is_redirect(response)


def _is_redirect(response: Response) -> bool:
    """Return whether a response leads to another address, as Stairoids' never do."""
    return 300 <= (response.status or 0) < 400


class Client:
    """The Stairoids API, for any number of threads. Failures are responses, not errors.

    Source: https://docs.stairoids.com/api-reference/signals, its pages `send-signal`,
    `list-signals` and `get-signal`. `ConfigError` if the environment names certificates
    that are not there.

    Args:
        timeout: Seconds to wait for a connection, and for each part of a response.
        is_over: Whether to wait for nothing more that is read, such as after SIGTERM.
    """

    def __init__(
        self,
        api_url: str,
        api_key: str,
        *,
        timeout: float,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        if wrong := http.environment_error(api_url):
            raise ConfigError(wrong)
        self.api_url = api_url
        self._signals_url = f"{api_url}/signals"
        self._auth = http.BearerAuth(api_key)
        self._timeout, self._is_over = timeout, is_over
        self._local = threading.local()
        # At DEBUG it logs each URL, and a query for signals holds an email address.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

    @classmethod
    def of(
        cls, settings: Settings, *, is_over: Callable[[], bool] = lambda: False
    ) -> Self:
        """Return a client with the URL, the key and the timeout of the settings."""
        timeout = settings.request_timeout_seconds
        return cls(settings.api_url, settings.api_key, timeout=timeout, is_over=is_over)

    @property
    def _of_thread(self) -> _ThreadSession:
        made: _ThreadSession | None = getattr(self._local, "made", None)
        if made is None:  # most threads that make a client send no request
            made = self._local.made = _ThreadSession(self._signals_url, self._auth)
        return made

    def post_signal(self, request: bytes) -> Response:
        """Send one signal, whose request is JSON text."""
        prepared = self._of_thread.post.copy()
        leave_by = time.monotonic() + 1.5 * self._timeout
        prepared.prepare_body(_Body(request, leave_by=leave_by), None)
        return self._send(prepared)

    def list_signals(self, query: Mapping[str, str | int]) -> Response:
        """Read one page of signals."""
        return self._get(self._signals_url, params=query, auth=self._auth)

    def read_signal(self, signal_id: str) -> Response:
        """Read one signal."""
        url = f"{self._signals_url}/{quote(signal_id, safe='')}"
        return self._get(url, auth=self._auth)

    def reach(self) -> Response:
        """Request the API's root without the key."""
        return self._get(self.api_url)

    def _get(self, url: str, **parts: Any) -> Response:
        """Read within twice the timeout, however slowly the host name or parts come."""

        def read() -> Response:
            with self._of_thread.session as session:
                request = requests.Request("GET", url, **parts)
                return self._send(session.prepare_request(request))

        try:
            return http.within(2 * self._timeout, read, is_over=self._is_over)
        except TimeoutError:
            failure = "no response in time"
        except Exception as error:  # noqa: BLE001 - such as a redirect to no URL
            failure = f"the request failed ({type(error).__name__})"
        return Response(kind=ResponseKind.UNKNOWN, failure=failure)

    def _send(self, request: requests.PreparedRequest) -> Response:
        try:
            response = self._of_thread.session.send(
                request,
                timeout=self._timeout,
                allow_redirects=False,
                **self._of_thread.settings,
            )
            text = http.text_of(response)
        except requests.RequestException as error:
            return _no_response(error, request.body)
        return _read(response, text)

    def close(self) -> None:
        """Close this thread's connections."""
        self._of_thread.session.close()


class _ThreadSession:
    """A thread's session, its proxies from the environment, and a signal's request.

    They are made once: reading the environment costs more than a request, and preparing
    a request costs a quarter of it.
    """

    def __init__(self, url: str, auth: http.BearerAuth) -> None:
        self.session = http.session_of_whole_responses()
        self.session.headers["User-Agent"] = USER_AGENT
        self.settings = self.session.merge_environment_settings(
            url, {}, stream=True, verify=None, cert=None
        )
        self.session.trust_env = False
        json = {"Content-Type": "application/json"}
        self.post = self.session.prepare_request(
            requests.Request("POST", url, headers=json, auth=auth)
        )


class _Body:
    """A request's body that notes whether it was sent.

    Only this distinguishes a failed handshake from a TLS connection that broke later.
    The body is not sent late, when the request may already count as failed.
    """

    def __init__(self, text: bytes, *, leave_by: float) -> None:
        self._text = text
        self._leave_by = leave_by
        self.has_left = False

    def __len__(self) -> int:
        return len(self._text)

    def __iter__(self) -> Iterator[bytes]:
        yield self.read()

    def read(self, _size: int = -1) -> bytes:
        if time.monotonic() > self._leave_by:
            raise TimeoutError
        self.has_left = True
        text, self._text = self._text, b""
        return text


def _no_response(error: requests.RequestException, body: object) -> Response:
    """Return UNKNOWN if the request can have reached Stairoids, else NOT_SENT."""
    obstacle = http.obstacle_of(error)
    stayed = bool(obstacle) and not isinstance(error, requests.ReadTimeout)
    if isinstance(body, _Body):
        stayed = not body.has_left
    if stayed:
        failure = f"no connection ({obstacle or 'connection broke off'})"
        return Response(kind=ResponseKind.NOT_SENT, failure=failure)
    if isinstance(error, requests.Timeout):
        return Response(kind=ResponseKind.UNKNOWN, failure="no response in time")
    return Response(kind=ResponseKind.UNKNOWN, failure=http.breach_of(error))


def _read(response: requests.Response, text: bytes) -> Response:
    headers = response.headers
    server_time = http_date(headers.get("Date", ""))
    now = server_time or datetime.now(UTC)
    retry_after = retry_after_in(headers.get("Retry-After"), now)
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    kind = kind_of(response.status_code, asks_to_return=retry_after is not None)
    failure = _foreign(body, text) if kind is ResponseKind.ACCEPTED else ""
    return Response(
        kind=ResponseKind.FOREIGN if failure else kind,
        status=response.status_code,
        body=body,
        retry_after=_until_reset(headers, now) if retry_after is None else retry_after,
        limit=_whole(headers.get("X-RateLimit-Limit")),
        remaining=_whole(headers.get("X-RateLimit-Remaining")),
        server_time=server_time,
        failure=failure,
    )


def _foreign(body: Any, text: bytes) -> str:  # noqa: ANN401 - any JSON
    """Name the content of a success that is no JSON object; empty for an object."""
    match body:
        case {"error": dict() | str()}:
            return "an error"
        case dict():
            return ""
    return "HTML" if text.lstrip()[:1] == b"<" else "no JSON object"


def _until_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds until `X-RateLimit-Reset`, if the quota is spent."""
    if _whole(headers.get("X-RateLimit-Remaining")) != 0:
        return None
    wait = (_whole(headers.get("X-RateLimit-Reset")) or 0) - now.timestamp()
    return wait if 0 < wait <= _LONGEST_RESET else None


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else None
