"""Sign bodies, and verify the signature of a body.

Stairoids signs the body only: HMAC-SHA256 with the webhook secret. Any bytes can be
verified; no input raises an error.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

_HEADER = re.compile(rb"sha256=([0-9a-fA-F]{64})")


def sign(body: bytes, secret: str) -> bytes:
    """Return the ``X-Stairoids-Signature`` value for ``body``."""
    return b"sha256=" + hmac.digest(secret.encode(), body, "sha256").hex().encode()


def key_id_of(secret: str) -> str:
    """Return a short name of a secret that does not reveal the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


class Verifier:
    """Verifies bodies with every active secret; there are several during a rotation.

    None of them may be empty, because anybody can sign with an empty secret.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [
            (key_id_of(secret), hmac.new(secret.encode(), digestmod="sha256"))
            for secret in secrets
        ]
        self.key_ids = [key_id for key_id, _ in self._keys]

    def key_id_for(self, body: bytes, header: bytes) -> str | None:
        """Return the key id of the secret that signed ``body``; None for no secret.

        Every secret is tried and compared in constant time, so that the response time
        reveals nothing about the secrets.
        """
        match = _HEADER.fullmatch(header)
        if match is None:
            return None
        presented = bytes.fromhex(match[1].decode("ascii"))
        found = None
        for key_id, keyed in self._keys:
            # Not hmac.digest, which releases the interpreter lock and waits for it.
            expected = keyed.copy()
            expected.update(body)
            if hmac.compare_digest(expected.digest(), presented):
                found = key_id
        return found
