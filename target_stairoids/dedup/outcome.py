"""The outcomes of signals, and the effects of each."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """The final outcome of a signal. Each signal of a run has exactly one."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    FILTERED = "filtered"
    TOO_OLD = "too_old"
    BASELINED = "baselined"
    INVALID = "invalid"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    PENDING = "pending"
    WOULD_SEND = "would_send"

    __hash__ = str.__hash__  # several times faster than an enum's own


class Effects(NamedTuple):
    """The effects of an outcome on later records and runs.

    Attributes:
        is_done: Whether its state counts as sent: `send: once` sends nothing after it.
        leaves_state: Whether later records are compared with the state of its signal.
        is_repeat: Whether the last signal stands for the record.
        is_withheld: Whether a new signal is not sent on purpose.
        is_dead_letter: Whether a person must look at it.
        lets_state_pass: Whether STATE passes the record.
    """

    is_done: bool = False
    leaves_state: bool = False
    is_repeat: bool = False
    is_withheld: bool = False
    is_dead_letter: bool = False
    lets_state_pass: bool = True


_REPEAT = Effects(leaves_state=True, is_repeat=True)
_WITHHELD = Effects(is_done=True, leaves_state=True, is_withheld=True)
EFFECTS = {
    Outcome.ACCEPTED: Effects(is_done=True, leaves_state=True),
    Outcome.DUPLICATE: _REPEAT,
    Outcome.UNCHANGED: _REPEAT,
    Outcome.SUPERSEDED: Effects(),
    Outcome.FILTERED: Effects(),
    Outcome.TOO_OLD: _WITHHELD,
    Outcome.BASELINED: _WITHHELD,
    Outcome.INVALID: Effects(is_dead_letter=True),
    Outcome.REJECTED: Effects(is_dead_letter=True),
    Outcome.UNKNOWN: Effects(is_done=True, leaves_state=True, is_dead_letter=True),
    Outcome.PENDING: Effects(lets_state_pass=False),
    # A rebuild gives WOULD_SEND to signals that Stairoids does not have.
    Outcome.WOULD_SEND: Effects(is_done=True),
}
DONE = {outcome for outcome, its in EFFECTS.items() if its.is_done}
