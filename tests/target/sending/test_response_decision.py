"""The decision on a response: one row for each kind of response and stage."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from target_stairoids.api.client import Response, ResponseKind, SignalIds
from target_stairoids.api.signal_lookup import Pages
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.sending.queue import Lookup, QueuedSignal, Stage
from target_stairoids.sending.response_decision import (
    Page,
    Policy,
    ResponseAction,
    ResponseDecision,
    decide,
)
from tests.support.ledger_builders import a_claim, a_version

DELAY = 10.0
VERIFY = Policy(looks_up=True, lookup_delay=DELAY, accepted=0)
HOLD = Policy(looks_up=False, lookup_delay=DELAY, accepted=0)
OTHERS_ACCEPTED = Policy(looks_up=True, lookup_delay=DELAY, accepted=5)
LISTED = {
    "id": "sig_1",
    "type": "trial",
    "source": "test",
    "created_at": "2024-06-15T14:23:01Z",
    "contact": {"email": "jo@acme.com"},
}


def a_signal(stage: Stage, attempts: int = 1, **lookup: Any) -> QueuedSignal:
    body = b'{"type":"trial","source":"test","contact":{"email":"jo@acme.com"}}'
    return QueuedSignal(
        number=1,
        claim=a_claim(a_version(), request=body),
        source="test",
        send="on_change",
        lanes=(),
        stage=stage,
        attempts=attempts,
        accepted_before=2,
        lookup=Lookup(**lookup),
    )


def response(
    kind: ResponseKind, status: int | None = None, body: object = None
) -> Response:
    return Response(kind=kind, status=status, body=body)


def page(*signals: object, cursor: str | None = None) -> Response:
    body = {"data": list(signals), "meta": {"next_cursor": cursor}}
    return response(ResponseKind.ACCEPTED, 200, body)


ACCEPTED = response(ResponseKind.ACCEPTED, 201, {"id": "sig_1"})
ACCEPTED_WITHOUT_ID = response(ResponseKind.ACCEPTED, 202, {})
HTML = response(ResponseKind.FOREIGN, 200)
REJECTED = response(ResponseKind.REJECTED, 422, {"error": {"code": "invalid"}})
EXCLUDED = response(ResponseKind.REJECTED, 422, {"error": {"code": "domain_excluded"}})
UNAUTHORIZED = response(ResponseKind.REFUSED, 401)
FORBIDDEN = response(ResponseKind.REFUSED, 403)
NO_METHOD = response(ResponseKind.REFUSED, 405)
THROTTLED = response(ResponseKind.THROTTLED, 429)
NOT_SENT = response(ResponseKind.NOT_SENT)
UNKNOWN = response(ResponseKind.UNKNOWN, 500)

RETRY_SEND = ResponseDecision(
    ResponseAction.RETRY, Stage.SEND, Outcome.REJECTED, is_failure=True
)
RETRY_LOOKUP = ResponseDecision(ResponseAction.RETRY, Stage.LOOK_UP, is_failure=True)
LOOK_UP_LATER = ResponseDecision(
    ResponseAction.RETRY, Stage.LOOK_UP, delay=DELAY, is_failure=True, is_unclear=True
)
STOP_UNCLEAR = ResponseDecision(ResponseAction.STOP, Stage.LOOK_UP, is_unclear=True)
STOP_LOOKUP = ResponseDecision(ResponseAction.STOP, Stage.LOOK_UP)


@pytest.mark.parametrize("stage", [Stage.CLAIM, Stage.SEND])
@pytest.mark.parametrize(
    ("found", "policy", "decision"),
    [
        (
            ACCEPTED,
            VERIFY,
            ResponseDecision(ResponseAction.ACCEPT, ids=SignalIds("sig_1")),
        ),
        (ACCEPTED_WITHOUT_ID, VERIFY, ResponseDecision(ResponseAction.ACCEPT)),
        (REJECTED, VERIFY, ResponseDecision(ResponseAction.HOLD_REJECTION)),
        (EXCLUDED, VERIFY, ResponseDecision(ResponseAction.REJECT)),
        (UNAUTHORIZED, VERIFY, ResponseDecision(ResponseAction.STOP)),
        (FORBIDDEN, VERIFY, ResponseDecision(ResponseAction.STOP)),
        (THROTTLED, VERIFY, ResponseDecision(ResponseAction.SLOW_DOWN)),
        (NOT_SENT, VERIFY, RETRY_SEND),
        (NOT_SENT, HOLD, RETRY_SEND),
        (UNKNOWN, VERIFY, LOOK_UP_LATER),
        (UNKNOWN, HOLD, ResponseDecision(ResponseAction.GIVE_UP, is_unclear=True)),
        (HTML, VERIFY, STOP_UNCLEAR),
        (HTML, OTHERS_ACCEPTED, LOOK_UP_LATER),
    ],
    ids=[
        "accepted",
        "accepted without an id",
        "rejected",
        "domain excluded",
        "unauthorized",
        "forbidden",
        "throttled",
        "not sent",
        "not sent, without lookups",
        "unknown",
        "unknown, without lookups",
        "HTML",
        "HTML after an accepted signal",
    ],
)
def test_decision_on_the_response_to_a_signal(
    stage: Stage, found: Response, policy: Policy, decision: ResponseDecision
) -> None:
    assert decide(a_signal(stage), found, policy) == decision


@pytest.mark.parametrize(
    ("found", "policy", "decision"),
    [
        (UNAUTHORIZED, VERIFY, STOP_LOOKUP),
        (response(ResponseKind.REFUSED, 404), VERIFY, STOP_LOOKUP),
        (HTML, VERIFY, STOP_LOOKUP),
        (HTML, OTHERS_ACCEPTED, RETRY_LOOKUP),
        (THROTTLED, VERIFY, ResponseDecision(ResponseAction.SLOW_DOWN, Stage.LOOK_UP)),
        (NOT_SENT, VERIFY, RETRY_LOOKUP),
        (UNKNOWN, VERIFY, RETRY_LOOKUP),
    ],
    ids=[
        "unauthorized",
        "not found",
        "HTML",
        "HTML after an accepted signal",
        "throttled",
        "not sent",
        "unknown",
    ],
)
def test_decision_on_a_lookup_without_a_page(
    found: Response, policy: Policy, decision: ResponseDecision
) -> None:
    assert decide(a_signal(Stage.LOOK_UP), found, policy) == decision


LATER: dict[str, Any] = {"control": "sig_9"}
TRIES: dict[str, Any] = {"attempts": 8}
LOOKUPS: dict[str, Any] = {"failures": 7}


@pytest.mark.parametrize("found", [REJECTED, FORBIDDEN, NO_METHOD, page("no signal")])
@pytest.mark.parametrize(
    ("policy", "attempts", "action"),
    [
        (VERIFY, 1, ResponseAction.WAIT),
        (VERIFY, 8, ResponseAction.GIVE_UP),
        (OTHERS_ACCEPTED, 1, ResponseAction.GIVE_UP),
    ],
)
def test_signal_whose_lookup_cannot_be_read_waits_for_the_first_accepted_one(
    found: Response, policy: Policy, attempts: int, action: ResponseAction
) -> None:
    signal = a_signal(Stage.LOOK_UP, attempts=attempts)

    assert decide(signal, found, policy).action is action


def test_signal_that_another_one_may_be_is_given_up_after_others_were_accepted() -> (
    None
):
    policy = Policy(
        looks_up=True, lookup_delay=DELAY, accepted=1, page=Page(is_doubtful=True)
    )

    assert decide(a_signal(Stage.LOOK_UP, **LOOKUPS), page(), policy) == (
        ResponseDecision(ResponseAction.GIVE_UP, Stage.LOOK_UP, delay=DELAY)
    )


@pytest.mark.parametrize(
    ("facts", "cursor", "signal", "action"),
    [
        (Page(found_id="sig_1"), None, {}, ResponseAction.ACCEPT),
        (Page(), "next", {}, ResponseAction.READ_ON),
        (Page(), "read before", LATER, ResponseAction.WAIT),
        (Page(is_last=True), "next", {}, ResponseAction.WAIT),
        (Page(), None, {}, ResponseAction.WAIT),
        (Page(), None, TRIES, ResponseAction.GIVE_UP),
        (Page(shows_control=True), None, LATER, ResponseAction.SEND_AGAIN),
        (
            Page(shows_control=True, is_last=True),
            "next",
            LATER,
            ResponseAction.SEND_AGAIN,
        ),
        (Page(), None, LATER | {"shows_control": True}, ResponseAction.SEND_AGAIN),
        (Page(shows_control=True), None, LATER | TRIES, ResponseAction.GIVE_UP),
        (Page(), None, LATER, ResponseAction.LOOK_AGAIN),
        (Page(), None, LATER | LOOKUPS, ResponseAction.WAIT),
        (
            Page(is_doubtful=True, shows_control=True),
            None,
            LATER,
            ResponseAction.LOOK_AGAIN,
        ),
        (
            Page(shows_control=True),
            None,
            LATER | {"is_doubtful": True},
            ResponseAction.LOOK_AGAIN,
        ),
        (Page(is_doubtful=True), None, LOOKUPS, ResponseAction.WAIT),
        (Page(is_doubtful=True), None, LOOKUPS | TRIES, ResponseAction.GIVE_UP),
        (Page(), None, LATER | LOOKUPS | TRIES, ResponseAction.GIVE_UP),
        (Page(), "read before", TRIES, ResponseAction.GIVE_UP),
        (Page(end="read before"), "new", {}, ResponseAction.WAIT),
        (Page(end=""), "new", {}, ResponseAction.READ_ON),
    ],
    ids=[
        "found",
        "next page",
        "circling cursor",
        "older than the request",
        "nothing was accepted later",
        "nothing was accepted later, eight runs",
        "not there",
        "not there, and further pages are older",
        "not there, and an earlier page shows the later signal",
        "not there, eight attempts",
        "the list lags",
        "the list lags for long",
        "another signal may be it",
        "on an earlier page, another signal may be it",
        "another signal may be it for long",
        "another signal may be it for long, eight runs",
        "the list lags for long, eight runs",
        "circling cursor, eight runs",
        "new cursor of a page that was read before",
        "one more empty page",
    ],
)
def test_decision_on_a_page_of_a_lookup(
    facts: Page, cursor: str | None, signal: dict[str, Any], action: ResponseAction
) -> None:
    policy = Policy(looks_up=True, lookup_delay=DELAY, accepted=0, page=facts)
    read = Pages(["read before"], Counter({"read before": 1, "": 99}))
    queued = a_signal(Stage.LOOK_UP, pages=read, **signal)

    decision = decide(queued, page(cursor=cursor), policy)

    assert decision.action is action
    assert decision.ids.signal == facts.found_id
    assert (decision.stage is Stage.SEND) == (action is ResponseAction.SEND_AGAIN)


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (page(), ResponseAction.CHECK_SOURCE),
        (page(LISTED), ResponseAction.CHECK_SOURCE),
        (REJECTED, ResponseAction.CHECK_SOURCE),
        (FORBIDDEN, ResponseAction.CHECK_SOURCE),
        (response(ResponseKind.REFUSED, 404), ResponseAction.CHECK_SOURCE),
        (NO_METHOD, ResponseAction.CHECK_SOURCE),
        (UNAUTHORIZED, ResponseAction.STOP),
        (HTML, ResponseAction.STOP),
        (THROTTLED, ResponseAction.SLOW_DOWN),
        (NOT_SENT, ResponseAction.RETRY),
        (UNKNOWN, ResponseAction.RETRY),
    ],
)
def test_decision_on_the_response_to_the_first_run_check(
    found: Response, action: ResponseAction
) -> None:
    decision = decide(a_signal(Stage.ASK), found, VERIFY)

    assert decision.action is action
    assert decision.stage is Stage.CLAIM


@pytest.mark.parametrize(
    ("stage", "found", "counts", "policy", "action", "outcome"),
    [
        (Stage.SEND, NOT_SENT, (7, 0), OTHERS_ACCEPTED, ResponseAction.RETRY, None),
        (Stage.SEND, NOT_SENT, (8, 0), VERIFY, ResponseAction.RETRY, None),
        (
            Stage.SEND,
            NOT_SENT,
            (8, 0),
            OTHERS_ACCEPTED,
            ResponseAction.GIVE_UP,
            "rejected",
        ),
        (Stage.SEND, UNKNOWN, (8, 0), OTHERS_ACCEPTED, ResponseAction.RETRY, None),
        (Stage.LOOK_UP, NOT_SENT, (1, 6), OTHERS_ACCEPTED, ResponseAction.RETRY, None),
        (Stage.LOOK_UP, UNKNOWN, (1, 7), VERIFY, ResponseAction.RETRY, None),
        (
            Stage.LOOK_UP,
            UNKNOWN,
            (1, 7),
            OTHERS_ACCEPTED,
            ResponseAction.GIVE_UP,
            "unknown",
        ),
        (
            Stage.LOOK_UP,
            NOT_SENT,
            (1, 7),
            OTHERS_ACCEPTED,
            ResponseAction.GIVE_UP,
            "unknown",
        ),
    ],
)
def test_retries_end_after_eight_attempts_if_other_signals_are_accepted(
    stage: Stage,
    found: Response,
    counts: tuple[int, int],
    policy: Policy,
    action: ResponseAction,
    outcome: str | None,
) -> None:
    attempts, lookups = counts
    signal = a_signal(stage, attempts=attempts, failures=lookups)

    decision = decide(signal, found, policy)

    assert decision.action is action
    assert decision.is_failure
    assert outcome is None or decision.outcome == outcome
