"""The order of the events of one account, beside other accounts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tap_stairoids_webhooks.forwarding.lanes import Lanes, lane_of
from tap_stairoids_webhooks.store.forwards import Forward
from tap_stairoids_webhooks.store.schema import StoredEvent


def an_event(body: bytes, sequence: int = 1) -> StoredEvent:
    return StoredEvent(
        sequence=sequence,
        event=None,
        event_id=None,
        malformed=None,
        conflict=False,
        received_at="",
        body=body,
        body_sha256="",
        signature="",
        headers={},
        key_id="",
        erased_at=None,
    )


def lane(value: object, sequence: int = 1) -> str:
    return lane_of(an_event(json.dumps(value).encode(), sequence))


def sequences(forwards: list[Forward]) -> list[int]:
    return [forward.sequence for forward in forwards]


ACCOUNT = {"account": {"id": "acc_1", "domain": "acme.com"}}


@pytest.mark.parametrize(
    "other",
    [
        {"account": {"id": "acc_1"}, "contact": {"id": "con_2"}},
        {"data": {"account": {"id": "acc_1"}}},
        {"data": {"account_id": "acc_1"}},
        {"data": {"id": "sig_1", "account_id": None}, **ACCOUNT},
    ],
)
def test_events_of_an_account_share_a_lane(other: object) -> None:
    assert lane(ACCOUNT, 1) == lane(other, 2)


@pytest.mark.parametrize(
    "value",
    [
        {"account": {"id": 1}},
        {"account": {"domain": "acme.com"}},
        {"contact": {"id": "con_1"}},
        {"contact": {"email": "ada@acme.com"}, "account": None},
        {"data": {"contact": {"email": "ada@acme.com"}}},
    ],
)
def test_lane_without_an_account_id(value: object) -> None:
    assert lane(value, 1) == lane(value, 2)
    assert lane(value) != lane(ACCOUNT)
    assert "acme" not in lane(value)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, 1, {"account": {"id": ""}}, {"account": {"id": None}}, {"data": []}],
)
def test_event_without_an_owner_delays_no_other(value: object) -> None:
    assert lane(value, 1) != lane(value, 2)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b'{"a": 1e99999}'])
def test_body_that_does_not_parse_delays_no_other(body: bytes) -> None:
    assert lane_of(an_event(body, 1)) != lane_of(an_event(body, 2))


def test_first_event_of_a_lane_holds_back_the_others() -> None:
    lanes = Lanes()
    for number, name in ((3, "a"), (1, "a"), (2, "b"), (4, "b"), (1, "a")):
        lanes.add(Forward(sequence=number, lane=name))

    first = lanes.next_due(9, now=0)
    assert sequences(first) == [1, 2]
    assert lanes.next_due(9, now=0) == []

    lanes.postpone(replace(first[0], due_at=5.0))
    lanes.finish(first[1])
    assert (lanes.in_flight, len(lanes)) == (0, 3)
    assert sequences(lanes.next_due(9, now=0)) == [4]
    assert lanes.seconds_until_due(now=2) == 3
    assert sequences(lanes.next_due(9, now=5)) == [1]


def test_oldest_due_events_come_first() -> None:
    lanes = Lanes()
    for number in (5, 4, 3, 2, 1):
        lanes.add(Forward(sequence=number, lane=str(number)))

    assert sequences(lanes.next_due(2, now=0)) == [1, 2]
    assert lanes.in_flight == 2


def test_lane_that_waits_for_a_later_attempt_is_not_ready() -> None:
    lanes = Lanes()
    for number in range(6):
        lanes.add(Forward(sequence=number, lane="ab"[number % 2]))
    first, _ = lanes.next_due(2, now=1.0)

    lanes.postpone(replace(first, attempts=1, due_at=60.0))

    assert lanes.ready() == 3


def test_lane_of_a_second_attempt_is_not_ready() -> None:
    lanes = Lanes()
    for number in range(6):
        lanes.add(Forward(sequence=number, lane="a", attempts=int(number == 0)))
    lanes.next_due(1, now=1.0)

    assert lanes.ready() == 0


def test_event_that_is_taken_back_is_due_again() -> None:
    lanes = Lanes()
    lanes.add(Forward(sequence=1, lane="a"))
    (taken,) = lanes.next_due(1, now=1.0)

    lanes.release(taken)

    assert lanes.next_due(1, now=1.0) == [taken]
