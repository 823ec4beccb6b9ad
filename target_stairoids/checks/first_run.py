"""The first-run check: a new ledger must not send everything again.

A new ledger does not fit a Stairoids that already has signals of the same source. One
request finds out, before the first claim of each source.
"""

from __future__ import annotations

from enum import Enum, auto

from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.signal_lookup import listed
from target_stairoids.exceptions import ConfigError

#: Statuses of a key, or an API, that cannot list signals.
CANNOT_READ = {403, 404, 405}


class Finding(Enum):
    """The result of the check for one source."""

    CLEAR = auto()  # Stairoids has no signals of the source
    UNREADABLE = auto()  # the key may not read
    ASK_AGAIN = auto()  # the request failed


def finding_of(source: str, response: Response) -> Finding:
    """Return the finding from a list with at most one signal of a source.

    Raises:
        ConfigError: Stairoids has signals of the source, and the ledger is new.
    """
    found = listed(response) if response.kind is ResponseKind.ACCEPTED else None
    if found:
        raise ConfigError(
            "The ledger is new, but Stairoids already holds signals of source "
            f"`{source}`. Sending now might repeat them. Restore the ledger "
            "(`ledger_url`), or set `first_run` to `baseline` (remember all records, "
            "send only later ones) or `send` (send all)."
        )
    is_final = response.kind in {ResponseKind.ACCEPTED, ResponseKind.REJECTED}
    if is_final or response.status in CANNOT_READ:
        return Finding.CLEAR if found == [] else Finding.UNREADABLE
    return Finding.ASK_AGAIN
