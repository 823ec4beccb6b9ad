"""The signature a receiver checks: HMAC-SHA256 over the raw bytes."""

from __future__ import annotations

import hashlib
import hmac


def signature_of(body: bytes, secret: str) -> str:
    """Write the value of ``X-Stairoids-Signature``."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
