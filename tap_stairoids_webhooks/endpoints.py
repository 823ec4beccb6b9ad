"""Call the webhook API of Stairoids, and send sample events to a receiver.

The documentation shows the responses of `/v1/webhooks` without the `data` envelope of
the rest of the API. Both forms are read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from stairoids_common.config import is_loopback
from stairoids_common.http import (
    BearerAuth,
    Result,
    breach_of,
    environment_error,
    obstacle_of,
    session_of_whole_responses,
    text_of,
    within,
)
from tap_stairoids_webhooks.exceptions import ConfigError, StairoidsError
from tap_stairoids_webhooks.signature import sign

_SECONDS = 30  # for each part of a response; twice as long for all
_TEST_SECONDS = 10  # as long as Stairoids waits
_SHOWN_CHARACTERS = 500

#: Explanations of some reasons for no response.
_HINTS = {
    "connection refused": ": no server listens on this port",
    "TLS failed": ": the certificate is not trusted, or there is no TLS",
}


class Endpoints:
    """The webhook endpoints of one workspace. The key is sent to this URL only."""

    def __init__(self, *, api_url: str, api_key: str) -> None:
        if wrong := environment_error(api_url):
            raise ConfigError(wrong)
        self._url = checked_url(api_url, name="--api-url").rstrip("/") + "/webhooks"
        self._api_key = api_key
        self._session = session_of_whole_responses()
        self._session.auth = BearerAuth(api_key)

    def register(
        self, url: str, *, events: Sequence[str], secret: str
    ) -> dict[str, Any]:
        """Register `url` for `events`, signed with `secret`; return the endpoint."""
        body = {"url": url, "events": list(events), "secret": secret}
        found = _data_in(self._call("POST", self._url, body, secrets=[secret]))
        if isinstance(found, dict) and found.get("id"):
            return found
        raise StairoidsError(
            "the response of Stairoids names no endpoint: run stairoids-webhooks list"
            " to see whether it is registered"
        )

    def list(self) -> list[dict[str, Any]]:
        """Return the endpoints."""
        found = _data_in(self._call("GET", self._url))
        found = found.get("webhooks") if isinstance(found, dict) else found
        if not isinstance(found, list) or not all(isinstance(e, dict) for e in found):
            raise StairoidsError(
                "Stairoids' list of webhooks has a shape this version does not know:"
                " check --api-url"
            )
        return found

    def others_of(self, url: str, endpoint_id: object) -> Sequence[str]:
        """Return the ids of a URL's other endpoints; none if the key may not list."""
        with suppress(StairoidsError):
            return [
                str(found.get("id"))
                for found in self.list()
                if str(found.get("url")).rstrip("/") == url.strip().rstrip("/")
                and found.get("id") != endpoint_id
            ]
        return []

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint."""
        self._call("DELETE", f"{self._url}/{quote(endpoint_id, safe='')}")

    def _call(
        self, method: str, url: str, body: object = None, *, secrets: Sequence[str] = ()
    ) -> object:
        def call() -> tuple[int, bytes]:
            options: Any = _options_for(url, _SECONDS)
            response = self._session.request(method, url, json=body, **options)
            return response.status_code, text_of(response)

        status, text = _response(f"{method} {url}", 2 * _SECONDS, call)
        content = _json_of(text)
        is_done = 200 <= status < 300
        if is_done and (content is not None or not text):
            return content
        where = f"{method} {url}"
        msg = f"{where}: Stairoids responded {status}"
        if is_done:
            msg = f"{where}: Stairoids responded {status} with no JSON: check --api-url"
        msg += _explanation_in(content, secrets=[self._api_key, *secrets])
        if 300 <= status < 400:
            msg += ": a redirect, which is not followed; check --api-url"
        if status == 404 and url == self._url:
            msg += ": check --api-url"
        if status in {401, 403}:
            msg += ": check the API key and its scope (read_write)"
        raise StairoidsError(msg)


def send_samples(url: str, *, secret: str, now: str) -> Iterator[tuple[str, int]]:
    """Send a sample of each event type, signed, and yield its type and the status."""
    url = checked_url(url, name="URL")
    for event, body in _samples(now):
        headers = {
            "Content-Type": "application/json",
            "X-Stairoids-Event": event,
            "X-Stairoids-Delivery": str(uuid.uuid4()),
            "X-Stairoids-Signature": sign(body, secret).decode(),
        }
        options: Any = _options_for(url, _TEST_SECONDS)
        session = session_of_whole_responses()
        post = partial(session.post, url, data=body, headers=headers, **options)
        place = urlsplit(url)._replace(query="").geturl()
        with session, _response(f"POST {place}", _TEST_SECONDS, post) as response:
            yield event, response.status_code


def _options_for(url: str, seconds: float) -> dict[str, Any]:
    """Return the options of a request that no redirect and no proxy leads elsewhere."""
    return {
        "timeout": seconds,
        "allow_redirects": False,
        "proxies": proxies_to(url),
        "stream": True,
    }


def _response(place: str, seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of a request, or raise `StairoidsError`."""
    try:
        return within(seconds, call)
    except TimeoutError:
        reason = "timeout"
    except requests.RequestException as error:
        reason = obstacle_of(error) or breach_of(error)
        reason += _HINTS.get(reason, "")
    raise StairoidsError(f"{place}: no response ({reason})")


