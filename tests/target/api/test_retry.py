"""Retries: backoff, Retry-After, the quota of the day, and outages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stairoids_common.retry import pause_before
from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.retry import OutageClock, day_is_spent


def throttling(retry_after: float | None = 5) -> Response:
    return Response(kind=ResponseKind.THROTTLED, status=429, retry_after=retry_after)


def a_failure(retry_after: float | None = None) -> Response:
    return Response(kind=ResponseKind.UNKNOWN, status=503, retry_after=retry_after)


def an_outage_clock(outage_seconds: float = 900, *, tolerated: int = 0) -> OutageClock:
    return OutageClock(outage_seconds, tolerated=tolerated)


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(0, 1), (1, 1), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (12, 60), (9999, 60)],
)
def test_backoff_doubles_up_to_a_minute_with_jitter(
    attempt: int, longest: float
) -> None:
    pauses = [pause_before(attempt) for _ in range(200)]

    assert all(longest / 2 <= pause <= longest for pause in pauses)
    assert max(pauses) - min(pauses) > longest / 10


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(0, 1), (5, 5), (120, 120), (120.5, None), (86400, None), (float("inf"), None)],
)
def test_retry_after_of_up_to_two_minutes_is_a_pause_and_a_longer_one_ends_the_day(
    retry_after: float, pause: float | None
) -> None:
    assert an_outage_clock().throttled(throttling(retry_after), 0) == pause


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
def test_message_about_the_spent_day_has_its_end_if_known(
    retry_after: float | None, until: str
) -> None:
    now = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)

    assert day_is_spent(retry_after, now) == (
        f"The quota of the day is spent, {until}. The rest is pending for another run."
    )


def test_throttling_without_retry_after_is_a_pause() -> None:
    pause = an_outage_clock().throttled(throttling(None), 0)

    assert pause is not None
    assert pause > 0


@pytest.mark.parametrize(
    ("retry_after", "times", "ends"),
    [
        (1, [0, 1, 2, 3, 100, 179], False),
        (1, [0, 60, 120, 180], True),
        (121, [0], True),
    ],
)
def test_quota_of_the_day_is_spent_after_three_windows_or_a_long_retry_after(
    retry_after: float, times: list[float], *, ends: bool
) -> None:
    clock = an_outage_clock()

    pauses = [clock.throttled(throttling(retry_after), now) for now in times]

    assert (pauses[-1] is None) is ends
    assert None not in pauses[:-1]


def test_accepted_signal_resets_the_count_of_throttlings() -> None:
    clock = an_outage_clock()
    pauses = []

    for now in (0, 100, 200, 300):
        pauses.append(clock.throttled(throttling(5), now))
        clock.end()

    assert pauses == [5, 5, 5, 5]


def test_few_failures_do_not_pause_other_signals() -> None:
    clock = an_outage_clock(tolerated=8)

    assert [clock.failed(a_failure(), 0) for _ in range(8)] == [0] * 8
    assert 0.5 <= clock.failed(a_failure(), 0) <= 1
    assert 1 <= clock.failed(a_failure(), 1) <= 2


def test_requests_that_fail_together_double_the_pause_once() -> None:
    clock = an_outage_clock(tolerated=8)
    together = [clock.failed(a_failure(), 0) for _ in range(32)]

    assert 0.5 <= sum(together) <= 1
    assert 1 <= clock.failed(a_failure(), 1) <= 2


def test_retry_after_of_a_failure_is_a_pause_of_up_to_two_minutes() -> None:
    clock = an_outage_clock(tolerated=8)

    assert clock.failed(a_failure(7), 0) == 7
    assert clock.failed(a_failure(86400), 0) == 120


def test_failures_during_a_retry_after_do_not_double_the_pause() -> None:
    clock = an_outage_clock(tolerated=0)
    clock.failed(a_failure(10), 0)

    during = [clock.failed(a_failure(), now) for now in range(1, 10)]

    assert during == [0] * 9
    assert 1 <= clock.failed(a_failure(), 10) <= 2


def test_backoff_starts_again_after_an_accepted_signal() -> None:
    clock = an_outage_clock(tolerated=0)
    for _ in range(9):
        clock.failed(a_failure(), 0)

    clock.end()

    assert clock.failed(a_failure(), 0) <= 1


@pytest.mark.parametrize(("now", "is_outage"), [(899.9, False), (900, True)])
def test_outage_begins_after_outage_seconds_of_failures(
    now: float, *, is_outage: bool
) -> None:
    clock = an_outage_clock(outage_seconds=900)
    clock.failed(a_failure(), 0)
    clock.failed(a_failure(), 500)

    assert (now >= clock.begins_at) is is_outage


def test_outage_counts_from_the_first_failure_after_an_accepted_signal() -> None:
    clock = an_outage_clock(outage_seconds=900)
    clock.failed(a_failure(), 0)

    clock.end()
    assert clock.begins_at > 10_000

    clock.failed(a_failure(), 10_000)
    assert clock.begins_at > 10_899
    assert clock.begins_at <= 10_900


def test_throttling_is_not_an_outage() -> None:
    clock = an_outage_clock(outage_seconds=0)

    clock.throttled(throttling(), 0)

    assert clock.begins_at > 10_000


def test_first_failure_is_an_outage_with_outage_seconds_0() -> None:
    clock = an_outage_clock(outage_seconds=0)

    clock.failed(a_failure(), 7)

    assert clock.begins_at <= 7


def test_two_failures_with_a_long_quiet_time_between_are_not_an_outage() -> None:
    clock = an_outage_clock(900)
    clock.failed(a_failure(), 0)
    clock.failed(a_failure(), 901)

    assert clock.begins_at > 901


def test_failures_a_minute_apart_are_an_outage_of_a_few_seconds() -> None:
    clock = an_outage_clock(5)
    clock.failed(a_failure(), 0)
    clock.failed(a_failure(), 60)

    assert clock.begins_at <= 60


def test_outage_is_logged_once_for_each_reason() -> None:
    clock = an_outage_clock()
    refused = Response(kind=ResponseKind.NOT_SENT, failure="no connection (timeout)")
    logged = []

    for now, response in enumerate([a_failure(), a_failure(), refused, a_failure()]):
        clock.failed(response, now)
        logged.append(clock.is_new(now))

    assert logged == [True, False, True, False]
    assert clock.begins_at == 900


def test_repeated_short_failure_is_logged_once_per_minute() -> None:
    clock = an_outage_clock()
    logged = []

    for now in (0, 10, 59, 60):
        clock.failed(a_failure(), now)
        logged.append(clock.is_new(now))
        clock.end()

    assert logged == [True, False, False, True]
    assert clock.reason == ""
