"""Signals about the same keep their order; STATE waits for all before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from target_stairoids.ledger.structs import Claim
from target_stairoids.sending.queue import Checkpoint, Entry, SendQueue

if TYPE_CHECKING:
    from random import Random

CLAIM = Claim(
    entity=b"",
    version=b"",
    mapping="",
    stream=1,
    stream_name="",
    content=b"",
    position=None,
    fingerprint=b"",
    signal=b"",
    record=b"",
)


def an_entry(number: int, *lanes: object, **more: Any) -> Entry:
    return Entry(number=number, claim=CLAIM, send="on_change", lanes=lanes, **more)


def a_window(*entries: Entry, size: int = 10_000) -> SendQueue:
    window = SendQueue(size)
    for entry in entries:
        window.add(entry)
    return window


def taken(window: SendQueue, now: float = 0) -> list[int]:
    """Take all that may go on now."""
    numbers = []
    while (entry := window.take(now)) is not None:
        numbers.append(entry.number)
    return numbers


def test_signals_about_different_things_go_side_by_side() -> None:
    window = a_window(an_entry(1, "a"), an_entry(2, "b"), an_entry(3))

    assert taken(window) == [1, 2, 3]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["entity"], ["entity"]),
        (["e1", ("domain", "acme.com")], ["e2", ("domain", "acme.com")]),
        (["e1", ("email", "j@acme.com")], ["e2", ("email", "j@acme.com")]),
        (["a", "b", "c"], ["c", "a"]),
    ],
)
def test_signal_waits_for_an_earlier_one_about_the_same(
    first: list[object], second: list[object]
) -> None:
    one, other = an_entry(1, *first), an_entry(2, *second)
    window = a_window(one, other)
    assert taken(window) == [1]

    window.finish(one)

    assert taken(window) == [2]


def test_signal_waits_for_all_it_must_not_overtake() -> None:
    one, two = an_entry(1, "a"), an_entry(2, "b")
    window = a_window(one, two, an_entry(3, "a", "b"), an_entry(4, "b"))
    assert taken(window) == [1, 2]

    window.finish(two)
    assert taken(window) == []

    window.finish(one)
    assert taken(window) == [3]


def test_order_holds_across_retries() -> None:
    one = an_entry(1, "a")
    window = a_window(one, an_entry(2, "a"))
    window.take(0)

    window.wait_until(one, 60)
    assert taken(window, 59.9) == []
    assert window.next_timer == 60

    assert taken(window, 60) == [1]
    window.put_back(one)
    assert taken(window) == [1]

    window.finish(one)
    assert taken(window) == [2]


def test_signal_that_waits_for_a_time_lets_others_pass() -> None:
    one = an_entry(1, "a")
    window = a_window(one)
    window.take(0)

    window.wait_until(one, 60)
    window.add(an_entry(2, "b"))

    assert window.has_ready
    assert taken(window, 1) == [2]


def test_signals_whose_time_has_come_go_first_in_their_order() -> None:
    entries = [an_entry(number) for number in (1, 2, 3)]
    window = a_window(*entries)
    taken(window)
    for entry, due in zip(entries, (30, 20, 20), strict=True):
        window.wait_until(entry, due)
    window.add(an_entry(4))

    assert taken(window, 40) == [2, 3, 1, 4]
    assert window.next_timer is None


def test_window_is_full_at_its_size_and_counts_what_is_unfinished() -> None:
    one, two = an_entry(1), an_entry(2)
    window = a_window(one, two, size=2)
    taken(window)

    before = window.is_full, len(window)
    window.finish(one)
    after = window.is_full, len(window)

    assert before == (True, 2)
    assert after == (False, 1)
    assert window.unfinished() == [two]


def test_lane_is_busy_until_its_last_signal_is_finished() -> None:
    one, two = an_entry(1, "a"), an_entry(2, "a")
    window = a_window(one, two)

    window.finish(one)
    assert window.is_busy("a")
    assert not window.is_busy("b")

    window.finish(two)
    assert not window.is_busy("a")


def test_signal_may_enter_again_behind_another() -> None:
    """As it must when it meets the claim of a dead run."""
    mine, theirs = an_entry(1, "a"), an_entry(-1, "a")
    window = a_window(mine)
    window.take(0)

    window.finish(mine)
    window.add(theirs)
    window.add(mine)

    assert taken(window) == [-1]
    window.finish(theirs)
    assert taken(window) == [1]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 4), max_size=3), max_size=20),
    st.randoms(use_true_random=False),
)
def test_each_lane_is_in_order_and_nothing_hangs(
    lanes: list[set[int]], choice: Random
) -> None:
    window = a_window(*(an_entry(n, *ls) for n, ls in enumerate(lanes)))
    under_way: list[Entry] = []
    finished: list[int] = []
    now = 0.0
    while len(window):
        now += 1
        while (entry := window.take(now)) is not None:
            under_way.append(entry)
        assert under_way or window.next_timer is not None, "hangs"
        if not under_way:
            continue
        busy = [lane for entry in under_way for lane in entry.lanes]
        assert len(busy) == len(set(busy)), "two signals about the same at once"
        entry = under_way.pop(choice.randrange(len(under_way)))
        match choice.choice(["finish", "retry", "put back"]):
            case "finish":
                window.finish(entry)
                finished.append(entry.number)
            case "retry":
                window.wait_until(entry, now + choice.randrange(3))
            case _:
                window.put_back(entry)

    for lane in range(5):
        of_lane = [number for number in finished if lane in lanes[number]]
        assert of_lane == sorted(of_lane)
    assert sorted(finished) == list(range(len(lanes)))


def test_state_without_signals_before_it_passes_at_once() -> None:
    checkpoint = Checkpoint()

    checkpoint.state("s1")

    assert checkpoint.passed() == ["s1"]
    assert checkpoint.passed() == []


def test_state_waits_for_every_signal_before_it() -> None:
    checkpoint = Checkpoint()
    one, two = checkpoint.open(), checkpoint.open()
    checkpoint.state("s1")
    three = checkpoint.open()

    checkpoint.close(two)
    checkpoint.close(three)
    assert checkpoint.passed() == []

    checkpoint.close(one)
    assert checkpoint.passed() == ["s1"]


def test_newest_state_passes_for_all() -> None:
    checkpoint = Checkpoint()
    one = checkpoint.open()
    checkpoint.state("s1")
    two = checkpoint.open()
    checkpoint.state("s2")
    checkpoint.open()
    checkpoint.state("s3")

    checkpoint.close(two)
    checkpoint.close(one)

    assert checkpoint.passed() == ["s2"]
    assert checkpoint.passed() == []


def test_later_state_of_the_same_place_counts() -> None:
    checkpoint = Checkpoint()
    number = checkpoint.open()
    checkpoint.state("s1")
    checkpoint.state("s2")

    checkpoint.close(number)

    assert checkpoint.passed() == ["s2"]
    assert checkpoint.passed() == []


def test_each_state_passes_where_none_stands_for_another() -> None:
    checkpoint = Checkpoint(keeps_each=True)
    number = checkpoint.open()
    checkpoint.state("s1")
    checkpoint.state("s2")
    checkpoint.open()
    checkpoint.state("s3")

    checkpoint.close(number)

    assert checkpoint.passed() == ["s1", "s2"]
    assert checkpoint.passed() == []


class Watermarks(RuleBasedStateMachine):
    """Any order of signals, states and outcomes."""

    keeps_each = False

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = Checkpoint(keeps_each=self.keeps_each)
        self.unsettled: set[int] = set()
        self.opened = 0
        self.states: list[int] = []
        self.passed = -1

    @rule()
    def open(self) -> None:
        number = self.checkpoint.open()
        assert number not in self.unsettled
        self.unsettled.add(number)
        self.opened = max(self.opened, number)

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.unsettled)))
        self.checkpoint.close(number)
        self.unsettled.discard(number)

    @rule()
    def state(self) -> None:
        self.checkpoint.state(str(len(self.states)))
        self.states.append(self.opened)

    @rule()
    def read(self) -> None:
        found = self.checkpoint.passed()
        may_pass = [
            index
            for index, opened in enumerate(self.states)
            if not any(number <= opened for number in self.unsettled)
        ]
        new = [str(index) for index in may_pass if index > self.passed]
        assert found == (new if self.keeps_each else new[-1:])
        self.passed = max([self.passed, *may_pass])

    @invariant()
    def counts_what_is_unsettled(self) -> None:
        assert self.checkpoint.unsettled == len(self.unsettled)


class WatermarksOfEach(Watermarks):
    """The same where each STATE passes."""

    keeps_each = True


Watermarks.TestCase.settings = WatermarksOfEach.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestWatermarks = Watermarks.TestCase
TestWatermarksOfEach = WatermarksOfEach.TestCase


def test_signal_that_is_let_pass_goes_first_and_followers_keep_waiting() -> None:
    entry, follower = an_entry(1, "a"), an_entry(2, "a")
    window = a_window(entry, follower)
    assert window.take(0) is entry
    first = an_entry(-1, "a")

    window.let_pass(first, entry)

    order = []
    while (found := window.take(0)) is not None:
        order.append(found)
        window.finish(found)
    assert order == [first, entry, follower]
    assert len(window) == 0
