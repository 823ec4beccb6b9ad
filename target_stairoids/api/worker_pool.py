"""The worker pool: threads that send one request at a time and decide nothing.

A worker takes requests from one queue and puts responses into another. A byte in a pipe
wakes the deciding thread, which may be waiting for the tap at the same time.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from target_stairoids.api.client import Client, Response, ResponseKind

Job = TypeVar("Job")
_AHEAD = 4  # requests handed in, for each that may be in flight
_OVERDUE = Response(kind=ResponseKind.UNKNOWN, failure="no response in time")


@dataclass(slots=True, eq=False)
class _Request(Generic[Job]):
    job: Job
    send: Callable[[Client], Response]
    began: float = math.inf  # monotonic time; written by its thread


class WorkerPool(Generic[Job]):
    """Threads, started when requests come.

    A request counts as unanswered after `patience` seconds. Its thread may still wait
    for a host name or a slow response.
    """

    def __init__(self, client: Client, count: int, *, patience: float) -> None:
        self._client = client
        self._count = count
        self._patience = patience
        self._threads: list[threading.Thread] = []
        self._stuck = 0  # threads whose request was given up
        self._requests: SimpleQueue[_Request[Job] | None] = SimpleQueue()
        self._responses: SimpleQueue[tuple[_Request[Job], Response]] = SimpleQueue()
        self._open: set[_Request[Job]] = set()  # requests without a response
        self.wake_descriptor, self._waker = os.pipe()
        os.set_blocking(self.wake_descriptor, False)
        os.set_blocking(self._waker, False)

    @property
    def in_flight(self) -> list[Job]:
        """The jobs whose requests have no response yet."""
        return [request.job for request in self._open]

    @property
    def longest_wait(self) -> float:
        """Seconds that may pass between handing a request in and its last byte."""
        return _AHEAD * self._patience

    def room(self, *, ahead: bool) -> int:
        """Return how many more requests may be handed in.

        With `ahead`, some wait behind those in flight, so that no worker waits for a
        commit. Without it, sending reaches about half the speed.
        """
        return self._count * (_AHEAD if ahead else 1) - len(self._open)

    @property
    def next_overdue(self) -> float | None:
        """When, in monotonic seconds, the next request may be given up."""
        if not self._open:
            return None
        began = min(request.began for request in self._open)
        return min(began, time.monotonic()) + self._patience

    def hand_in(self, job: Job, send: Callable[[Client], Response]) -> None:
        """Let a worker send a request for a job."""
        request = _Request(job, send)
        self._open.add(request)
        wanted = min(self._count, len(self._open))
        if len(self._threads) - self._stuck < wanted:
            thread = threading.Thread(target=self._work, name="worker", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._requests.put(request)

    def responses(self) -> list[tuple[Job, Response]]:
        """Return the jobs that got a response or were given up since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_descriptor, 65536)
        found: list[tuple[Job, Response]] = []
        with contextlib.suppress(Empty):
            while True:
                request, response = self._responses.get_nowait()
                if request in self._open:
                    self._open.remove(request)
                    found.append((request.job, response))
                else:
                    self._stuck -= 1  # too late, but the thread is free again
        overdue = time.monotonic() - self._patience
        for request in [r for r in self._open if r.began <= overdue]:
            self._open.remove(request)
            found.append((request.job, _OVERDUE))
            self._stuck += 1
        return found

    def recall(self) -> list[Job]:
        """Take back the jobs that no worker has begun, in the order of `hand_in`."""
        found = []
        with contextlib.suppress(Empty):
            while True:
                request = self._requests.get_nowait()
                if request is not None:
                    self._open.remove(request)
                    found.append(request.job)
        return found

    def wake(self) -> None:
        """Wake the deciding thread; safe in a handler of SIGTERM or SIGINT."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._waker, b"!")

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            request.began = time.monotonic()
            try:
                response = request.send(self._client)
            except Exception as error:  # noqa: BLE001 - without a response, the run hangs
                failure = f"the request failed ({type(error).__name__})"
                response = Response(kind=ResponseKind.UNKNOWN, failure=failure)
            self._responses.put((request, response))
            if self.is_worth_a_commit or response.kind is not ResponseKind.ACCEPTED:
                self.wake()
        self._client.close()

    @property
    def is_worth_a_commit(self) -> bool:
        """Whether to commit now. Else more responses come soon, for the same commit."""
        runs_dry = self._requests.qsize() <= self._count
        return runs_dry or self._responses.qsize() >= 3 * self._count // 2

    def close(self) -> None:
        """Stop the threads. One that is still in a request is left behind."""
        for _ in self._threads:
            self._requests.put(None)
        if not self._open and not self._stuck:
            for thread in self._threads:
                thread.join()
        descriptor, self._waker = self._waker, -1
        os.close(descriptor)
        os.close(self.wake_descriptor)


def readable(descriptors: Iterable[int], seconds: float) -> list[int]:
    """Return the descriptors with something to read; wait for it if there is none."""
    poll = select.poll()  # `select` takes no descriptors above 1,023
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(1000 * seconds)]
