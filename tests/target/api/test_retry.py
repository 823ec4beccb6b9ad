"""How long to pause when Stairoids throttles or fails, and when to stop."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.retry import OutageClock, day_is_spent, pause_before


def throttling(retry_after: float | None = 5) -> Response:
    return Response(kind=ResponseKind.THROTTLED, status=429, retry_after=retry_after)


def a_failure(retry_after: float | None = None) -> Response:
    return Response(kind=ResponseKind.UNKNOWN, status=503, retry_after=retry_after)


def a_trouble(outage_seconds: float = 900, *, tolerated: int = 0) -> OutageClock:
    return OutageClock(outage_seconds, tolerated=tolerated)


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(0, 1), (1, 1), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (12, 60), (9999, 60)],
)
def test_pause_doubles_up_to_a_minute_and_is_spread(
    attempt: int, longest: float
) -> None:
    pauses = [pause_before(attempt) for _ in range(200)]

    assert all(longest / 2 <= pause <= longest for pause in pauses)
    assert max(pauses) - min(pauses) > longest / 10


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(0, 1), (5, 5), (120, 120), (120.5, None), (86400, None), (float("inf"), None)],
)
def test_retry_after_is_obeyed_up_to_two_minutes_beyond_the_day_is_spent(
    retry_after: float, pause: float | None
) -> None:
    assert a_trouble().throttled(throttling(retry_after), 0) == pause


@pytest.mark.parametrize(
    ("retry_after", "until"),
    [
        (3600.0, "until 2026-01-31 23:30 UTC"),
        (86_400.0, "until 2026-02-01 22:30 UTC"),
        (5.0, "and Stairoids does not say until when"),
        (None, "and Stairoids does not say until when"),
        (float("inf"), "and Stairoids does not say until when"),
        (1e18, "and Stairoids does not say until when"),
    ],
)
def test_spent_day_says_until_when_if_that_is_known(
    retry_after: float | None, until: str
) -> None:
    now = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)

    said = day_is_spent(retry_after, now)

    assert said == (
        f"The quota of the day is spent, {until}; the rest is pending for another run."
    )


def test_throttling_without_a_time_pauses_all_the_same() -> None:
    pause = a_trouble().throttled(throttling(None), 0)

    assert pause is not None
    assert pause > 0


def test_third_throttling_in_a_row_means_the_day_is_spent() -> None:
    trouble = a_trouble()

    pauses = [trouble.throttled(throttling(5), now) for now in (0, 5, 10)]

    assert pauses == [5, 5, None]


def test_requests_throttled_together_count_once() -> None:
    trouble = a_trouble()

    pauses = [trouble.throttled(throttling(5), now) for now in (0, 0, 0.1, 4.9, 5)]

    assert pauses == [5, 5, 5, 5, 5]


def test_acceptance_in_between_makes_it_a_new_row() -> None:
    trouble = a_trouble()
    pauses = []

    for now in (0, 10, 20, 30):
        pauses.append(trouble.throttled(throttling(5), now))
        trouble.is_over()

    assert pauses == [5, 5, 5, 5]


def test_few_failures_stop_nobody_else() -> None:
    trouble = a_trouble(tolerated=8)

    assert [trouble.failed(a_failure(), 0) for _ in range(8)] == [0] * 8
    assert 0.5 <= trouble.failed(a_failure(), 0) <= 1
    assert 1 <= trouble.failed(a_failure(), 0) <= 2


def test_failure_that_names_a_time_is_waited_for() -> None:
    trouble = a_trouble(tolerated=8)

    assert trouble.failed(a_failure(7), 0) == 7
    assert trouble.failed(a_failure(86400), 0) == 120


def test_decision_ends_the_pauses() -> None:
    trouble = a_trouble(tolerated=0)
    for _ in range(9):
        trouble.failed(a_failure(), 0)

    trouble.is_over()

    assert trouble.failed(a_failure(), 0) <= 1


@pytest.mark.parametrize(("now", "is_outage"), [(899.9, False), (900, True)])
def test_outage_is_failure_for_so_long_and_no_decision(
    now: float, *, is_outage: bool
) -> None:
    trouble = a_trouble(outage_seconds=900)
    trouble.failed(a_failure(), 0)
    trouble.failed(a_failure(), 500)

    assert trouble.is_outage(now) is is_outage


def test_outage_is_counted_from_the_first_failure_after_a_decision() -> None:
    trouble = a_trouble(outage_seconds=900)
    trouble.failed(a_failure(), 0)

    trouble.is_over()
    assert not trouble.is_outage(10_000)

    trouble.failed(a_failure(), 10_000)
    assert not trouble.is_outage(10_899)
    assert trouble.is_outage(10_900)


def test_throttling_is_no_outage() -> None:
    trouble = a_trouble(outage_seconds=0)

    trouble.throttled(throttling(), 0)

    assert not trouble.is_outage(10_000)


def test_outage_of_no_seconds_is_the_first_failure() -> None:
    trouble = a_trouble(outage_seconds=0)

    trouble.failed(a_failure(), 7)

    assert trouble.is_outage(7)


def test_requests_throttled_together_count_once_even_if_they_may_return_at_once() -> (
    None
):
    trouble = a_trouble()

    pauses = [trouble.throttled(throttling(0), now) for now in (0, 0.001, 0.2)]

    assert None not in pauses


def test_two_failures_with_a_long_quiet_between_are_no_outage() -> None:
    trouble = a_trouble(900)
    trouble.failed(a_failure(), 0)
    trouble.failed(a_failure(), 901)

    assert not trouble.is_outage(901)


def test_failures_a_minute_apart_are_an_outage_however_short_it_may_be() -> None:
    trouble = a_trouble(5)
    trouble.failed(a_failure(), 0)
    trouble.failed(a_failure(), 60)

    assert trouble.is_outage(60)


def test_trouble_is_news_once_for_each_reason() -> None:
    trouble = a_trouble()
    refused = Response(kind=ResponseKind.NOT_SENT, trouble="no connection (timeout)")
    news = []

    for now, response in enumerate([a_failure(), a_failure(), refused, a_failure()]):
        trouble.failed(response, now)
        news.append(trouble.is_new(now))

    assert news == [True, False, True, False]
    assert trouble.seconds_left(3) == 897


def test_failure_now_and_then_is_news_once_a_minute() -> None:
    trouble = a_trouble()
    news = []

    for now in (0, 10, 59, 60):
        trouble.failed(a_failure(), now)
        news.append(trouble.is_new(now))
        trouble.is_over()

    assert news == [True, False, False, True]
    assert trouble.reason == ""
