"""Read the store for the admin port, in threads that delay nothing else.

A search in many events takes long. The threads of `asyncio.to_thread` are not used,
because large deliveries wait for them, and so does the end of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from stairoids_common.http import Result, in_thread
from tap_stairoids_webhooks.exceptions import StoreUnavailableError

_AT_ONCE = 4  # more reads wait
_STOPPING = "the receiver is stopping"


class StoreReads:
    """Calls functions that read the store, a few at once."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._is_stopped = False

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return the result of a call, unless the receiver stops."""
        async with self._slots:
            if self._is_stopped:
                raise StoreUnavailableError(_STOPPING)
            found = asyncio.wrap_future(in_thread(call))
            self._waiting.add(found)
            try:
                return await found
            except asyncio.CancelledError:
                if self._is_stopped:
                    raise StoreUnavailableError(_STOPPING) from None
                raise
            finally:
                self._waiting.discard(found)

    def stop(self) -> None:
        """Give up the calls that have no result yet, and all later calls."""
        self._is_stopped = True
        for found in self._waiting:
            found.cancel()
