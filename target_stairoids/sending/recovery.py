"""Continue with the claims of dead runs: their signals may have been accepted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec

from stairoids_common.time import parse_time, timestamp
from target_stairoids.api.signal_lookup import ServerClock
from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.duplicate_rules import (
    RecordAction,
    Version,
    differ,
    is_older,
)
from target_stairoids.dedup.order import is_before
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.dedup.record import json_value
from target_stairoids.exceptions import ConfigError, InvalidSignalError, MessageError
from target_stairoids.ledger import lookup, queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import OWN_CLOCK, WRONG_BY, Claim, Known
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.ledger.write_buffer import WriteBuffer
from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import schema_from
from target_stairoids.mapping.signal import names_in
from target_stairoids.sending.checkpoint import Checkpoint
from target_stairoids.sending.identity import Decided, Identity
from target_stairoids.sending.queue import (
    Lookup,
    QueuedSignal,
    SendQueue,
    Stage,
    lanes_of,
)
from target_stairoids.sending.record_decision import MappedRecord
from target_stairoids.settings import Settings


@dataclass(eq=False)
class Recovery:
    """Makes signals of the claims of dead runs, and adds them to `unclear`.

    Attributes:
        longest_wait: Seconds that a claimed signal may have waited before it left.
    """

    settings: Settings
    ledger: Ledger
    clock: ServerClock
    longest_wait: float
    unclear: dict[int, QueuedSignal]
    suppression: Suppression
    _count: int = 0

    def signal_of(self, claim: Claim) -> QueuedSignal:
        """Return the signal of a claim that was taken over."""
        self._count += 1
        delay = self.settings.verify_delay_seconds
        signal = recovered_signal(
            claim,
            -self._count,
            now=self.clock.at(time.monotonic()),
            lookup_delay=self.settings.request_timeout_seconds + delay,
            longest_wait=self.longest_wait,
        )
        its = signal.lookup
        its.expires = its.not_before - delay
        known = self._newest.get(signal.source)
        if known and known.until > self._end_of(claim):
            its.control, its.control_at = known.signal_id, its.expires
        its.is_possible = not (hold := self._why_held(claim))
        signal.why_not_again = hold or self._why_not_again(claim)
        self.unclear[signal.number] = signal
        return signal

    @cached_property
    def _newest(self) -> dict[str, Known]:
        """Source -> the newest signal that the ledger accounts for."""
        with self.ledger.reading() as connection:
            known = lookup.facts(connection, self.settings.scope, ()).known
        by_time = sorted(known.items(), key=lambda item: item[1].until)
        return {source: newest for (source, _), newest in by_time}

    def _end_of(self, claim: Claim) -> str:
        """Return the server's time until which a claim's request may be accepted."""
        at = claim.attempted_at
        seconds = self.longest_wait + self.settings.request_timeout_seconds
        wrong_by = WRONG_BY if at.startswith(OWN_CLOCK) else timedelta()
        until = parse_time(at.lstrip(OWN_CLOCK)) + wrong_by
        return timestamp(until + timedelta(seconds=seconds))

    def adopt(
        self, transaction: Transaction, version: Version, *, any_state: bool
    ) -> Claim | None:
        """Make a dead run's claim on an entity ours; None if there is none.

        Args:
            any_state: Whether the claim may be of another state than the version's.
        """
        claim = transaction.claim_on(version)
        if claim is None or self.ledger.lives(claim.run):
            return None
        is_its = any_state or claim.version.state_digest == version.state_digest
        return claim if is_its and transaction.take_over(claim) else None

    def _why_held(self, claim: Claim) -> str:
        """Return why a lookup would prove nothing; empty if it may."""
        key = self.ledger.key_digest(self.settings.api_key)
        keys = {key, claim.api_key or key}
        if len(keys) > 1 and not all(queries.knows_key(self.ledger, k) for k in keys):
            return "no response, and it was sent with the API key of another workspace"
        is_held = self.settings.on_unknown == "hold"
        return "no response, and `on_unknown` is `hold`" if is_held else ""

    def _why_not_again(self, claim: Claim) -> str:
        """Return why a signal must not be sent again; empty if it may."""
        if self.suppression.hidden({claim.request: names_in(claim.request)}):
            return "no response, and its person or company is suppressed now"
        message = queries.schema_of(self.ledger, claim.version.stream)
        if _is_made_again(claim, message, self.settings):
            return ""
        return "no response, and the mapping does not make this signal any more"


@dataclass(eq=False)
class OutdatedClaims:
    """Marks the open claims of dead runs whose rows have other states since.

    No STATE passes such a state before its claim has an outcome. Otherwise the next run
    would not read it.
    """

    buffer: WriteBuffer
    queue: SendQueue
    checkpoint: Checkpoint

    def __post_init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of the claim -> in the checkpoint

    def note(self, identity: Identity, record: MappedRecord) -> None:
        """Note a record before the decision on it, while a claim is open."""
        if record.dead_letter is not None:
            return
        version, _ = identity.placed(record)
        if (signal := self._signal_of(version)) is None:
            return
        claimed = signal.claim.version
        if is_before(version.bookmark_value, claimed.bookmark_value):
            return
        if differ(version, claimed):
            # With `once`, a changed address is no reason for another signal.
            is_once = record.mapping.send == "once"
            is_outdated = not is_once and not identity.has_read(version.record_key)
        else:
            is_outdated = record.draft.outcome in {Outcome.FILTERED, Outcome.INVALID}
        if is_outdated:
            signal.is_outdated = True
            if signal.number not in self._numbers:
                self._numbers[signal.number] = self.checkpoint.open()

    def repeated(self, decided: Decided) -> int:
        """Note a record that is not sent, because the last signal stands for it.

        Returns the number of its entity's open claim; 0 if there is none.
        """
        version, latest = decided.version, decided.latest
        signal = self._signal_of(version)
        is_superseded = decided.step.action is RecordAction.SUPERSEDED
        if signal and latest and not is_superseded and not is_older(version, latest):
            content = signal.claim.version.content_digest
            is_once = decided.record.mapping.send == "once"
            signal.is_outdated &= not is_once and version.content_digest != content
        return self.buffer.open_claim(version.key)

    def end(self, number: int, outcome: Outcome) -> None:
        """Let STATE pass if a claim has its outcome."""
        if EFFECTS[outcome].lets_state_pass:
            self.checkpoint.close(self._numbers.pop(number, 0))

    def _signal_of(self, version: Version) -> QueuedSignal | None:
        """Return the signal of an entity's open claim. A dry run has none."""
        number = self.buffer.open_claim(version.key)
        return self.queue.unfinished.get(number) if number else None


