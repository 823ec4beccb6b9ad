"""A delivery: one event for one endpoint, with all its attempts."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ATTEMPTS = 5


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
        began: ``time.monotonic()`` at the start.
        ended: ``time.monotonic()`` at the end.
    """

    delivery_id: str
    status: int | None
    error: str | None
    began: float
    ended: float

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
        body: The bytes of every attempt.
        signal_id: The signal that caused it.
        attempts: In order. After five failed attempts the delivery has failed.
    """

    id: str
    event: str
    endpoint: Endpoint
    body: bytes
    signal_id: str
    attempts: tuple[Attempt, ...] = ()

    @property
    def status(self) -> str:
        """``pending``, ``retrying``, ``success`` or ``failed``."""
        if not self.attempts:
            return "pending"
        if self.attempts[-1].acknowledged:
            return "success"
        return "failed" if len(self.attempts) >= MAX_ATTEMPTS else "retrying"

    @property
    def signature(self) -> str | None:
        """The ``X-Stairoids-Signature``: HMAC-SHA256 over the body."""
        secret = self.endpoint.secret
        if secret is None:
            return None
        digest = hmac.new(secret.encode(), self.body, hashlib.sha256)
        return f"sha256={digest.hexdigest()}"
