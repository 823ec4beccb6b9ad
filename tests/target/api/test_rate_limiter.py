"""The pace uses the quota and never breaks it: no clock, no network, a model server."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from target_stairoids.api.client import Response, ResponseKind, kind_of
from target_stairoids.api.rate_limiter import RateLimiter


def an_answer(
    status: int | None = 201, limit: int | None = 60, remaining: int | None = None
) -> Response:
    if status is None:
        return Response(kind=ResponseKind.UNKNOWN)
    kind = kind_of(status, asks_to_return=False)
    return Response(kind=kind, status=status, limit=limit, remaining=remaining)


def requested(
    pace: RateLimiter, count: int, *, at: float, answered_at: float | None = None
) -> None:
    """Start requests and have them answered with nothing new."""
    for _ in range(count):
        pace.start()
    for _ in range(count):
        pace.responded(an_answer(), at if answered_at is None else answered_at)


def test_one_request_goes_first_and_its_headers_are_believed() -> None:
    pace = RateLimiter(None)
    assert pace.room(0) == 1

    pace.start()
    assert pace.room(0) == 0
    assert pace.wait(0) is None

    pace.responded(an_answer(limit=300, remaining=299), 0.1)
    assert pace.limit == 300
    assert pace.room(0.1) == 299
    assert pace.wait(0.1) == 0


def test_first_request_without_an_answer_is_followed_by_one_other() -> None:
    pace = RateLimiter(None)

    requested_without_answer(pace, at=5)

    assert pace.room(5) == 1


def requested_without_answer(pace: RateLimiter, *, at: float) -> None:
    pace.start()
    pace.responded(an_answer(None), at)


def test_pace_that_was_set_begins_with_one_request_and_learns_nothing() -> None:
    pace = RateLimiter(3)
    assert pace.room(0) == 1

    pace.start()
    pace.responded(an_answer(limit=1000, remaining=1), 0)

    assert pace.limit == 3
    assert pace.room(0) == 2


def test_slot_is_free_exactly_one_window_after_its_answer() -> None:
    pace = RateLimiter(2)
    requested(pace, 1, at=0, answered_at=10)
    requested(pace, 1, at=0, answered_at=12)

    rooms = {now: pace.room(now) for now in (12, 69.999, 70, 71.999, 72)}

    assert rooms == {12: 0, 69.999: 0, 70: 1, 71.999: 1, 72: 2}


def test_wait_is_until_the_next_slot_is_free() -> None:
    pace = RateLimiter(1)
    assert pace.wait(0) == 0

    pace.start()
    assert pace.wait(1) is None

    pace.responded(an_answer(), 10)
    assert pace.wait(10) == 60
    assert pace.wait(69) == 1
    assert pace.wait(70) == 0


def test_request_in_flight_holds_its_slot_however_long_it_takes() -> None:
    pace = RateLimiter(1)

    pace.start()

    assert pace.room(10_000) == 0


def test_request_without_an_answer_may_have_been_counted() -> None:
    pace = RateLimiter(1)

    requested_without_answer(pace, at=5)

    assert pace.room(64.9) == 0
    assert pace.room(65) == 1


def test_what_others_use_is_left_to_them() -> None:
    pace = RateLimiter(None)

    pace.start()
    pace.responded(an_answer(limit=60, remaining=20), 0)

    assert pace.room(0) == 20
    assert pace.room(59.9) == 20
    assert pace.room(60) == 60


def test_own_requests_under_way_are_not_taken_for_others() -> None:
    pace = RateLimiter(None)
    pace.start()
    pace.responded(an_answer(limit=60, remaining=59), 0)

    for _ in range(9):
        pace.start()
    pace.responded(an_answer(limit=60, remaining=50), 1)

    assert pace.room(1) == 50


def test_exhausted_quota_of_others_is_waited_for() -> None:
    pace = RateLimiter(None)

    pace.start()
    pace.responded(an_answer(429, limit=60, remaining=0), 0)

    assert pace.room(0) == 0
    assert pace.wait(0) == 60


def test_answers_without_headers_lift_the_limit() -> None:
    pace = RateLimiter(None)

    pace.start()
    pace.responded(an_answer(201, limit=None), 0)

    assert pace.limit is None
    assert pace.room(0) > 10_000


@pytest.mark.parametrize("status", [500, 404, 301])
def test_failure_without_headers_lifts_nothing(status: int) -> None:
    pace = RateLimiter(None)

    pace.start()
    pace.responded(an_answer(status, limit=None), 0)

    assert pace.limit == 60


def test_throttling_without_headers_means_the_smallest_plan() -> None:
    pace = RateLimiter(None)
    pace.start()
    pace.responded(an_answer(201, limit=None), 0)

    pace.start()
    pace.responded(an_answer(429, limit=None), 0)

    assert pace.limit == 60


@pytest.mark.parametrize(("limit", "known"), [(1, 1), (0, 1), (1000, 1000)])
def test_limit_may_change_at_any_time(limit: int, known: int) -> None:
    pace = RateLimiter(None)
    requested(pace, 5, at=0)

    pace.start()
    pace.responded(an_answer(limit=limit), 1)

    assert pace.limit == known
    assert pace.room(1) == max(0, known - 6)
    assert pace.room(61) == known


def test_hold_stops_everything_and_a_shorter_one_does_not_shorten_it() -> None:
    pace = RateLimiter(10)
    requested(pace, 1, at=0)

    pace.hold(30, 0)
    pace.hold(5, 1)

    assert pace.room(29.9) == 0
    assert pace.wait(20) == 10
    assert pace.room(30) == 9


def test_requests_are_counted() -> None:
    pace = RateLimiter(10)

    requested(pace, 3, at=0)
    pace.start()

    assert pace.requests == 4


@dataclass
class ModelServer:
    """Stairoids' quota: a sliding minute over the requests that arrived."""

    limit: int
    arrivals: deque[float] = field(default_factory=deque)
    throttled: int = 0

    def arrive(self, now: float) -> Response:
        while self.arrivals and self.arrivals[0] + 60 <= now:
            self.arrivals.popleft()
        is_throttled = len(self.arrivals) >= self.limit
        if is_throttled:
            self.throttled += 1
        else:
            self.arrivals.append(now)
        remaining = self.limit - len(self.arrivals)
        return an_answer(429 if is_throttled else 201, self.limit, remaining)


