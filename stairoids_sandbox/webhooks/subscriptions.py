"""Event subscriptions: which endpoint wants which events."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stairoids_sandbox.exceptions import invalid
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.timestamps import now, rfc3339
from stairoids_sandbox.webhooks.delivery import Endpoint

if TYPE_CHECKING:
    from datetime import datetime

EVENTS = (
    "signal.created",
    "signal.scored",
    "account.score_changed",
    "contact.score_changed",
    "automation.triggered",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """An endpoint and the events it asked for."""

    id: str
    endpoint: Endpoint
    events: tuple[str, ...]
    created_at: datetime

    def body(self) -> dict[str, Any]:
        """Show it as documented: the secret is never echoed."""
        return {
            "id": self.id,
            "url": self.endpoint.url,
            "events": list(self.events),
            "enabled": True,
            "created_at": rfc3339(self.created_at),
        }


class Subscriptions:
    """The workspace's subscriptions. Add to them from any thread."""

    def __init__(self) -> None:
        self._by_id: dict[str, Subscription] = {}

    def add(
        self, *, url: str, events: tuple[str, ...], secret: str | None = None
    ) -> Subscription:
        """Subscribe an endpoint.

        Raises:
            ApiError: 400; the URL or an event does not fit.
        """
        if not events or not set(events) <= set(EVENTS):
            msg = f"events must name some of {', '.join(EVENTS)}."
            raise invalid(msg, param="events")
        subscription = Subscription(
            id=new_id("wh"),
            endpoint=Endpoint(url=checked_url(url), secret=secret),
            events=tuple(dict.fromkeys(events)),
            created_at=now(),
        )
        self._by_id[subscription.id] = subscription
        return subscription

    def add_from(self, body: object) -> Subscription:
        """Subscribe as the body of ``POST /v1/webhooks`` asks.

        Raises:
            ApiError: 400; the message names the field.
        """
        match body:
            case {"url": str(url), "events": [*events], **rest}:
                secret = rest.pop("secret", None)
            case _:
                msg = "A webhook needs a url and a list of events."
                raise invalid(msg)
        if rest:
            msg = "A webhook has url, events and secret only."
            raise invalid(msg)
        if secret is not None and not (isinstance(secret, str) and secret):
            msg = "secret must be a non-empty string."
            raise invalid(msg, param="secret")
        return self.add(url=url, events=tuple(map(str, events)), secret=secret)

    def remove(self, subscription_id: str) -> bool:
        """End a subscription; False if there is none of this id."""
        return self._by_id.pop(subscription_id, None) is not None

    def all(self) -> list[Subscription]:
        """List the subscriptions, in the order they were made."""
        return list(self._by_id.values())


def checked_url(url: str) -> str:
    """Return an endpoint's URL if Stairoids would call it.

    Raises:
        ApiError: 400; only https is called, and http on this machine.
    """
    msg = "url must begin with https:// (http:// only for a loopback address)."
    if not url.isascii() or not url.isprintable() or " " in url:
        raise invalid(msg, param="url")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise invalid(msg, param="url") from None
    if not parts.hostname or parts.scheme not in {"http", "https"}:
        raise invalid(msg, param="url")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise invalid(msg, param="url")
    return url


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
