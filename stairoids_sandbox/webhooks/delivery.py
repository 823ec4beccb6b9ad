"""A delivery: one event for one endpoint, with all its attempts."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.webhooks.automations import Automation
    from stairoids_sandbox.webhooks.subscriptions import Subscription

    Owner: TypeAlias = "Automation | Subscription"

MAX_ATTEMPTS = 5
_STATES = {
    "pending": "waiting",
    "retrying": "waiting",
    "success": "delivered",
    "failed": "failed",
}
KEPT_BYTES = 4_096  # of each response


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The receiver of deliveries.

    Attributes:
        secret: Signs the body; None sends it unsigned.
        headers: Additional headers of an automation.
    """

    url: str
    secret: str | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to an endpoint.

    Attributes:
        delivery_id: The UUID sent as ``X-Stairoids-Delivery``.
        status: The status of the response; None without a response.
        error: The reason for no response.
        content_type: The ``Content-Type`` of the response.
        response: The first 4,096 bytes of the response's body.
        began: ``time.monotonic()`` at the start.
        ended: ``time.monotonic()`` at the end.
    """

    delivery_id: str
    status: int | None
    error: str | None
    began: float
    ended: float
    content_type: str = ""
    response: bytes = b""

    @property
    def acknowledged(self) -> bool:
        """Whether the response was 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True, kw_only=True)
class Delivery:
    """An event for an endpoint.

    Attributes:
        id: Its id in the sandbox, which is never sent.
        event: The event's name, for example ``signal.created``.
        owner: The automation or subscription that it is for, as it was then.
        body: The bytes of every attempt.
        signal: The signal that caused it, or a sample.
        created: ``time.monotonic()`` at its creation.
        sequence: Its place in the order of creation, from 1.
        attempts: In order. After five failed attempts the delivery has failed.
        next_at: ``time.monotonic()`` of the next attempt; None if none is planned.
        again_of: The delivery that it repeats.
        again_as: The newest delivery that repeats it.
    """

    id: str
    event: str
    endpoint: Endpoint
    owner: Owner
    body: bytes
    signal: Signal
    created: float
    sequence: int
    attempts: tuple[Attempt, ...] = ()
    next_at: float | None = None
    again_of: str | None = None
    again_as: str | None = None

    @property
    def status(self) -> str:
        """``pending``, ``retrying``, ``success`` or ``failed``."""
        if not self.attempts:
            return "pending"
        if self.attempts[-1].acknowledged:
            return "success"
        return "failed" if len(self.attempts) >= MAX_ATTEMPTS else "retrying"

    @property
    def state(self) -> str:
        """``waiting``, ``delivered``, ``failed``, or ``sent again`` after a failure."""
        if self.status == "failed" and self.again_as is not None:
            return "sent again"
        return _STATES[self.status]

    @property
    def signature(self) -> str | None:
        """The ``X-Stairoids-Signature``: HMAC-SHA256 over the body."""
        secret = self.endpoint.secret
        if secret is None:
            return None
        digest = hmac.new(secret.encode(), self.body, hashlib.sha256)
        return f"sha256={digest.hexdigest()}"
