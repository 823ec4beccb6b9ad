"""The circuit breaker stops the run if Stairoids rejects a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_sandbox import Fault
from target_stairoids.checks.circuit_breaker import CircuitBreaker
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox


def test_wrong_mapping_trips_the_circuit_breaker_and_loses_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    messages = [a_schema(), *(a_record(n) for n in range(1, 101)), a_state()]

    tripped = target.run(*messages)
    refused = len(sandbox.requests)
    sandbox.faults.set([])
    fixed = target.run(*messages)

    assert tripped.exit_code == 1
    assert "its mapping must be wrong" in tripped.error
    assert tripped.outcomes == {"pending": 100}
    assert tripped.states == []
    assert 25 <= refused <= 33
    assert fixed.outcomes == {"accepted": 100}


def test_circuit_breaker_trips_at_the_last_signal_of_a_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    messages = [a_schema(), *(a_record(n) for n in range(1, 101)), a_state()]

    tripped = target.run(*messages, max_signals_per_run=25)

    assert tripped.exit_code == 1
    assert "its mapping must be wrong" in tripped.error
    assert tripped.outcomes == {"pending": 100}


def test_excluded_domains_do_not_trip_the_circuit_breaker(
    target: TargetUnderTest,
) -> None:
    mapping = {"stream": "trials", "account": {"domain": "excluded.example"}}
    records = [a_record(n) for n in range(1, 31)]

    run = target.run(a_schema(), *records, signals=[mapping])

    assert (run.exit_code, run.outcomes) == (0, {"rejected": 30})


def test_circuit_breaker_keeps_few_rejections_until_the_end(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=3))

    run = target.run(a_schema(), *(a_record(n) for n in range(1, 4)), a_state())

    assert run.outcomes == {"rejected": 3}
    assert run.states == [{"at": 1}]


def test_circuit_breaker_lets_the_next_version_of_a_rejected_record_go(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    schema = a_schema(plan="string")

    run = target.run(schema, a_record(plan="a"), a_record(plan="b"), a_state())
    again = target.run(schema, a_record(plan="a"), a_record(plan="b"), a_state())

    assert (run.exit_code, run.outcomes) == (0, {"rejected": 1, "accepted": 1})
    assert run.states == [{"at": 1}]
    assert again.outcomes == {"duplicate": 2}
    assert [s.body["properties"]["plan"] for s in sandbox.signals] == ["b"]


def test_circuit_breaker_trips_at_nine_tenths_of_the_last_200() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    trips = []
    for number in range(200):
        if number % 10 == 0:
            breaker.accepted("s")
        elif breaker.rejected("s", number):
            trips.append(number)

    assert trips == [199]
    assert breaker.release() == list(range(191, 200))


def test_rejections_are_settled_if_max_signals_per_run_ends_the_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422))
    records = [a_record(n) for n in range(1, 5)]

    run = target.run(a_schema(), *records, a_state(), max_signals_per_run=2)

    assert run.exit_code == 75
    assert run.outcomes == {"rejected": 2, "pending": 2}
    assert run.states == []
