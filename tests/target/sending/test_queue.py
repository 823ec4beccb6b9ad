"""The send queue: signals about one subject keep their order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.api.signal_lookup import Pages
from target_stairoids.sending.queue import (
    Lookup,
    QueuedSignal,
    SendQueue,
    Stage,
    lanes_of,
)
from tests.support.ledger_builders import a_claim, a_version

if TYPE_CHECKING:
    from random import Random


def a_signal(number: int, *lanes: object, **more: Any) -> QueuedSignal:
    return QueuedSignal(
        number=number,
        claim=a_claim(a_version()),
        source="test",
        send="on_change",
        lanes=lanes,
        **more,
    )


def a_queue(*signals: QueuedSignal) -> SendQueue:
    queue = SendQueue()
    for signal in signals:
        queue.add(signal)
    return queue


def taken(queue: SendQueue, now: float = 0) -> list[int]:
    """Take all that may go on now."""
    numbers = []
    while (signal := queue.take(now)) is not None:
        numbers.append(signal.number)
    return numbers


def test_signals_about_different_subjects_are_sent_side_by_side() -> None:
    queue = a_queue(a_signal(1, "a"), a_signal(2, "b"), a_signal(3))

    assert taken(queue) == [1, 2, 3]


def test_queue_knows_the_bytes_of_its_requests_and_records() -> None:
    signals = [a_signal(number) for number in (1, 2)]
    queue = a_queue(*signals)
    both = queue.size
    queue.finish(signals[0])
    queue.finish(signals[0])

    assert both == 2 * queue.size > 0


def test_queue_counts_the_signals_that_only_replace_a_rejected_one() -> None:
    signals = [a_signal(n, "a", is_substitute=n > 1) for n in (1, 2, 3)]
    queue = a_queue(*signals)
    all_of_them = queue.substitutes
    for signal in signals[:2]:
        queue.finish(signal)
        queue.finish(signal)

    assert (all_of_them, queue.substitutes) == (2, 1)


def test_signals_about_other_people_of_a_company_may_pass_one_that_waits() -> None:
    company, person = ("domain", "acme.com"), ("email", "j@acme.com")
    waits, again = (a_signal(n, f"e{n}", company, person) for n in (1, 2))
    other = a_signal(3, "e3", company, ("email", "k@acme.com"))
    queue = a_queue(waits, again, other)
    before = taken(queue)
    queue.let_pass(waits)
    passed = taken(queue)
    queue.finish(waits)

    assert (before, passed, taken(queue)) == ([1], [3], [2])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["entity"], ["entity"]),
        (["e1", ("domain", "acme.com")], ["e2", ("domain", "acme.com")]),
        (["e1", ("email", "j@acme.com")], ["e2", ("email", "j@acme.com")]),
        (["a", "b", "c"], ["c", "a"]),
    ],
)
def test_signal_waits_for_an_earlier_one_about_the_same_subject(
    first: list[object], second: list[object]
) -> None:
    one, other = a_signal(1, *first), a_signal(2, *second)
    queue = a_queue(one, other)
    assert taken(queue) == [1]

    queue.finish(one)

    assert taken(queue) == [2]


def test_signal_waits_for_all_earlier_ones_about_its_subjects() -> None:
    one, two = a_signal(1, "a"), a_signal(2, "b")
    queue = a_queue(one, two, a_signal(3, "a", "b"), a_signal(4, "b"))
    assert taken(queue) == [1, 2]

    queue.finish(two)
    assert taken(queue) == []

    queue.finish(one)
    assert taken(queue) == [3]


def test_order_is_kept_across_retries() -> None:
    one = a_signal(1, "a")
    queue = a_queue(one, a_signal(2, "a"))
    queue.take(0)

    queue.wait_until(one, 60)
    assert taken(queue, 59.9) == []
    assert queue.next_at(0) == 60

    assert taken(queue, 60) == [1]
    queue.put_back(one)
    assert taken(queue) == [1]

    queue.finish(one)
    assert taken(queue) == [2]


def test_signal_that_waits_for_a_time_does_not_hold_up_others() -> None:
    one = a_signal(1, "a")
    queue = a_queue(one)
    queue.take(0)

    queue.wait_until(one, 60)
    queue.add(a_signal(2, "b"))

    assert queue.next_at(1) == 1
    assert taken(queue, 1) == [2]


def test_signals_that_are_due_go_first_in_the_order_of_their_times() -> None:
    signals = [a_signal(number) for number in (1, 2, 3)]
    queue = a_queue(*signals)
    taken(queue)
    for signal, due in zip(signals, (30, 20, 20), strict=True):
        queue.wait_until(signal, due)
    queue.add(a_signal(4))

    assert taken(queue, 40) == [2, 3, 1, 4]
    assert queue.next_at(40) is None


def test_lookup_serves_all_others_that_may_read_its_page_now() -> None:
    stage = Stage.LOOK_UP
    signals = [
        a_signal(1, stage=stage),
        a_signal(2, stage=stage),
        a_signal(3, stage=stage, lookup=Lookup(pages=Pages(["next"]))),
        a_signal(4, stage=stage, lookup=Lookup(not_before=11)),
        a_signal(5, stage=stage, lookup=Lookup(is_possible=False)),
        a_signal(6),
        a_signal(7, stage=stage),
    ]
    signals[6].source = "another"
    queue = a_queue(*signals)
    first = queue.take(10)
    assert first is not None
    queue.gather(first, 10)

    assert first.take_together() == signals[:2]
    assert first.take_together() == signals[:1]
    assert taken(queue, 10) == [3, 5, 6, 7]


@pytest.mark.parametrize(
    ("control_at", "asked_at", "proves"),
    [(50, 21, True), (15, 21, False), (15, 59, False), (15, 66, True)],
    ids=[
        "control accepted after the request of a dead run ended",
        "control accepted before",
        "page asked for before the list is complete",
        "list is complete",
    ],
)
def test_page_that_shows_the_control_proves_the_outcome_once_it_is_complete(
    monkeypatch: pytest.MonkeyPatch, control_at: float, asked_at: float, *, proves: bool
) -> None:
    """The list shows the control after 40 s."""
    monkeypatch.setattr(time, "monotonic", lambda: control_at + 40)
    lookup = Lookup(control="c", control_at=control_at, expires=20, asked_at=asked_at)

    assert lookup.has_control({"c"}) is proves
    assert not lookup.has_control({"d"})


def test_new_signal_waits_for_all_left_over_claims_about_its_company() -> None:
    company = ("domain", "acme.com")
    old = [a_signal(-n, f"e{n}", company, recovered=True) for n in (1, 2, 3)]
    queue = a_queue(*old, a_signal(1, "e4", company))
    together = taken(queue)
    for signal in old:
        before = taken(queue)
        queue.finish(signal)

    assert (together, before, taken(queue)) == ([-1, -2, -3], [], [1])


def test_unfinished_signals_are_in_the_order_they_were_read() -> None:
    one, two, three = (a_signal(number) for number in (1, 2, 3))
    queue = a_queue(one, two, three)
    taken(queue)

    queue.finish(two)

    assert list(queue.unfinished.values()) == [one, three]


def test_lane_exists_until_its_last_signal_is_finished() -> None:
    one, two = a_signal(1, "a"), a_signal(2, "a")
    queue = a_queue(one, two)

    queue.finish(one)
    assert queue.lanes.keys() == {"a"}

    queue.finish(two)
    assert queue.lanes == {}


def test_signal_added_before_another_goes_first() -> None:
    signal, follower = a_signal(1, "a"), a_signal(2, "a")
    queue = a_queue(signal, follower)
    queue.take(0)
    recovered = a_signal(-1, "a")

    queue.add_before(recovered, signal)

    order = []
    while (found := queue.take(0)) is not None:
        order.append(found)
        queue.finish(found)
    assert order == [recovered, signal, follower]
    assert not queue.unfinished


@pytest.mark.parametrize(
    ("account", "contact", "lanes"),
    [
        ({}, {}, ()),
        ({"domain": "acme.com"}, {}, (("domain", "acme.com"),)),
        ({}, {"email": "Jo@Acme.com"}, (("email", "jo@acme.com"),)),
        (
            {"domain": "acme.com", "name": "Acme"},
            {"email": "jo@acme.com", "first_name": "Jo"},
            (("domain", "acme.com"), ("email", "jo@acme.com")),
        ),
    ],
)
def test_lanes_are_entity_domain_and_email(
    account: dict[str, str], contact: dict[str, str], lanes: tuple[object, ...]
) -> None:
    version = a_version()

    assert lanes_of(version, account, contact) == (version.key[0], *lanes)


@settings(max_examples=80)
@given(
    st.lists(st.sets(st.integers(0, 4), max_size=3), max_size=20),
    st.randoms(use_true_random=False),
)
def test_signals_of_each_lane_are_in_order_and_none_hangs(
    lanes: list[set[int]], choice: Random
) -> None:
    queue = a_queue(*(a_signal(n, *ls) for n, ls in enumerate(lanes)))
    under_way: list[QueuedSignal] = []
    finished: list[int] = []
    now = 0.0
    while queue.unfinished:
        now += 1
        while (signal := queue.take(now)) is not None:
            under_way.append(signal)
        assert under_way or queue.next_at(now) is not None, "hangs"
        if not under_way:
            continue
        busy = [lane for signal in under_way for lane in signal.lanes]
        assert len(busy) == len(set(busy)), "two signals about one subject at once"
        signal = under_way.pop(choice.randrange(len(under_way)))
        match choice.choice(["finish", "retry", "put back"]):
            case "finish":
                queue.finish(signal)
                finished.append(signal.number)
            case "retry":
                queue.wait_until(signal, now + choice.randrange(3))
            case _:
                queue.put_back(signal)

    for lane in range(5):
        of_lane = [number for number in finished if lane in lanes[number]]
        assert of_lane == sorted(of_lane)
    assert sorted(finished) == list(range(len(lanes)))
