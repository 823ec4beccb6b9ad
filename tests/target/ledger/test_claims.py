"""Claims: one run at a time sends a signal, and a dead run's claims are taken over."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from target_stairoids.dedup.duplicate_rules import people_in
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger.ledger import Ledger
from tests.support.ledger_builders import API, a_claim, a_version, claim, settle

if TYPE_CHECKING:
    from pathlib import Path

    from target_stairoids.dedup.duplicate_rules import Version
    from target_stairoids.ledger.structs import Claim
    from tests.support.ledger_builders import Opened


def claim_on(ledger: Ledger, version: Version) -> Claim | None:
    with ledger.transaction() as transaction:
        return transaction.claim_on(version)


def test_claim_is_exclusive(opened: Opened) -> None:
    one, other = opened(), opened()

    assert claim(one, a_version()) is None
    assert claim(other, a_version()) == one.run
    assert claim(one, a_version()) == one.run


def test_claim_holds_for_all_versions_of_its_entity(opened: Opened) -> None:
    one, other = opened(), opened()

    assert claim(one, a_version("v1")) is None
    assert claim(other, a_version("v2")) == one.run


def test_claims_of_other_entities_and_mappings_are_independent(ledger: Ledger) -> None:
    assert claim(ledger, a_version()) is None
    assert claim(ledger, a_version(entity="another")) is None
    assert claim(ledger, a_version(mapping="another")) is None


@pytest.mark.parametrize("is_split_first", [True, False])
def test_claim_on_a_key_is_one_on_its_person_too(
    opened: Opened,
    is_split_first: bool,  # noqa: FBT001 - a case of the test
) -> None:
    ann = a_version(email=b"ann", domain=b"acme")
    of_person = replace(ann, key=people_in(ann, ann.record_key)[0])
    first, second = (of_person, ann) if is_split_first else (ann, of_person)
    bob = replace(second, email=b"bob", key=(b"bob", "trial"))
    one, other = opened(), opened()

    assert claim(one, first) is None
    assert claim(other, second) == one.run
    assert claim(other, bob) is None


def test_claims_of_one_call_share_their_time(ledger: Ledger) -> None:
    versions = [a_version(entity=name) for name in "ab"]

    with ledger.transaction() as transaction:
        ours = transaction.claim(
            [a_claim(v) for v in versions], b"key", "2024-06-15T14Z"
        )

    found = [claim_on(ledger, version) for version in versions]
    assert [claim and claim.claimed_at for claim in found] == ["2024-06-15T14Z"] * 2
    assert ours.keys() == {version.key for version in versions}


def test_claim_holds_everything_that_a_crash_needs(opened: Opened) -> None:
    one, other = opened(), opened()
    claim(one, a_version())
    with one.transaction() as transaction:
        again = a_claim(a_version(), attempts=2, attempted_at="2999Z")
        assert transaction.claim_again(again)

    found = claim_on(other, a_version())

    assert found is not None
    assert found.version == a_version()
    assert found.run == one.run
    assert found.attempts == 2
    assert found.request == b'{"type":"trial"}'
    assert found.record == b'{"id":1}'
    assert found.claimed_at.endswith("Z")
    assert found.attempted_at == "2999Z"


def test_claims_of_a_living_run_are_left_alone(opened: Opened) -> None:
    one, other = opened(), opened()
    claim(one, a_version())

    assert other.lives(one.run)
    assert other.take_over_claims() == []
    assert claim(other, a_version()) == one.run


def test_claims_of_a_dead_run_are_taken_over_once(opened: Opened) -> None:
    dead = opened()
    claim(dead, a_version())
    dead.close()
    first, second = opened(), opened()

    taken = first.take_over_claims()

    assert [claim.version for claim in taken] == [a_version()]
    assert second.take_over_claims() == []
    assert first.take_over_claims() == []
    with second.transaction() as transaction:
        assert not transaction.take_over(taken[0])


@pytest.mark.slow
def test_killed_process_is_dead_at_once_and_a_paused_one_lives(
    ledger: Ledger, url: str
) -> None:
    code = (
        "import sys\n"
        "from target_stairoids.ledger.ledger import Ledger\n"
        f"ledger = Ledger.create({url!r}, {API!r})\n"
        "print(ledger.begin_run(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        run = int(process.stdout.readline())

        process.send_signal(signal.SIGSTOP)
        lived = ledger.lives(run)
        process.kill()
        process.wait()

        assert lived
        assert not ledger.lives(run)


def test_withdrawn_claim_is_free_again(opened: Opened) -> None:
    one, other = opened(), opened()
    claim(one, a_version())

    with one.transaction() as transaction:
        transaction.withdraw(a_version())

    assert claim(other, a_version()) is None


def test_claim_of_another_run_cannot_be_withdrawn_settled_or_counted_up(
    opened: Opened,
) -> None:
    one, other = opened(), opened()
    claim(one, a_version())

    settle(other, a_version(), outcome=Outcome.UNCHANGED)
    with other.transaction() as transaction:
        transaction.withdraw(a_version())
        assert not transaction.claim_again(a_claim(a_version()))

    assert claim(other, a_version()) == one.run


@pytest.mark.parametrize(
    "outcome", [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNKNOWN]
)
def test_claim_ends_with_its_outcome(ledger: Ledger, outcome: Outcome) -> None:
    claim(ledger, a_version())

    settle(ledger, a_version(), outcome=outcome)

    assert claim_on(ledger, a_version()) is None


def test_settled_signal_leaves_no_text_in_the_file(
    ledger: Ledger, tmp_path: Path
) -> None:
    claim(ledger, a_version(), request=b"CANARY", record=b"CANARY")
    settle(ledger, a_version())

    ledger.close()

    assert b"CANARY" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_lease_is_found_through_any_path_to_the_ledger(tmp_path: Path) -> None:
    """Leases lie beside the file, so a link to it must lead to the same ones."""
    (tmp_path / "link.db").symlink_to(tmp_path / "ledger.db")
    with (
        Ledger.create(f"sqlite:///{tmp_path}/ledger.db", API) as one,
        Ledger.create(f"sqlite:///{tmp_path}/link.db", API) as other,
    ):
        assert other.lives(one.begin_run())


def test_closed_ledger_leaves_no_lease_behind(ledger: Ledger, tmp_path: Path) -> None:
    ledger.end_run(0, {})

    ledger.close()

    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
