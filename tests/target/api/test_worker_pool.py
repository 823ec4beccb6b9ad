"""The workers that make requests, and the deciding thread that collects responses."""

from __future__ import annotations

import select
import threading
import time

from target_stairoids.api.client import Client, Response, ResponseKind
from target_stairoids.api.worker_pool import WorkerPool
from tests.support.singer_io import wait_until

ACCEPTED = Response(kind=ResponseKind.ACCEPTED)


def collected(pool: WorkerPool[int], number: int) -> dict[int, Response]:
    """Wait until so many responses came."""
    found: dict[int, Response] = {}

    def enough() -> bool:
        found.update(pool.responses())
        return len(found) >= number

    wait_until(enough)
    return found


def a_pool(patience: float) -> WorkerPool[int]:
    client = Client("http://127.0.0.1:9/v1", "not used", timeout=1)
    return WorkerPool(client, 2, patience=patience)


def test_requests_that_never_end_are_given_up_while_others_wait() -> None:
    pool, ends = a_pool(patience=0.05), threading.Event()

    def send(_: Client) -> Response:
        ends.wait()
        return ACCEPTED

    for job in range(8):
        pool.hand_in(job, send)

    found = collected(pool, 2)

    assert {response.kind for response in found.values()} == {ResponseKind.UNKNOWN}
    assert found.keys() == {0, 1}
    ends.set()
    pool.close()


def test_all_responses_are_collected_also_the_last_few() -> None:
    pool, may_end = a_pool(patience=60), threading.Semaphore(0)

    def send(_: Client) -> Response:
        may_end.acquire()
        return ACCEPTED

    for job in range(8):
        pool.hand_in(job, send)
    may_end.release(8)
    assert len(collected(pool, 8)) == 8
    pool.close()


def test_response_that_came_is_collected_beside_requests_that_never_end() -> None:
    pool, ends = a_pool(patience=0.05), threading.Event()

    def hang(_: Client) -> Response:
        ends.wait()
        return ACCEPTED

    pool.hand_in(0, lambda _: ACCEPTED)
    for job in range(1, 9):
        pool.hand_in(job, hang)
    wait_until(lambda: (pool.next_overdue or 0) <= time.monotonic())
    found = collected(pool, 3)

    assert found[0].kind is ResponseKind.ACCEPTED
    assert {job for job, r in found.items() if r.kind is ResponseKind.UNKNOWN} == {1, 2}
    ends.set()
    pool.close()


def test_refusal_wakes_the_deciding_thread_at_once() -> None:
    pool, ends = a_pool(patience=60), threading.Semaphore(1)

    def send(_: Client) -> Response:
        ends.acquire()
        return Response(kind=ResponseKind.THROTTLED, status=429)

    for job in range(8):
        pool.hand_in(job, send)

    readable, _, _ = select.select([pool.wake_descriptor], [], [], 30)
    assert readable
    assert len(pool.responses()) == 1
    ends.release(8)
    collected(pool, 7)
    pool.close()
