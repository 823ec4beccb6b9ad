"""The signature: proof that a body comes from whoever knows a secret.

Stairoids signs the body only, so nothing else of a delivery may be believed.
Everything here is total: whatever bytes arrive, the answer is a key id or None.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = re.compile(rb"sha256=([0-9a-fA-F]{64})")


def sign(body: bytes, secret: str) -> bytes:
    """Return the ``X-Stairoids-Signature`` value for ``body``."""
    return b"sha256=" + hmac.digest(secret.encode(), body, "sha256").hex().encode()


def key_id_of(secret: str) -> str:
    """Name a secret without telling it, to see which one is still in use."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


class Verifier:
    """Checks bodies against every secret that is active.

    Args:
        secrets: One, or during a rotation several. None may be empty: anybody
            can sign with an empty secret.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [
            (key_id_of(secret), hmac.new(secret.encode(), digestmod="sha256"))
            for secret in secrets
        ]

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def key_ids(self) -> list[str]:
        """The names of the secrets, in their order."""
        return [key_id for key_id, _ in self._keys]

    def key_id_for(self, body: bytes, header: bytes) -> str | None:
        """Say which secret signed ``body``.

        Every secret is tried, and compared in constant time, so that the time
        an answer takes tells nothing about the secrets.

        Returns:
            The key id of the secret, or None if the header proves nothing.
        """
        match = _HEADER.fullmatch(header)
        if match is None:
            return None
        presented = bytes.fromhex(match[1].decode("ascii"))
        found = None
        for key_id, keyed in self._keys:
            # A copy: hmac.digest lets another thread in, and waits for it.
            expected = keyed.copy()
            expected.update(body)
            if hmac.compare_digest(expected.digest(), presented):
                found = key_id
        return found
