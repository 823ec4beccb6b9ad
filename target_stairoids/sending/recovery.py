"""Continue with the claims of dead runs: their signals may have been accepted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import msgspec

from target_stairoids.api.client import Client
from target_stairoids.api.signal_lookup import ServerClock
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import Claim
from target_stairoids.sending.queue import QueuedSignal, Stage, lanes_of
from target_stairoids.settings import Settings


class Recovery:
    """Makes signals of the claims of dead runs.

    Args:
        longest_wait: Seconds that a claimed signal may have waited before it left.
        unclear: Takes these signals, which may have been accepted.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: Client,
        clock: ServerClock,
        longest_wait: float,
        unclear: dict[int, QueuedSignal],
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._clock = clock
        self._delay = settings.request_timeout_seconds + settings.verify_delay_seconds
        self._longest_wait = longest_wait
        self._unclear = unclear
        self._count = 0

    def take_over(self) -> Iterator[QueuedSignal]:
        """Take over the claims of all dead runs."""
        claims = self._ledger.take_over_claims()
        if claims and self._clock.at(0.0) is None:  # a request without the key
            self._clock.note(self._client.reach(), time.monotonic())
        yield from map(self.signal_of, claims)

    def signal_of(self, claim: Claim) -> QueuedSignal:
        """Return the signal of a claim that was taken over."""
        self._count += 1
        signal = recovered_signal(
            claim,
            -self._count,
            now=self._clock.at(time.monotonic()),
            lookup_delay=self._delay,
            longest_wait=self._longest_wait,
        )
        self._unclear[signal.number] = signal
        return signal


def recovered_signal(
    claim: Claim,
    number: int,
    *,
    now: datetime | None,
    lookup_delay: float,
    longest_wait: float,
) -> QueuedSignal:
    """Return the signal of a dead run's claim. It may or may not have been accepted.

    Args:
        number: A negative one.
        now: The time on the server's clock, which claims have; None if not known.
        lookup_delay: Seconds after which a request can no longer be accepted.
        longest_wait: Seconds that a claimed signal may have waited before it left.
    """
    signal = msgspec.json.decode(claim.signal)
    account, contact = signal.get("account", {}), signal.get("contact", {})
    wait = lookup_delay
    if now is not None and claim.attempted_at:
        age = now - datetime.fromisoformat(claim.attempted_at)
        # A clock that was set back must not make it wait for ever.
        wait -= max(0.0, age.total_seconds() - longest_wait)
    return QueuedSignal(
        number=number,
        claim=claim,
        source=signal["source"],
        send="always",
        lanes=lanes_of(claim.version.entity, account, contact),
        stage=Stage.LOOK_UP,
        not_before=time.monotonic() + max(0.0, wait),
        recovered=True,
        is_unclear=True,
        attempts=claim.attempts,
    )


def attempted_since(claim: Claim) -> datetime | None:
    """Return the server's time of a dead run's first request; None if not known."""
    return datetime.fromisoformat(claim.claimed_at) if claim.claimed_at else None
