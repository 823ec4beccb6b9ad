"""The worker pool: threads that send one request at a time and decide nothing.

A worker takes requests from one queue and puts responses into another. A byte in a pipe
wakes the deciding thread, which may be waiting for the tap at the same time.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from target_stairoids.api.client import Client, Response, ResponseKind

Job = TypeVar("Job")
_AHEAD = 4  # requests handed in, for each that may be in flight
_OVERDUE = Response(kind=ResponseKind.UNKNOWN, failure="no response in time")
Request = Callable[[Client], Response]


class WorkerPool(Generic[Job]):
    """Threads, started when requests come.

    Args:
        client: Sends the requests. Each thread closes its own session.
        count: How many requests may be in flight.
        patience: Seconds after which a request counts as unanswered. Its thread may
            still wait for a host name or a slow response.

    Attributes:
        unanswered: Number of a request -> its job, while it has no response.
    """

    def __init__(self, client: Client, count: int, *, patience: float) -> None:
        self._client = client
        self._count = count
        self._patience = patience
        self._threads: list[threading.Thread] = []
        self._stuck = 0  # threads whose request was given up
        self._requests: SimpleQueue[tuple[int, Request] | None] = SimpleQueue()
        self._responses: SimpleQueue[tuple[int, Response]] = SimpleQueue()
        self.unanswered: dict[int, Job] = {}
        self._began: dict[int, float] = {}  # written by the threads
        self._handed_in = 0
        self.wake_descriptor, self._waker = os.pipe()
        os.set_blocking(self.wake_descriptor, False)
        os.set_blocking(self._waker, False)

    @property
    def longest_wait(self) -> float:
        """Seconds that may pass between handing a request in and its last byte."""
        return _AHEAD * self._patience

    def room(self, *, ahead: bool) -> int:
        """Return how many more requests may be handed in.

        With `ahead`, some wait behind those in flight, so that no worker waits for a
        commit. Without it, sending reaches about half the speed.
        """
        return self._count * (_AHEAD if ahead else 1) - len(self.unanswered)

    @property
    def next_overdue(self) -> float | None:
        """When, in monotonic seconds, the next request may be given up."""
        if not self.unanswered:
            return None
        began = list(self._began.values())
        return min(began, default=time.monotonic()) + self._patience

    def hand_in(self, job: Job, request: Request) -> None:
        """Let a worker send a request for a job."""
        self._handed_in += 1
        self.unanswered[self._handed_in] = job
        wanted = min(self._count, len(self.unanswered))
        if len(self._threads) - self._stuck < wanted:
            thread = threading.Thread(target=self._work, name="worker", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._requests.put((self._handed_in, request))

    def responses(self) -> list[tuple[Job, Response]]:
        """Return the jobs that got a response or were given up since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_descriptor, 65536)
        found = []
        with contextlib.suppress(Empty):
            while True:
                number, response = self._responses.get_nowait()
                if number in self.unanswered:
                    found.append((self.unanswered.pop(number), response))
                else:
                    self._stuck -= 1  # too late, but the thread is free again
        overdue = time.monotonic() - self._patience
        for number, began in list(self._began.items()):
            if began <= overdue and number in self.unanswered:
                self._began.pop(number, None)  # its thread may have removed it
                found.append((self.unanswered.pop(number), _OVERDUE))
                self._stuck += 1
        return found

    def recall(self) -> list[Job]:
        """Take back the jobs that no worker has begun, in the order of `hand_in`."""
        found = []
        with contextlib.suppress(Empty):
            while True:
                item = self._requests.get_nowait()
                if item is not None:
                    found.append(self.unanswered.pop(item[0]))
        return found

    def wake(self) -> None:
        """Wake the deciding thread; safe in a handler of SIGTERM or SIGINT."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._waker, b"!")

    def _work(self) -> None:
        while (item := self._requests.get()) is not None:
            number, request = item
            self._began[number] = time.monotonic()
            try:
                response = request(self._client)
            except Exception as error:  # noqa: BLE001 - without a response, the run hangs
                failure = f"the request failed ({type(error).__name__})"
                response = Response(kind=ResponseKind.UNKNOWN, failure=failure)
            self._began.pop(number, None)
            self._responses.put((number, response))
            # While other requests wait, several responses share one commit.
            runs_dry = self._requests.qsize() <= self._count
            if runs_dry or self._responses.qsize() >= self._count:
                self.wake()
        self._client.close()

    def close(self) -> None:
        """Stop the threads. One that is still in a request is left behind."""
        for _ in self._threads:
            self._requests.put(None)
        if not self.unanswered and not self._stuck:
            for thread in self._threads:
                thread.join()
        descriptor, self._waker = self._waker, -1
        os.close(descriptor)
        os.close(self.wake_descriptor)