@dataclass
class Model:
    """A run that sends as fast as its pace allows, with a few requests in flight."""

    pace: RateLimiter
    server: ModelServer
    latency: float
    in_flight: int = 8
    sent: list[float] = field(default_factory=list)

    def send(self, count: int, *, start: float = 0) -> float:
        """Send so many signals; returns the seconds it took."""
        spread = random.Random(7)  # noqa: S311 - delays, no secret
        numbers = itertools.count()
        under_way: list[tuple[float, int, str, Response | None]] = []
        now, free, left = start, self.in_flight, count
        while left or under_way:
            while left and free and self.pace.room(now):
                self.pace.start()
                left, free = left - 1, free - 1
                arrival = now + self.latency * spread.random()
                heapq.heappush(under_way, (arrival, next(numbers), "arrive", None))
            wait = self.pace.wait(now) if left and free else None
            soonest = under_way[0][0] if under_way else float("inf")
            if wait is not None and now + wait < soonest:
                now += max(wait, 1e-6)
                continue
            now, _, what, response = heapq.heappop(under_way)
            if what == "arrive":
                back = now + self.latency * spread.random()
                response = self.server.arrive(now)
                heapq.heappush(under_way, (back, next(numbers), "response", response))
                continue
            assert response is not None
            free += 1
            self.pace.responded(response, now)
            if response.status == 429:
                left += 1
                self.pace.hold(1, now)
            else:
                self.sent.append(now)
        return now - start


@pytest.mark.parametrize("latency", [0.0, 0.005, 0.2, 1.0])
@pytest.mark.parametrize("limit", [1, 60, 300, 1000])
def test_quota_is_used_and_never_broken(limit: int, latency: float) -> None:
    server = ModelServer(limit)

    seconds = Model(RateLimiter(None), server, latency, in_flight=64).send(
        limit * 5 + 1
    )

    assert server.throttled == 0
    assert 300 / seconds >= 0.97


@pytest.mark.parametrize("latency", [0.005, 0.2, 1.0])
def test_150_signals_at_60_a_minute_need_at_most_124_seconds(latency: float) -> None:
    server = ModelServer(60)

    seconds = Model(RateLimiter(None), server, latency).send(150)

    assert server.throttled == 0
    assert 120 <= seconds <= 124 + 8 * latency


@pytest.mark.parametrize("used", [1, 30, 59, 60])
@pytest.mark.parametrize("pause", [0.0, 20.0, 59.0])
def test_restarted_run_does_not_take_the_minute_for_empty(
    pause: float, used: int
) -> None:
    server = ModelServer(60)
    Model(RateLimiter(None), server, 0.05).send(used)

    seconds = Model(RateLimiter(None), server, 0.05).send(60, start=pause + 1)

    assert server.throttled <= (used == 60)  # the first request finds out
    assert seconds <= 124


def test_key_shared_with_others_is_used_up_and_rarely_throttled() -> None:
    """Others take 20 slots at once each minute, between our responses; we get 40."""
    server = ModelServer(60)
    others = deque(minute * 60 + 0.1 for minute in range(10) for _ in range(20))

    class Shared(ModelServer):
        def arrive(self, now: float) -> Response:
            while others and others[0] <= now:
                server.arrive(others.popleft())
            return server.arrive(now)

    seconds = Model(RateLimiter(None), Shared(60), 0.05).send(400)

    assert seconds <= 600
    assert server.throttled <= 30
