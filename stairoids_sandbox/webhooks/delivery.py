"""A delivery: one event for one endpoint, with every attempt to bring it there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a delivery goes.

    Attributes:
        secret: Signs the body; None leaves it unsigned.
        headers: What the automation adds.
    """

    url: str
    secret: str | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to an endpoint.

    Attributes:
        delivery_id: The UUID sent as ``X-Stairoids-Delivery``.
        status: The answer's status; None if there was none.
        error: Why there was none.
        began: ``time.monotonic()`` when it began.
        ended: ``time.monotonic()`` when its outcome was known.
    """

    delivery_id: str
    status: int | None
    error: str | None
    began: float
    ended: float

    @property
    def acknowledged(self) -> bool:
        """Whether the endpoint answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True, kw_only=True)
class Delivery:
    """An event on its way to an endpoint.

    Attributes:
        id: Names the delivery here; nothing that is sent carries it.
        event: The event's name, for example ``signal.created``.
        body: The bytes of every attempt.
        signal_id: The signal it follows from.
        attempts: In order; a delivery has failed after five.
    """

    id: str
    event: str
    endpoint: Endpoint
    body: bytes
    signal_id: str
    attempts: tuple[Attempt, ...] = ()

    @property
    def status(self) -> str:
        """Say ``pending``, ``retrying``, ``success`` or ``failed``."""
        if not self.attempts:
            return "pending"
        if self.attempts[-1].acknowledged:
            return "success"
        return "failed" if len(self.attempts) >= MAX_ATTEMPTS else "retrying"
