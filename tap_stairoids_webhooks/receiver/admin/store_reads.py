"""Read the store for the admin port, in threads that delay nothing else.

A search in many events takes long. The threads of `asyncio.to_thread` are not used,
because large deliveries wait for them, and so does the end of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

from tap_stairoids_webhooks.exceptions import StoreUnavailableError

Result = TypeVar("Result")

_AT_ONCE = 4  # more reads wait


class StoreReads:
    """Calls functions that read the store, a few at once."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._is_stopped = False

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return the result of a call.

        Raises:
            StoreUnavailableError: The receiver stops.
        """
        async with self._slots:
            if self._is_stopped:
                raise _stopping()
            found = asyncio.get_running_loop().create_future()
            self._waiting.add(found)
            Thread(target=_resolve, args=[found, call], daemon=True).start()
            try:
                result: Result = await found
            finally:
                self._waiting.discard(found)
            return result

    def stop(self) -> None:
        """Give up the calls that have no result yet, and all later calls."""
        self._is_stopped = True
        for found in self._waiting:
            if not found.done():
                found.set_exception(_stopping())


def _stopping() -> StoreUnavailableError:
    return StoreUnavailableError("the receiver is stopping")


def _resolve(found: asyncio.Future[Result], call: Callable[[], Result]) -> None:
    """Call a function in this thread, and give its outcome to the event loop."""
    try:
        outcome: object = call()
        settle: Callable[[Any], None] = found.set_result
    except Exception as error:  # noqa: BLE001 -- the request gets it
        outcome, settle = error, found.set_exception

    def settle_if_awaited() -> None:
        if not found.done():
            settle(outcome)

    with suppress(RuntimeError):  # the event loop has ended
        found.get_loop().call_soon_threadsafe(settle_if_awaited)
