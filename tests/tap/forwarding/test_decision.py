"""The next step after each response of a handler."""

from __future__ import annotations

import pytest

from tap_stairoids_webhooks.forwarding.decision import (
    Decision,
    Response,
    Step,
    decide,
)

RETRY = Decision(step=Step.RETRY, pause=5.0)


def after(seconds: float, of_all: float = 0.0) -> Decision:
    return Decision(step=Step.RETRY, pause=seconds, pause_of_all=of_all)


@pytest.mark.parametrize(
    ("response", "attempt", "decision"),
    [
        *(
            (Response(status=status), attempt, Decision(step=Step.DELIVERED))
            for status in (200, 201, 204, 299)
            for attempt in (1, 8, 9)
        ),
        *(
            (Response(status=status), attempt, RETRY)
            for status in (199, 300, 302, 400, 401, 404, 410, 429, 500, 503)
            for attempt in (1, 7)
        ),
        (Response(obstacle="timeout"), 1, RETRY),
        (Response(obstacle="timeout"), 8, Decision(step=Step.FAILED, pause=5.0)),
        (Response(status=500), 8, Decision(step=Step.FAILED, pause=5.0)),
        (Response(status=500), 9, Decision(step=Step.FAILED, pause=5.0)),
        (Response(status=500, retry_after=30.0), 1, after(30)),
        (Response(status=500, retry_after=0.0), 1, RETRY),
        (Response(status=500, retry_after=1.0), 1, RETRY),
        (Response(status=500, retry_after=1e9), 1, after(3600)),
        (Response(status=503, retry_after=2.0), 1, after(5, of_all=2)),
        (Response(status=429, retry_after=30.0), 1, after(30, of_all=30)),
        (Response(status=429, retry_after=0.0), 1, RETRY),
        (Response(status=200, retry_after=2.0), 1, Decision(step=Step.DELIVERED)),
    ],
)
def test_next_step(response: Response, attempt: int, decision: Decision) -> None:
    assert decide(response, attempt=attempt, backoff=5.0) == decision


@pytest.mark.parametrize(("attempt", "step"), [(1, Step.RETRY), (2, Step.FAILED)])
def test_event_fails_after_the_attempts_of_the_option(attempt: int, step: Step) -> None:
    response = Response(status=500)

    assert decide(response, attempt=attempt, backoff=5.0, most=2).step is step


def test_response_is_described() -> None:
    assert Response(status=500).reason == "status 500"
    assert Response(obstacle="timeout").reason == "no response (timeout)"
