"""The checkpoint: STATE waits for every signal before it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
)

from target_stairoids.sending import checkpoint as module


class Checkpoint(module.Checkpoint):
    """A checkpoint that collects the emitted STATEs."""

    def __init__(self, *, emits_each: bool = False) -> None:
        self._emitted: list[str] = []
        super().__init__(self._emitted.append, lambda: None, 0.0, emits_each)

    def passed(self) -> list[str]:
        """Return the STATEs that may be emitted, once."""
        self.emit_states(0.0, is_last=True)
        emitted = self._emitted.copy()
        self._emitted.clear()
        return emitted


def test_state_is_emitted_once_per_second_after_a_flush() -> None:
    calls: list[str] = []
    checkpoint = module.Checkpoint(calls.append, lambda: calls.append("flush"), 10.0)

    checkpoint.state("s1")
    checkpoint.emit_states(10.5)
    assert calls == []
    assert checkpoint.next_at == 11.0

    checkpoint.emit_states(11.0)
    assert calls == ["flush", "s1"]
    assert checkpoint.next_at is None


def test_state_without_signals_before_it_is_emitted_at_once() -> None:
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


def test_newest_state_replaces_all_before_it() -> None:
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


def test_later_of_two_states_in_one_place_is_emitted() -> None:
    checkpoint = Checkpoint()
    number = checkpoint.open()
    checkpoint.state("s1")
    checkpoint.state("s2")

    checkpoint.close(number)

    assert checkpoint.passed() == ["s2"]
    assert checkpoint.passed() == []


def test_each_state_is_emitted_if_asked() -> None:
    checkpoint = Checkpoint(emits_each=True)
    number = checkpoint.open()
    checkpoint.state("s1")
    checkpoint.state("s2")
    checkpoint.open()
    checkpoint.state("s3")

    checkpoint.close(number)

    assert checkpoint.passed() == ["s1", "s2"]
    assert checkpoint.passed() == []


class CheckpointModel(RuleBasedStateMachine):
    """Any order of signals, states and outcomes."""

    emits_each = False

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = Checkpoint(emits_each=self.emits_each)
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
        assert found == (new if self.emits_each else new[-1:])
        self.passed = max([self.passed, *may_pass])


class CheckpointKeepingEach(CheckpointModel):
    """The same, where each STATE is emitted."""

    emits_each = True


CheckpointModel.TestCase.settings = CheckpointKeepingEach.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30
)
TestCheckpointModel = CheckpointModel.TestCase
TestCheckpointKeepingEach = CheckpointKeepingEach.TestCase
