"""The rate limiter uses the whole quota and no more, with a model of the server."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

from target_stairoids.api.client import Response, ResponseKind, kind_of
from target_stairoids.api.rate_limiter import RateLimiter


def a_response(
    status: int | None = 201, limit: int | None = 60, remaining: int | None = None
) -> Response:
    if status is None:
        return Response(kind=ResponseKind.UNKNOWN)
    kind = kind_of(status, asks_to_return=False)
    return Response(kind=kind, status=status, limit=limit, remaining=remaining)


def requested(
    limiter: RateLimiter, count: int, *, at: float, responded_at: float | None = None
) -> None:
    """Start requests that get responses without a new quota."""
    for _ in range(count):
        limiter.start()
    for _ in range(count):
        limiter.responded(a_response(), at if responded_at is None else responded_at)


def test_rate_limit_is_learned_from_the_first_response() -> None:
    limiter = RateLimiter(None)
    assert limiter.room(0) == 1

    limiter.start()
    assert limiter.room(0) == 0
    assert limiter.wait(0) is None

    limiter.responded(a_response(limit=300, remaining=299), 0.1)
    assert limiter.limit == 300
    assert limiter.room(0.1) == 299
    assert limiter.wait(0.1) == 0


def test_first_request_without_a_response_is_followed_by_one_other() -> None:
    limiter = RateLimiter(None)

    requested_without_response(limiter, at=5)

    assert limiter.room(5) == 1


def requested_without_response(limiter: RateLimiter, *, at: float) -> None:
    limiter.start()
    limiter.responded(a_response(None), at)


def test_rate_limit_from_the_settings_is_kept() -> None:
    limiter = RateLimiter(3)
    assert limiter.room(0) == 1

    limiter.start()
    limiter.responded(a_response(limit=1000, remaining=1), 0)

    assert limiter.limit == 3
    assert limiter.room(0) == 2


def test_slot_is_free_one_window_after_its_response() -> None:
    limiter = RateLimiter(2)
    requested(limiter, 1, at=0, responded_at=10)
    requested(limiter, 1, at=0, responded_at=12)

    rooms = {now: limiter.room(now) for now in (12, 69.999, 70, 71.999, 72)}

    assert rooms == {12: 0, 69.999: 0, 70: 1, 71.999: 1, 72: 2}


def test_wait_is_until_the_next_slot_is_free() -> None:
    limiter = RateLimiter(1)
    assert limiter.wait(0) == 0

    limiter.start()
    assert limiter.wait(1) is None

    limiter.responded(a_response(), 10)
    assert limiter.wait(10) == 60
    assert limiter.wait(69) == 1
    assert limiter.wait(70) == 0


def test_request_in_flight_keeps_its_slot() -> None:
    limiter = RateLimiter(1)

    limiter.start()

    assert limiter.room(10_000) == 0


def test_request_without_a_response_keeps_its_slot_for_a_window() -> None:
    limiter = RateLimiter(1)

    requested_without_response(limiter, at=5)

    assert limiter.room(64.9) == 0
    assert limiter.room(65) == 1


def test_slots_that_other_programs_use_are_left_to_them() -> None:
    limiter = RateLimiter(None)

    limiter.start()
    limiter.responded(a_response(limit=60, remaining=20), 0)

    assert limiter.room(0) == 20
    assert limiter.room(59.9) == 20
    assert limiter.room(60) == 60


def test_own_requests_in_flight_are_not_taken_for_others() -> None:
    limiter = RateLimiter(None)
    limiter.start()
    limiter.responded(a_response(limit=60, remaining=59), 0)

    for _ in range(9):
        limiter.start()
    limiter.responded(a_response(limit=60, remaining=50), 1)

    assert limiter.room(1) == 50


def test_wait_is_a_window_if_others_use_the_whole_quota() -> None:
    limiter = RateLimiter(None)

    limiter.start()
    limiter.responded(a_response(429, limit=60, remaining=0), 0)

    assert limiter.room(0) == 0
    assert limiter.wait(0) == 60


def test_responses_without_headers_lift_the_rate_limit() -> None:
    limiter = RateLimiter(None)

    limiter.start()
    limiter.responded(a_response(201, limit=None), 0)

    assert limiter.limit is None
    assert limiter.room(0) > 10_000


@pytest.mark.parametrize("status", [500, 404, 301])
def test_failure_without_headers_keeps_the_rate_limit(status: int) -> None:
    limiter = RateLimiter(None)

    limiter.start()
    limiter.responded(a_response(status, limit=None), 0)

    assert limiter.limit == 60


def test_throttling_without_headers_means_the_rate_limit_of_the_smallest_plan() -> None:
    limiter = RateLimiter(None)
    limiter.start()
    limiter.responded(a_response(201, limit=None), 0)

    limiter.start()
    limiter.responded(a_response(429, limit=None), 0)

    assert limiter.limit == 60


@pytest.mark.parametrize(("limit", "known"), [(1, 1), (0, 1), (1000, 1000)])
def test_rate_limit_may_change_at_any_time(limit: int, known: int) -> None:
    limiter = RateLimiter(None)
    requested(limiter, 5, at=0)

    limiter.start()
    limiter.responded(a_response(limit=limit), 1)

    assert limiter.limit == known
    assert limiter.room(1) == max(0, known - 6)
    assert limiter.room(61) == known


def test_shorter_pause_does_not_shorten_a_longer_one() -> None:
    limiter = RateLimiter(10)
    requested(limiter, 1, at=0)

    limiter.hold(30, 0)
    limiter.hold(5, 1)

    assert limiter.room(29.9) == 0
    assert limiter.wait(20) == 10
    assert limiter.room(30) == 9


def test_requests_are_counted() -> None:
    limiter = RateLimiter(10)

    requested(limiter, 3, at=0)
    limiter.start()

    assert limiter.requests == 4


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
        return a_response(429 if is_throttled else 201, self.limit, remaining)


@dataclass
class Model:
    """A run that sends as fast as its rate limiter allows."""

    limiter: RateLimiter
    server: ModelServer
    latency: float
    in_flight: int = 8
    sent: list[float] = field(default_factory=list)

    def send(self, count: int, *, start: float = 0) -> float:
        """Send so many signals; return the seconds it took."""
        spread = random.Random(7)  # noqa: S311 - delays, no secret
        numbers = itertools.count()
        under_way: list[tuple[float, int, str, Response | None]] = []
        now, free, left = start, self.in_flight, count
        while left or under_way:
            while left and free and self.limiter.room(now):
                self.limiter.start()
                left, free = left - 1, free - 1
                arrival = now + self.latency * spread.random()
                heapq.heappush(under_way, (arrival, next(numbers), "arrive", None))
            wait = self.limiter.wait(now) if left and free else None
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
            self.limiter.responded(response, now)
            if response.status == 429:
                left += 1
                self.limiter.hold(1, now)
            else:
                self.sent.append(now)
        return now - start


@pytest.mark.parametrize("latency", [0.0, 0.005, 0.2, 1.0])
@pytest.mark.parametrize("limit", [1, 60, 300, 1000])
def test_rate_limit_is_used_and_never_exceeded(limit: int, latency: float) -> None:
    server = ModelServer(limit)

    seconds = Model(RateLimiter(None), server, latency, in_flight=64).send(
        limit * 5 + 1
    )

    assert server.throttled == 0
    assert 300 / seconds >= 0.97


@pytest.mark.parametrize("latency", [0.005, 0.2, 1.0])
def test_150_signals_at_60_per_minute_need_at_most_124_seconds(latency: float) -> None:
    server = ModelServer(60)

    seconds = Model(RateLimiter(None), server, latency).send(150)

    assert server.throttled == 0
    assert 120 <= seconds <= 124 + 8 * latency


@pytest.mark.parametrize("used", [1, 30, 59, 60])
@pytest.mark.parametrize("pause", [0.0, 20.0, 59.0])
def test_restarted_run_respects_the_requests_of_the_last_minute(
    pause: float, used: int
) -> None:
    server = ModelServer(60)
    Model(RateLimiter(None), server, 0.05).send(used)

    seconds = Model(RateLimiter(None), server, 0.05).send(60, start=pause + 1)

    assert server.throttled <= (used == 60)  # the first request finds out
    assert seconds <= 124


@pytest.mark.parametrize(
    ("known", "room", "later"), [(None, 1, 752), (1_000, 1, 752), (60, 0, 752)]
)
def test_next_run_does_not_wait_for_the_quota_of_a_larger_plan(
    known: int | None, room: int, later: int
) -> None:
    """The run before started 247 requests. It may have ended before a response."""
    limiter = RateLimiter(None)
    limiter.note_others([(5.0, 247, known)], 100)

    assert limiter.room(100) == room
    limiter.start()
    limiter.responded(a_response(limit=1_000, remaining=752), 101)

    assert limiter.room(101) == later


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "latency"), [(2, 1.0), (4, 0.005), (10, 0.2)])
def test_runs_that_know_each_others_requests_never_exceed_the_rate_limit(
    runs: int, latency: float
) -> None:
    """As the scheduler does, each learns the starts of the others before a step."""
    server, spread = ModelServer(60), random.Random(3)  # noqa: S311 - delays, no secret
    limiters = [RateLimiter(None) for _ in range(runs)]
    starts: list[tuple[float, RateLimiter]] = []
    sent = Counter[RateLimiter]()
    under_way: list[tuple[float, int, RateLimiter, Response | None]] = []
    numbers, now = itertools.count(), 0.0

    def note_others(limiter: RateLimiter, now: float) -> None:
        found = [
            (now - at, 1, by.known_limit)
            for at, by in starts[-200:]
            if by is not limiter and at > now - 120
        ]
        limiter.note_others(found, now)

    while now < 240:
        for limiter in spread.sample(limiters, runs):
            note_others(limiter, now)
            free = 8 - sum(one[2] is limiter for one in under_way)
            for _ in range(min(free, limiter.room(now))):
                limiter.start()
                starts.append((now, limiter))
                arrival = now + latency * spread.random()
                heapq.heappush(under_way, (arrival, next(numbers), limiter, None))
        waits = [wait for one in limiters if (wait := one.wait(now))]
        now += min([0.1, *waits])
        while under_way and under_way[0][0] <= now:
            at, _, limiter, response = heapq.heappop(under_way)
            if response is None:
                back = at + latency * spread.random()
                answer = server.arrive(at)
                heapq.heappush(under_way, (back, next(numbers), limiter, answer))
            else:
                note_others(limiter, now)
                limiter.responded(response, now)
                sent[limiter] += 1

    assert server.throttled == 0
    assert sent.total() >= 0.9 * 240
    assert min(sent[limiter] for limiter in limiters) >= 120 / runs


def test_rate_limit_of_a_shared_key_is_used_and_rarely_exceeded() -> None:
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
