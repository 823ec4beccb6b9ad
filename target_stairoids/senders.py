"""Senders: threads that do one request at a time and nothing else.

They decide nothing. A thread that waits for requests takes them from a queue and puts
the answers into another; a byte in a pipe wakes the thread that decides, which may be
waiting for the tap at the same time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from target_stairoids.client import Answer, Meaning

if TYPE_CHECKING:
    from target_stairoids.client import Client

Job = TypeVar("Job")
Request = Callable[["Client"], "Answer"]


class Senders(Generic[Job]):
    """A fixed number of threads, started when the first request comes.

    Args:
        client: What the requests are made with; each thread closes its session.
        count: How many threads, and so how many requests may be in flight.
    """

    def __init__(self, client: Client, count: int) -> None:
        self._client = client
        self._count = count
        self._threads: list[threading.Thread] = []
        self._requests: SimpleQueue[tuple[Job, Request] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Job, Answer]] = SimpleQueue()
        self.wake_descriptor, self._waker = os.pipe()
        os.set_blocking(self.wake_descriptor, False)
        os.set_blocking(self._waker, False)
        self.in_flight = 0

    @property
    def free(self) -> int:
        """How many more requests may be handed in."""
        return self._count - self.in_flight

    def hand_in(self, job: Job, request: Request) -> None:
        """Let some thread make a request for a job."""
        if len(self._threads) < min(self._count, self.in_flight + 1):
            thread = threading.Thread(target=self._work, name="sender", daemon=True)
            self._threads.append(thread)
            thread.start()
        self.in_flight += 1
        self._requests.put((job, request))

    def answers(self) -> list[tuple[Job, Answer]]:
        """Return the jobs that were answered since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_descriptor, 65536)
        found = []
        with contextlib.suppress(Empty):
            while True:
                found.append(self._answers.get_nowait())
        self.in_flight -= len(found)
        return found

    def wake(self) -> None:
        """Wake the thread that decides; safe in a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._waker, b"!")

    def _work(self) -> None:
        while (item := self._requests.get()) is not None:
            job, request = item
            try:
                answer = request(self._client)
            except Exception as error:  # noqa: BLE001 - a lost answer would hang the run
                trouble = f"the request failed ({type(error).__name__})"
                answer = Answer(meaning=Meaning.UNKNOWN, trouble=trouble)
            self._answers.put((job, answer))
            self.wake()
        self._client.close()

    def close(self, *, patience: float) -> None:
        """Stop the threads; one still in a request is left behind after so long."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(timeout=patience if self.in_flight == 0 else 0.1)
        os.close(self.wake_descriptor)
        descriptor, self._waker = self._waker, -1
        os.close(descriptor)
