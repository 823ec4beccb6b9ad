"""The first-run check: a new ledger must not send everything again.

A new ledger does not fit a Stairoids that already has signals of the same source. One
request finds out, before the first claim of each source.
"""

from __future__ import annotations

import logging

from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.signal_lookup import listed
from target_stairoids.exceptions import ConfigError

logger = logging.getLogger(__name__)


def refusal(source: str, response: Response) -> ConfigError | None:
    """Return why nothing may be sent, from a list with at most one signal of a source.

    If the list cannot be read, the signals are sent, with a warning.
    """
    found = listed(response) if response.kind is ResponseKind.ACCEPTED else None
    if found:
        return ConfigError(
            "The ledger is new, but Stairoids already holds signals of source "
            f"`{source}`. Sending now might repeat them. Restore the ledger "
            "(`ledger_url`), or set `first_run` to `baseline` (remember all records, "
            "send only later ones) or `send` (send all)."
        )
    if found is None:
        logger.warning(
            "The ledger is new and the API key may not read. So the target cannot "
            "check whether signals of source `%s` were sent before. Sending them.",
            source,
        )
    return None
