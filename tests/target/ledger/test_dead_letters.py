"""Dead letters: one for each version and mapping, until the version is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import dead_letters
from target_stairoids.ledger.dead_letters import dead_letters_of
from target_stairoids.ledger.queries import counts
from tests.support.ledger_builders import (
    a_dead_letter,
    a_version,
    add_dead_letters,
    digest,
    settle,
)

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger


def test_second_dead_letter_of_a_version_counts_up_and_keeps_the_first_time(
    ledger: Ledger,
) -> None:
    add_dead_letters(ledger, a_dead_letter(a_version(), attempts=8, request_id="req_1"))
    (first,) = dead_letters_of(ledger)
    again = a_dead_letter(
        a_version(),
        outcome=Outcome.UNKNOWN,
        reason="no response in time",
        attempts=2,
        record=b'{"id":2}',
    )

    add_dead_letters(ledger, again)

    (second,) = dead_letters_of(ledger)
    assert (second.id, second.first_at) == (first.id, first.first_at)
    assert second.attempts == 10
    assert second.last_at >= first.last_at
    assert second.outcome == "unknown"
    assert second.reason == "no response in time"
    assert second.request_id is None
    assert second.record == b'{"id":2}'


def test_each_version_and_mapping_has_its_own_dead_letter(ledger: Ledger) -> None:
    versions = [a_version(), a_version(mapping="another"), a_version("v2")]

    add_dead_letters(ledger, *map(a_dead_letter, versions))

    assert len(dead_letters_of(ledger)) == 3
    assert len(dead_letters_of(ledger, limit=2)) == 2
    assert len(dead_letters_of(ledger, stream="trials")) == 3
    assert dead_letters_of(ledger, stream="another") == []


def test_accepted_version_has_no_dead_letter_any_more(ledger: Ledger) -> None:
    add_dead_letters(ledger, *map(a_dead_letter, [a_version("v1"), a_version("v2")]))
    (first, _) = dead_letters_of(ledger)

    settle(ledger, a_version("v1"))

    assert [found.state_digest for found in dead_letters_of(ledger)] == [digest("v2")]
    with ledger.transaction() as transaction:
        assert not dead_letters.exists(transaction, first.id)


def test_rejected_version_keeps_its_dead_letter(ledger: Ledger) -> None:
    add_dead_letters(ledger, a_dead_letter(a_version()))

    settle(ledger, a_version(), outcome=Outcome.REJECTED)

    (found,) = dead_letters_of(ledger)
    with ledger.transaction() as transaction:
        assert dead_letters.exists(transaction, found.id)


def test_counts_are_by_stream_and_outcome(ledger: Ledger) -> None:
    settle(ledger, a_version("v1"))
    settle(ledger, a_version("v2"), a_version("v3"), outcome=Outcome.REJECTED)
    add_dead_letters(ledger, a_dead_letter(a_version("v4"), outcome=Outcome.INVALID))

    assert counts(ledger) == {"trials": {"accepted": 1, "rejected": 2, "invalid": 1}}
