"""Builders of versions, claims and dead letters for tests of ledger and sending."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stairoids_common.time import timestamp
from target_stairoids.dedup.duplicate_rules import Version
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import dead_letters
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.outcomes import write_outcomes
from target_stairoids.ledger.structs import Claim, DeadLetter, SettledVersion

#: Opens one more ledger, as another process does. See the fixture `opened`.
Opened = Callable[..., Ledger]

API = "https://api.stairoids.com"
API_KEY = "sk_test_sandbox"  # that of a `TargetUnderTest`
SIGNAL = b'{"type":"trial","source":"crm"}'
MONDAY = "t2024-01-01T00:00:00.000000+00:00"
TUESDAY = "t2024-01-02T00:00:00.000000+00:00"
WEDNESDAY = "t2024-01-03T00:00:00.000000+00:00"


def digest(text: str) -> bytes:
    """Return a readable digest of 16 bytes."""
    return text.encode().ljust(16, b".")


def a_version(
    state: str = "v1",
    entity: str = "e",
    *,
    mapping: str = "trial",
    stream: int = 1,
    **more: Any,
) -> Version:
    """Return a version whose content is that of all others."""
    fields: dict[str, Any] = {
        "mapping_digest": digest("mapping"),
        "content_digest": digest("content"),
    }
    key = digest(entity), mapping
    return Version(
        key=key,
        record_key=key,
        stream=stream,
        state_digest=digest(state),
        **fields | more,
    )


def a_claim(version: Version, **more: Any) -> Claim:
    """Return the claim of a version."""
    fields: dict[str, Any] = {
        "stream_name": "trials",
        "request": b'{"type":"trial"}',
        "record": b'{"id":1}',
    }
    return Claim(version=version, **fields | more)


def a_dead_letter(version: Version, **more: Any) -> DeadLetter:
    """Return the dead letter of a version."""
    fields: dict[str, Any] = {
        "stream_name": "trials",
        "outcome": Outcome.REJECTED,
        "reason": "422 validation_error",
        "record": b'{"id":1}',
        "request": b'{"type":"trial"}',
    }
    return DeadLetter(version=version, **fields | more)


def claim(ledger: Ledger, version: Version, **more: Any) -> int | None:
    """Claim a version; return the run that holds the claim if it is not ours."""
    with ledger.transaction() as transaction:
        claims = [a_claim(version, **more)]
        key = ledger.key_digest(API_KEY)
        if transaction.claim(claims, key, timestamp()):
            return None
        holder = transaction.claim_on(version)
    return holder.run if holder else None


def settle(
    ledger: Ledger,
    *versions: Version,
    outcome: Outcome = Outcome.ACCEPTED,
    **more: Any,
) -> None:
    """Write one outcome of versions in one transaction."""
    settled = [SettledVersion(version=v, outcome=outcome, **more) for v in versions]
    with ledger.transaction() as transaction:
        write_outcomes(transaction, settled)


def add_dead_letters(ledger: Ledger, *added: DeadLetter) -> None:
    """Add dead letters in one transaction."""
    with ledger.transaction() as transaction:
        for dead_letter in added:
            dead_letters.add(transaction, dead_letter)


def accepted(number: int) -> SettledVersion:
    """Return the outcome of an accepted signal."""
    return SettledVersion(
        version=a_version(entity=f"e{number}"),
        outcome=Outcome.ACCEPTED,
        ids=(f"sig_{number}", "acc_1", "con_1"),
        request=SIGNAL,
        key_values=f"[{number}]",
    )


def accept(ledger: Ledger, number: int) -> None:
    """Write an accepted signal."""
    with ledger.transaction() as transaction:
        write_outcomes(transaction, [accepted(number)])


def opened(url: str) -> Ledger:
    """Return a ledger with a run and a stream."""
    ledger = Ledger.create(url, f"{API} eu")
    ledger.begin_run()
    ledger.open_stream("trials", {"schema": {}})
    return ledger
