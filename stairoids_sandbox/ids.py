"""Make ids with the documented prefixes."""

from __future__ import annotations

from hashlib import sha256
from random import Random

# The system's random numbers cost a system call each. Ids are not secret.
_random = Random()  # noqa: S311 -- a guessed id opens nothing


def new_id(prefix: str) -> str:
    """Return a fresh id such as ``sig_5f0c…``."""
    return f"{prefix}_{_random.getrandbits(96):024x}"


def id_for(prefix: str, name: str) -> str:
    """Return the id derived from a name, which is the same after a restart."""
    return f"{prefix}_{sha256(name.encode()).hexdigest()[:16]}"
