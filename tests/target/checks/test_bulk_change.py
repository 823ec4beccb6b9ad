"""The bulk-change and identity-change checks stop before much is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault
from target_stairoids.checks import bulk_change
from target_stairoids.checks.bulk_change import BulkChangeCheck
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Run


@pytest.mark.parametrize(
    ("changes", "known", "stops"),
    [
        (1_000, 1_000, False),
        (1_001, 1_000, True),
        (1_001, 5_004, True),
        (1_001, 5_005, False),
        (5_000, 0, False),
    ],
)
def test_bulk_change_is_over_1000_and_over_a_fifth_of_the_known_entities(
    changes: int, known: int, *, stops: bool
) -> None:
    check = BulkChangeCheck()

    reasons = [check.changed("trials", known=known) for _ in range(changes)]

    assert (reasons[-1] is not None) is stops
    assert not any(reasons[:-1])


@pytest.fixture
def small_bulk_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let over 100 changed entities be a bulk change, instead of over 1,000."""
    monkeypatch.setattr(bulk_change, "_MOST", 100)


@pytest.mark.usefixtures("small_bulk_changes")
def test_bulk_change_of_a_known_stream_stops_before_it_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string")
    before = [a_record(n, plan="a") for n in range(1, 152)]
    after = [a_record(n, plan="b") for n in range(1, 152)]
    target.run(schema, *before, first_run="baseline")

    stopped = target.run(schema, *after, a_state(), requests_per_minute=1)

    assert stopped.exit_code == 75
    assert "`allow_surge`" in stopped.error
    assert stopped.states == []
    assert len(sandbox.signals) <= 1


def test_identity_change_by_a_new_mapping_name_is_refused(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    def run(*, allow_surge: bool = False, **item: str) -> Run:
        signals = [{"stream": "trials", "send": "once", **item}]
        return target.run(
            a_schema(), a_record(1), signals=signals, allow_surge=allow_surge
        )

    run(type="product_trial_started")
    typo = run(type="product_trail_started")
    renamed = run(type="trial_began", name="product_trial_started")
    intended = run(type="trial_began", allow_surge=True)
    after = run(type="trial_began")

    assert typo.exit_code == 1
    assert "was sent as `product_trial_started`, which is in no map" in typo.error
    assert "`product_trail_started` is new and would send" in typo.error
    assert "add `name: product_trial_started`" in typo.error
    assert renamed.outcomes == {"duplicate": 1}
    assert intended.outcomes == {"accepted": 1}
    assert after.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 2


def test_mapping_may_be_renamed_if_all_its_signals_were_rejected(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="status", status=422, count=1)])
    target.run(a_schema(), a_record(1), signals=[{"stream": "trials", "type": "no"}])

    run = target.run(
        a_schema(), a_record(1), signals=[{"stream": "trials", "type": "yes"}]
    )

    assert run.outcomes == {"accepted": 1}


def test_second_mapping_of_a_stream_is_not_a_rename(target: TargetUnderTest) -> None:
    one, two = ({"stream": "trials", "type": name} for name in ("one", "two"))
    target.run(a_schema(), a_record(1), signals=[one])

    run = target.run(a_schema(), a_record(1), signals=[one, two])

    assert run.outcomes == {"duplicate": 1, "accepted": 1}


@pytest.mark.usefixtures("small_bulk_changes")
def test_bulk_change_counts_touched_rows_as_known(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """110 of 1,200 rows have changed. The others have only a new bookmark."""
    schema = a_schema(plan="string", at="integer", bookmark="at")
    before = [a_record(n, plan="a", at=1) for n in range(1_200)]
    touched = [a_record(n, plan="a", at=2) for n in range(1_090)]
    changed = [a_record(n, plan="b", at=2) for n in range(1_090, 1_200)]
    target.run(schema, *before, first_run="baseline")

    run = target.run(schema, *touched, *changed, max_in_flight=16)

    assert run.exit_code == 0
    assert run.outcomes == {"accepted": 110, "unchanged": 1_090}
    assert len(sandbox.signals) == 110


@pytest.mark.usefixtures("small_bulk_changes")
def test_new_stream_is_not_a_bulk_change(target: TargetUnderTest) -> None:
    records = [a_record(n) for n in range(1, 103)]

    run = target.run(a_schema(), *records, dry_run=True)

    assert run.outcomes == {"would_send": 102}


def test_complete_run_of_another_stream_does_not_resend_a_replay(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    trials = [
        a_schema(plan="string"),
        a_record(1, plan="a"),
        a_record(1, plan="b"),
        *(a_record(n, plan="a") for n in (2, 3)),
    ]

    first = target.run(*trials, max_signals_per_run=3)
    target.run(a_schema("leads"), a_record(9, stream="leads"))
    replay = target.run(*trials)

    assert first.exit_code == 75
    assert replay.outcomes == {"duplicate": 3, "accepted": 1}
    assert len(sandbox.signals) == 5


def test_stream_without_a_mapping_is_not_sent_if_a_mapping_matches_no_stream(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "people", "type": "signed_up"}]
    logs = {"type": "SCHEMA", "stream": "logs", "schema": {"properties": {"a": {}}}}
    messages = [logs | {"key_properties": []}, a_schema("contacts")]
    messages.append(a_record(1, "contacts"))

    stopped = target.run(*messages, signals=signals)
    intended = target.run(*messages, signals=[*signals, {"stream": "*"}])

    assert stopped.exit_code == 1
    assert "Stream `contacts` has no mapping in `signals`" in stopped.error
    assert intended.outcomes == {"accepted": 1}
    assert [s.body["type"] for s in sandbox.signals] == ["contacts"]
