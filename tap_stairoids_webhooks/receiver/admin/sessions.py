"""Sessions: browsers whose user has shown the admin token.

A cookie holds the session, never the token. Browsers send a cookie to every port of
this machine, so a session ends when nobody uses it, and it opens the pages only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS = 8 * 3600
_AT_ONCE = 100


class Sessions:
    """The sessions of this process.

    Args:
        token: What opens one.
        clock: Seconds that never step back.
    """

    def __init__(
        self, token: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = token.encode()
        self._clock = clock
        self._used: dict[bytes, float] = {}

    def open(self, given: str) -> str | None:
        """Open a session for whoever gives the token; None for others."""
        if not hmac.compare_digest(given.encode(errors="replace"), self._token):
            return None
        while len(self._used) >= _AT_ONCE:
            del self._used[min(self._used, key=self._used.__getitem__)]
        session = secrets.token_urlsafe(32)
        self._used[_digest(session)] = self._clock()
        return session

    def use(self, session: str) -> bool:
        """Say whether a session is open, and keep it so."""
        digest = _digest(session)
        used = self._used.get(digest)
        if used is None:
            return False
        now = self._clock()
        if now - used > IDLE_SECONDS:
            del self._used[digest]
            return False
        self._used[digest] = now
        return True

    def close(self, session: str) -> None:
        """End a session."""
        self._used.pop(_digest(session), None)


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode(errors="replace")).digest()
