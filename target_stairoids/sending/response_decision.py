"""The decision on an API response: accepted, rejected, send again, look up, or stop.

`decide` is pure; the scheduler applies its result. A signal that was certainly not
accepted is sent again. After a request without a usable response, Stairoids' signals
are read first.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.signal_lookup import is_readable, listed, next_cursor
from target_stairoids.dedup.rules import Outcome
from target_stairoids.sending.queue import QueuedSignal, Stage

_MAX_ATTEMPTS = 8
#: Statuses that refuse a question about a signal, and not the key.
_UNREADABLE = {Stage.LOOK_UP: {403, 405}, Stage.ASK: {403, 404, 405}}


class Action(Enum):
    """The next step for a signal after a response."""

    ACCEPT = auto()  # it was accepted
    REJECT = auto()  # Stairoids rejected it, with any mapping
    HOLD = auto()  # Stairoids rejected it, and the mapping may be wrong
    GIVE_UP = auto()  # it becomes a dead letter
    RETRY = auto()  # the request failed: repeat it after a pause
    SLOW_DOWN = auto()  # 429: repeat it when Stairoids allows
    SEND_AGAIN = auto()  # a lookup shows that it was not accepted
    READ_ON = auto()  # read the next page of the lookup
    CHECK_SOURCE = auto()  # let the first-run check decide on its source
    STOP = auto()  # Stairoids refuses the key or the URL


class Policy(msgspec.Struct, frozen=True):
    """The settings and findings that a decision depends on.

    Attributes:
        looks_up: Whether unclear signals are looked up (`on_unknown: verify`).
        lookup_delay: Seconds between a request and its lookup.
        accepted: How many signals this run saw accepted.
        found_id: Id of the listed signal that is this one.
    """

    looks_up: bool
    lookup_delay: float
    accepted: int
    found_id: str | None = None


class ResponseDecision(msgspec.Struct, frozen=True):
    """The decision on a response.

    Attributes:
        stage: The signal's next stage, if it stays in the queue.
        outcome: Its outcome if it is given up.
        delay: Seconds to wait at least before a retry.
        is_failure: Whether the request failed, so that an outage may have begun.
        is_unclear: Whether the signal may or may not have been accepted.
    """

    action: Action
    stage: Stage = Stage.SEND
    outcome: Outcome = Outcome.UNKNOWN
    signal_id: str | None = None
    delay: float = 0.0
    cursor: str = ""
    is_failure: bool = False
    is_unclear: bool = False


def decide(
    signal: QueuedSignal, response: Response, policy: Policy
) -> ResponseDecision:
    """Return the decision on the response to a signal, or to a question about it."""
    if signal.stage in _UNREADABLE:
        return _decide_question(signal, response, policy)
    match response.kind:
        case ResponseKind.ACCEPTED:
            return ResponseDecision(Action.ACCEPT, signal_id=response.signal_id)
        case ResponseKind.REJECTED:
            is_excluded = response.code == "domain_excluded"
            return ResponseDecision(Action.REJECT if is_excluded else Action.HOLD)
        case ResponseKind.REFUSED:
            return ResponseDecision(Action.STOP)
        case ResponseKind.THROTTLED:
            return ResponseDecision(Action.SLOW_DOWN)
        case ResponseKind.NOT_SENT:
            return _retry(signal, policy, Stage.SEND)
        case ResponseKind.UNKNOWN if policy.looks_up:
            return _retry(signal, policy, Stage.LOOK_UP, is_unclear=True)
        case _:
            return ResponseDecision(Action.GIVE_UP, is_unclear=True)


def _decide_question(
    signal: QueuedSignal, response: Response, policy: Policy
) -> ResponseDecision:
    """Return the decision on a list of signals: a lookup or the first-run check."""
    is_lookup = signal.stage is Stage.LOOK_UP
    stage = Stage.LOOK_UP if is_lookup else Stage.CLAIM
    match response.kind:
        case ResponseKind.REFUSED if response.status not in _UNREADABLE[signal.stage]:
            return ResponseDecision(Action.STOP, stage)
        case ResponseKind.THROTTLED:
            return ResponseDecision(Action.SLOW_DOWN, stage)
        case ResponseKind.NOT_SENT | ResponseKind.UNKNOWN:
            return _retry(signal, policy, stage)
    if not is_lookup:
        return ResponseDecision(Action.CHECK_SOURCE, stage)
    return _decide_page(signal, response, policy)


def _decide_page(
    signal: QueuedSignal, response: Response, policy: Policy
) -> ResponseDecision:
    page = listed(response) if response.kind is ResponseKind.ACCEPTED else None
    if page is None or not is_readable(signal.claim.signal, page):
        return ResponseDecision(Action.GIVE_UP)
    if policy.found_id is not None:
        return ResponseDecision(Action.ACCEPT, Stage.LOOK_UP, signal_id=policy.found_id)
    cursor = next_cursor(response)
    if cursor is None:
        return ResponseDecision(Action.SEND_AGAIN)
    if cursor in signal.cursors:  # the pages go round in a circle and prove nothing
        return ResponseDecision(Action.GIVE_UP)
    return ResponseDecision(Action.READ_ON, Stage.LOOK_UP, cursor=cursor)


def _retry(
    signal: QueuedSignal, policy: Policy, stage: Stage, *, is_unclear: bool = False
) -> ResponseDecision:
    """Return a retry, or give up if this signal fails alone, eight times."""
    lookups = signal.lookups + (signal.stage is Stage.LOOK_UP)
    is_last = max(signal.attempts, lookups) >= _MAX_ATTEMPTS
    is_alone = policy.accepted > signal.accepted_before
    return ResponseDecision(
        Action.GIVE_UP if is_last and is_alone else Action.RETRY,
        stage,
        Outcome.REJECTED if stage is Stage.SEND else Outcome.UNKNOWN,
        delay=policy.lookup_delay if is_unclear else 0.0,
        is_failure=True,
        is_unclear=is_unclear,
    )
