"""Ids: opaque strings with the documented prefixes.

An account's or contact's id is derived from its domain or e-mail address, so it
is the same after a restart without being stored.
"""

from __future__ import annotations

from hashlib import sha256
from random import Random

# Unique, not secret; asking the system for randomness costs a call each time.
_random = Random()  # noqa: S311 -- nobody gains anything by guessing an id


def new_id(prefix: str) -> str:
    """Make a fresh id such as ``sig_5f0c…``."""
    return f"{prefix}_{_random.getrandbits(96):024x}"


def id_for(prefix: str, name: str) -> str:
    """Derive the id that ``name`` has for ever."""
    return f"{prefix}_{sha256(name.encode()).hexdigest()[:16]}"
