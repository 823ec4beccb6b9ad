"""Recovery: continue with the claims that dead runs left behind."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from target_stairoids.dedup.rules import Policy
from target_stairoids.ledger.structs import Claim
from target_stairoids.sending.queue import QueuedSignal, Stage, lanes_of


@dataclass
class Recovery:
    """Makes queued signals of claims.

    Args:
        lookup_delay: Seconds between a request and its lookup.
        longest_wait: Seconds that a claimed signal may have waited before it left.
    """

    lookup_delay: float
    longest_wait: float
    _count: int = 0

    def signal_of(self, claim: Claim) -> QueuedSignal:
        """Return the signal of a claim. It may or may not have been accepted."""
        self._count += 1
        signal = msgspec.json.decode(claim.signal)
        account, contact = signal.get("account", {}), signal.get("contact", {})
        age = datetime.now(UTC) - datetime.fromisoformat(claim.attempted_at)
        wait = self.lookup_delay - (age.total_seconds() - self.longest_wait)
        return QueuedSignal(
            number=-self._count,
            claim=claim,
            source=signal["source"],
            policy=Policy("always", 0),
            lanes=lanes_of(claim.version.entity, account, contact),
            stage=Stage.LOOK_UP,
            # A clock that was set back must not make it wait for ever.
            not_before=time.monotonic() + min(max(0.0, wait), self.lookup_delay),
            recovered=True,
            attempts=claim.attempts,
        )
