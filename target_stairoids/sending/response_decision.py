"""The decision on an API response: accepted, rejected, send again, look up, or stop.

`decide` is pure; `response_handler` applies its result. A signal that was certainly not
accepted is sent again. After a request without a usable response, Stairoids' signals
are read first.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from target_stairoids.api.client import NO_IDS, Response, ResponseKind, SignalIds
from target_stairoids.api.signal_lookup import next_cursor
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.sending.queue import QueuedSignal, Stage

_MAX_ATTEMPTS = 8
#: Statuses that refuse a question about a signal, and not the key.
_UNREADABLE = {Stage.LOOK_UP: {403, 405}, Stage.ASK: {403, 404, 405}}


class ResponseAction(Enum):
    """The next step for a signal after a response."""

    ACCEPT = auto()  # it was accepted
    REJECT = auto()  # Stairoids rejected it, with any mapping
    HOLD_REJECTION = auto()  # Stairoids rejected it, and the mapping may be wrong
    GIVE_UP = auto()  # it becomes a dead letter
    RETRY = auto()  # the request failed: repeat it after a pause
    SLOW_DOWN = auto()  # 429: repeat it when Stairoids allows
    SEND_AGAIN = auto()  # a lookup shows that it was not accepted
    READ_ON = auto()  # read the next page of the lookup
    LOOK_AGAIN = auto()  # the lookup proves nothing yet: repeat it after a pause
    WAIT = auto()  # the lookup proves nothing until a later signal is accepted
    CHECK_SOURCE = auto()  # let the first-run check decide on its source
    STOP = auto()  # Stairoids refuses the key or the URL, or it is not Stairoids


class Page(msgspec.Struct, frozen=True):
    """The facts on one page of Stairoids' signals for a lookup.

    Attributes:
        found_id: Id of the signal that is the sent one.
        is_doubtful: Whether another signal may be the sent one.
        shows_control: Whether it shows the signal that was accepted later.
        is_last: Whether all further signals are older than the request.
        end: The id of its last signal; empty without one.
    """

    found_id: str | None = None
    is_doubtful: bool = False
    shows_control: bool = False
    is_last: bool = False
    end: str = ""


class Policy(msgspec.Struct, frozen=True):
    """The settings and findings that a decision depends on.

    Attributes:
        looks_up: Whether unclear signals are looked up (`on_unknown: verify`).
        lookup_delay: Seconds between a request and its lookup.
        page: Of a lookup; None if it cannot be read.
    """

    looks_up: bool
    lookup_delay: float
    accepted: int
    page: Page | None = None


class ResponseDecision(msgspec.Struct, frozen=True):
    """The decision on a response.

    Attributes:
        stage: The signal's next stage, if it stays in the queue.
        delay: Seconds to wait at least before a retry.
        cursor: Where the next page of a lookup starts.
        end: As of the page that was read.
        is_failure: Whether the request failed, so that an outage may have begun.
        is_unclear: Whether the signal may or may not have been accepted.
    """

    action: ResponseAction
    stage: Stage = Stage.SEND
    outcome: Outcome = Outcome.UNKNOWN
    ids: SignalIds = NO_IDS
    delay: float = 0.0
    cursor: str = ""
    end: str = ""
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
            return ResponseDecision(ResponseAction.ACCEPT, ids=response.ids)
        case ResponseKind.REJECTED:
            is_excluded = response.code == "domain_excluded"
            return ResponseDecision(
                ResponseAction.REJECT if is_excluded else ResponseAction.HOLD_REJECTION
            )
        case ResponseKind.REFUSED | ResponseKind.THROTTLED:
            is_refused = response.kind is ResponseKind.REFUSED
            return ResponseDecision(
                ResponseAction.STOP if is_refused else ResponseAction.SLOW_DOWN
            )
        case ResponseKind.NOT_SENT:
            return _retry(signal, policy, Stage.SEND)
        case ResponseKind.FOREIGN if not policy.accepted:
            return ResponseDecision(ResponseAction.STOP, Stage.LOOK_UP, is_unclear=True)
        case _ if policy.looks_up:
            return _retry(signal, policy, Stage.LOOK_UP, is_unclear=True)
        case _:
            return ResponseDecision(ResponseAction.GIVE_UP, is_unclear=True)


def _decide_question(
    signal: QueuedSignal, response: Response, policy: Policy
) -> ResponseDecision:
    """Return the decision on a list of signals: a lookup or the first-run check."""
    is_lookup = signal.stage is Stage.LOOK_UP
    stage = Stage.LOOK_UP if is_lookup else Stage.CLAIM
    match response.kind:
        case ResponseKind.REFUSED if response.status not in _UNREADABLE[signal.stage]:
            return ResponseDecision(ResponseAction.STOP, stage)
        case ResponseKind.THROTTLED:
            return ResponseDecision(ResponseAction.SLOW_DOWN, stage)
        case ResponseKind.FOREIGN if not policy.accepted:
            return ResponseDecision(ResponseAction.STOP, stage)
        case ResponseKind.NOT_SENT | ResponseKind.UNKNOWN | ResponseKind.FOREIGN:
            return _retry(signal, policy, stage)
    if not is_lookup:
        return ResponseDecision(ResponseAction.CHECK_SOURCE, stage)
    return _decide_page(signal, response, policy)


def _decide_page(
    signal: QueuedSignal, response: Response, policy: Policy
) -> ResponseDecision:
    """Return the decision on a page of Stairoids' signals.

    A signal is not there only if complete pages show neither it nor a similar one. They
    must also show a signal that was accepted later.
    """
    page, cursor = policy.page, next_cursor(response)
    is_last_try = signal.attempts >= _MAX_ATTEMPTS
    is_last_lookup = signal.lookup.failures + 1 >= _MAX_ATTEMPTS
    # Before the first accepted signal, the list of another service proves nothing.
    unproved = (
        ResponseAction.GIVE_UP
        if policy.accepted or is_last_try
        else ResponseAction.WAIT
    )
    if page is None:
        return ResponseDecision(unproved, Stage.LOOK_UP)
    if page.found_id is not None:
        return ResponseDecision(
            ResponseAction.ACCEPT, Stage.LOOK_UP, ids=SignalIds(page.found_id)
        )
    if cursor is not None and not page.is_last:
        if signal.lookup.pages.repeat(cursor, page.end):
            return ResponseDecision(unproved, Stage.LOOK_UP)
        return ResponseDecision(
            ResponseAction.READ_ON, Stage.LOOK_UP, cursor=cursor, end=page.end
        )
    if page.is_doubtful or signal.lookup.is_doubtful:
        action = unproved if is_last_lookup else ResponseAction.LOOK_AGAIN
    elif signal.why_not_again:
        action = ResponseAction.GIVE_UP
    elif page.shows_control or signal.lookup.shows_control:
        action = ResponseAction.GIVE_UP if is_last_try else ResponseAction.SEND_AGAIN
    elif signal.lookup.control is not None and not is_last_lookup:  # the list lags
        action = ResponseAction.LOOK_AGAIN
    else:
        action = ResponseAction.GIVE_UP if is_last_try else ResponseAction.WAIT
    stage = Stage.SEND if action is ResponseAction.SEND_AGAIN else Stage.LOOK_UP
    return ResponseDecision(action, stage, delay=policy.lookup_delay)


def _retry(
    signal: QueuedSignal, policy: Policy, stage: Stage, *, is_unclear: bool = False
) -> ResponseDecision:
    """Return a retry, or give up after eight failures of this signal alone.

    It fails alone if others were accepted since its first request. After an unclear
    request, a lookup comes first.
    """
    lookups = signal.lookup.failures + (signal.stage is Stage.LOOK_UP)
    is_last = max(signal.attempts, lookups) >= _MAX_ATTEMPTS and not is_unclear
    is_alone = policy.accepted > signal.accepted_before
    return ResponseDecision(
        ResponseAction.GIVE_UP if is_last and is_alone else ResponseAction.RETRY,
        stage,
        Outcome.REJECTED if stage is Stage.SEND else Outcome.UNKNOWN,
        delay=policy.lookup_delay if is_unclear else 0.0,
        is_failure=True,
        is_unclear=is_unclear,
    )