def _samples(now: str) -> Iterator[tuple[str, bytes]]:
    """Yield type and body of a new event of each type.

    Where Stairoids documents only the envelope of an event, `data` holds the object
    that the event is about.
    """
    run = uuid.uuid4().hex[:12]
    account = {"id": "acc_test", "domain": "example.com", "name": "Example Ltd"}
    contact = {"id": "con_test", "email": "test@example.com", "name": "Test Contact"}
    signal = {
        "type": "test_signal",
        "source": "send-test",
        "properties": {"sample": True},
    }
    about = {"account": account, "contact": contact, "score": 50}
    data: dict[str, dict[str, Any]] = {
        "signal.created": {"id": "sig_test", **signal, **about},
        "signal.scored": {"id": "sig_test", **signal, **about},
        "account.score_changed": {"account": account, "score": 50},
        "contact.score_changed": {"contact": contact, "score": 50},
        "automation.triggered": {"id": "auto_test", "account": account},
    }
    action_triggered = {
        "event": "automation.action_triggered",
        "automation_id": "auto_test",
        "automation_name": "Sample of send-test",
        "triggered_at": now,
        "account": account,
        "contact": {
            "id": "con_test",
            "email": "test@example.com",
            "first_name": "Test",
            "last_name": "Contact",
        },
        "signal": {"id": f"sig_test_{run}", **signal, "created_at": now},
    }
    yield "automation.action_triggered", json.dumps(action_triggered).encode()
    for number, (event, content) in enumerate(data.items()):
        body = {
            "event": event,
            "id": f"evt_test_{run}_{number}",
            "created_at": now,
            "data": content | {"created_at": now},
        }
        yield event, json.dumps(body).encode()


def proxies_to(url: str) -> dict[str, str]:
    """Return the proxies of a request: none to this machine, else the environment's."""
    host = urlsplit(url).hostname or ""
    return {"no_proxy": host} if is_loopback(host) else {}


def checked_url(url: str, *, name: str, allow_http: bool | None = None) -> str:
    """Return a URL that is safe for a key or a body, without white space at its ends.

    `name` is its name in messages. `allow_http` is None if that is no option.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if "@" in parts.netloc:
        raise ConfigError(f"{name} must hold no credentials")
    if host and parts.scheme == "https":
        return url
    if host and parts.scheme == "http" and (allow_http or is_loopback(host)):
        return url
    msg = f"{name} must begin with https:// (http:// only to this machine"
    msg += ")" if allow_http is None else ", or with --allow-http)"
    raise ConfigError(msg)


def _json_of(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _explanation_in(content: object, *, secrets: Sequence[str]) -> str:
    """Return message, code, parameter and request id of a response, as text."""
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
    """Return a text of a server, shortened and safe for a terminal or a log."""
    for secret in secrets:
        text = text.replace(secret, "(hidden)")
    return "".join(c if c.isprintable() else " " for c in text)[:_SHOWN_CHARACTERS]


def _data_in(content: object) -> object:
    """Return the content of a response without its envelope, if it has one."""
    match content:
        case {"data": inner}:
            return inner
    return content