def _is_made_again(claim: Claim, message: dict[str, Any], settings: Settings) -> bool:
    """Return whether the mapping of today makes the signal of a claim."""
    schema = schema_from(message)
    source = settings.source or schema.source or settings.default_source
    try:
        for mapping in mappings_for(schema, settings.signals, source):
            if mapping.name != claim.version.mapping or mapping.is_left_out:
                continue
            if mapping.mapping_digest == claim.version.mapping_digest:
                return True
            record = json_value(claim.record or b"{}")
            made = mapping.signal_from(record).checked_text()
            return not mapping.why_filtered(record) and made == claim.request
    except (ConfigError, InvalidSignalError, MessageError):
        pass
    return False


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
        now: The time on the server's clock; None if not known.
        lookup_delay: Seconds after which a request can no longer be accepted.
        longest_wait: Seconds that a claimed signal may have waited before it left.
    """
    signal = msgspec.json.decode(claim.request)
    account, contact = signal.get("account", {}), signal.get("contact", {})
    wait = lookup_delay
    if now is not None and not claim.attempted_at.startswith(OWN_CLOCK):
        age = now - datetime.fromisoformat(claim.attempted_at)
        # A clock that was set back must not make it wait for ever.
        wait -= max(0.0, age.total_seconds() - longest_wait)
    return QueuedSignal(
        number=number,
        claim=claim,
        source=signal["source"],
        send="always",
        lanes=lanes_of(claim.version, account, contact),
        stage=Stage.LOOK_UP,
        # In whole seconds, so that one lookup serves many.
        lookup=Lookup(not_before=math.ceil(time.monotonic() + max(0.0, wait))),
        recovered=True,
        is_unclear=True,
        attempts=claim.attempts,
    )


def attempted_since(claim: Claim, now: datetime | None) -> datetime | None:
    """Return the server's time of a dead run's first request; None if not known.

    Args:
        now: The server's time now. If the dead run did not know it, the request counts
            as a day older. Our own clock may be wrong by hours.
    """
    claimed_at = datetime.fromisoformat(claim.claimed_at.lstrip(OWN_CLOCK))
    if not claim.claimed_at.startswith(OWN_CLOCK):
        return claimed_at
    age = max(timedelta(), datetime.now(UTC) - claimed_at)
    return None if now is None else now - age - WRONG_BY
