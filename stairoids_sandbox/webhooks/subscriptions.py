"""Keep event subscriptions, and check the URLs of endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stairoids_common.config import is_loopback
from stairoids_common.time import current_second, rfc3339
from stairoids_sandbox.exceptions import invalid
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.state.keys import DEFAULT_WORKSPACE
from stairoids_sandbox.webhooks.delivery import Endpoint

if TYPE_CHECKING:
    from collections.abc import Collection
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
    """An endpoint and its events."""

    id: str
    endpoint: Endpoint
    events: tuple[str, ...]
    created_at: datetime
    workspace: str

    @property
    def name(self) -> str:
        """Its events."""
        return ", ".join(self.events)

    def body(self) -> dict[str, Any]:
        """Return it as documented, without the secret."""
        return {
            "id": self.id,
            "url": self.endpoint.url,
            "events": list(self.events),
            "enabled": True,
            "created_at": rfc3339(self.created_at),
        }


class Subscriptions:
    """The subscriptions of all workspaces. They can be added from any thread."""

    def __init__(self) -> None:
        self._by_id: dict[str, Subscription] = {}

    def add(
        self,
        *,
        url: str,
        events: Collection[str],
        secret: str | None = None,
        workspace: str = DEFAULT_WORKSPACE,
    ) -> Subscription:
        """Subscribe an endpoint to events.

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
            created_at=current_second(),
            workspace=workspace,
        )
        self._by_id[subscription.id] = subscription
        return subscription

    def remove(self, subscription_id: str, *, workspace: str) -> bool:
        """Remove a workspace's subscription. Return False if there is none."""
        found = subscription_id in {s.id for s in self.of(workspace)}
        return found and self._by_id.pop(subscription_id, None) is not None

    def of(self, workspace: str) -> list[Subscription]:
        """Return the subscriptions of a workspace in order of creation."""
        return [s for s in self.all() if s.workspace == workspace]

    def all(self) -> list[Subscription]:
        """Return the subscriptions in order of creation."""
        return list(self._by_id.values())


def checked_url(url: str) -> str:
    """Return the URL of an endpoint.

    Raises:
        ApiError: 400; the URL is neither https nor http on a loopback address.
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
