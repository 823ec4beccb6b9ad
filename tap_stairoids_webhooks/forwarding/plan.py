"""The events that a forwarder delivers, and how."""

from __future__ import annotations

from dataclasses import dataclass

from tap_stairoids_webhooks.forwarding.decision import MAX_ATTEMPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The events that a forwarder delivers.

    Attributes:
        types: Only events of these types; None for all.
        since: Begin with events received at this time; None to go on.
        sequences: Only these events, again; None for all new events.
        once: Whether to end when the events of the start are delivered.
    """

    store_url: str
    name: str
    workers: int = 8
    attempts: int = MAX_ATTEMPTS
    types: frozenset[str] | None = None
    since: str | None = None
    sequences: tuple[int, int] | None = None
    once: bool = False
