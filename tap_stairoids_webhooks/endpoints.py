"""Endpoints: where Stairoids is told to send its webhooks; HTTP, client side.

The answers of `/v1/webhooks` are documented flat, the rest of the API in a
`data` envelope; both are read.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase
from typing_extensions import override
from urllib3.exceptions import (
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from tap_stairoids_webhooks.exceptions import ConfigError, StairoidsError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECT_AND_READ_SECONDS = (10, 30)
_TEST_SECONDS = 10  # as Stairoids waits
_SHOWN_CHARACTERS = 500

#: Why there is no answer: the first that fits, because some are kinds of others.
_OBSTACLES = (
    (NameResolutionError, "host not found"),
    (ProxyError, "proxy failed"),
    (SSLError, "TLS failed: a certificate nobody vouches for, or no TLS there"),
    (NewConnectionError, "host not reached"),
    (requests.Timeout, "timeout"),
    (requests.exceptions.InvalidURL, "no URL that leads anywhere"),
    (requests.ConnectionError, "the connection broke off before an answer"),
)


class Endpoints:
    """The webhook endpoints of one workspace.

    Args:
        api_url: Base URL of the API, with its version.
        api_key: Sent to this URL only; redirects are never followed.
    """

    def __init__(self, *, api_url: str, api_key: str) -> None:
        self._url = checked_url(api_url, name="--api-url").rstrip("/") + "/webhooks"
        self._api_key = api_key
        self._session = requests.Session()
        # As `auth`, because a .netrc would replace a header.
        self._session.auth = _Bearer(api_key)

    def register(
        self, url: str, *, events: Sequence[str], secret: str
    ) -> dict[str, Any]:
        """Have Stairoids send `events` to `url`, signed with `secret`."""
        body = {"url": url, "events": list(events), "secret": secret}
        return _object_in(self._call("POST", self._url, body, secrets=[secret]))

    def list(self) -> list[dict[str, Any]]:
        """Return the endpoints as Stairoids describes them."""
        return _objects_in(self._call("GET", self._url))

    def delete(self, endpoint_id: str) -> None:
        """Have Stairoids send no more to an endpoint."""
        self._call("DELETE", f"{self._url}/{quote(endpoint_id, safe='')}")

    def _call(
        self, method: str, url: str, body: object = None, *, secrets: Sequence[str] = ()
    ) -> object:
        try:
            answer = self._session.request(
                method,
                url,
                json=body,
                timeout=_CONNECT_AND_READ_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            msg = f"{method} {url}: no answer ({_obstacle(error)})"
            raise StairoidsError(msg) from None
        content = _json_of(answer)
        if 200 <= answer.status_code < 300:
            return content
        msg = f"{method} {url}: Stairoids answered {answer.status_code}"
        msg += _explanation_in(content, secrets=[self._api_key, *secrets])
        if answer.status_code in {401, 403}:
            msg += ": check the API key and its scope (read_write)"
        raise StairoidsError(msg)


class _Bearer(AuthBase):
    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    @override
    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers["Authorization"] = f"Bearer {self._api_key}"
        return r


def post_signed(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Deliver a body as Stairoids would.

    Returns:
        The status of the answer.

    Raises:
        StairoidsError: There was none.
    """
    try:
        return requests.post(
            url,
            data=body,
            headers=headers,
            timeout=_TEST_SECONDS,
            allow_redirects=False,
        ).status_code
    except requests.RequestException as error:
        msg = f"POST {url}: no answer ({_obstacle(error)})"
        raise StairoidsError(msg) from None


def _obstacle(error: requests.RequestException) -> str:
    """Say in words why there is no answer."""
    cause = error.args[0] if error.args else None
    cause = getattr(cause, "reason", cause)
    if isinstance(cause, NewConnectionError) and isinstance(
        cause.__cause__, ConnectionRefusedError
    ):
        return "connection refused: nobody listens there"
    for kind, obstacle in _OBSTACLES:
        if isinstance(cause, kind) or isinstance(error, kind):
            return obstacle
    return "the answer cannot be read"


def checked_url(url: str, *, name: str) -> str:
    """Refuse an URL over which a key or a body would travel readable.

    Raises:
        ConfigError: It is neither https, nor http to this very machine.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if host and parts.scheme == "https":
        return url
    if host and parts.scheme == "http" and _is_loopback(host):
        return url
    msg = f"{name} must begin with https:// (http:// only to this machine)"
    raise ConfigError(msg)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json_of(answer: requests.Response) -> object:
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None


def _explanation_in(content: object, *, secrets: Sequence[str]) -> str:
    """Return message, code, parameter and request id, wherever Stairoids put them."""
    if not isinstance(content, dict):
        return ""
    error = content.get("error")
    details = error if isinstance(error, dict) else {}
    places = [p for p in (error, content.get("meta"), content) if isinstance(p, dict)]
    ids = [found for p in places if (found := p.get("request_id"))]
    named = [("param", details.get("param")), ("request_id", next(iter(ids), None))]
    facts = [str(details["code"])] if details.get("code") else []
    facts += [f"{name}={value}" for name, value in named if value]
    text = f": {details['message']}" if details.get("message") else ""
    text += f" ({', '.join(facts)})" if facts else ""
    return _shown(text, secrets=secrets)


def _shown(text: str, *, secrets: Sequence[str]) -> str:
    """Return what somebody else wrote so that it can go to a terminal or a log."""
    for secret in secrets:
        text = text.replace(secret, "(hidden)")
    return "".join(c if c.isprintable() else " " for c in text)[:_SHOWN_CHARACTERS]


def _object_in(content: object) -> dict[str, Any]:
    match content:
        case {"data": dict(data)}:
            return data
        case dict():
            return content
        case _:
            return {}


def _objects_in(content: object) -> list[dict[str, Any]]:
    match content:
        case {"webhooks": list(found)} | {"data": list(found)}:
            pass
        case {"data": {"webhooks": list(found)}}:
            pass
        case list(found):
            pass
        case _:
            msg = "Stairoids' list of webhooks has a shape this version does not know"
            raise StairoidsError(msg)
    return [item for item in found if isinstance(item, dict)]
