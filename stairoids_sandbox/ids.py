"""Ids: opaque strings with the documented prefixes.

An account's or contact's id is derived from its domain or e-mail address, so it
is the same after a restart without being stored.
"""

from __future__ import annotations

import secrets
from hashlib import sha256


def new_id(prefix: str) -> str:
    """Make a fresh id such as ``sig_5f0c…``."""
    return f"{prefix}_{secrets.token_hex(12)}"


def id_for(prefix: str, name: str) -> str:
    """Derive the id that ``name`` has for ever."""
    return f"{prefix}_{sha256(name.encode()).hexdigest()[:16]}"
