"""The guard of the first run: a ledger that was lost must not send everything again.

A new ledger and a Stairoids that already holds signals of the same source do not fit
together. One read finds out, before the first signal of each source.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from target_stairoids.api.client import ResponseKind
from target_stairoids.api.signal_lookup import listed
from target_stairoids.exceptions import ConfigError

if TYPE_CHECKING:
    from target_stairoids.api.client import Response


class Ruling(Enum):
    """What the guard says of a source."""

    UNASKED = auto()
    ASKED = auto()
    CLEAR = auto()
    CANNOT_TELL = auto()  # the key may not read


class Guard:
    """Rulings by source.

    Args:
        is_on: Whether there is anything to guard: `first_run` is `guard` and the
            ledger is new.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._rulings: dict[str, Ruling] = {}

    def ruling(self, source: str) -> Ruling:
        """Return what is known of a source."""
        if not self._is_on:
            return Ruling.CLEAR
        return self._rulings.get(source, Ruling.UNASKED)

    def ask(self, source: str) -> dict[str, str | int]:
        """Return the query that finds out, and note that it is under way."""
        self._rulings[source] = Ruling.ASKED
        return {"source": source, "limit": 1}

    def forget(self, source: str) -> None:
        """Note that the question was not asked after all."""
        self._rulings.pop(source, None)

    def hear(self, source: str, response: Response) -> Ruling:
        """Rule on a source by the response; `UNASKED` means ask again later.

        Raises:
            ConfigError: Stairoids holds signals of the source and the ledger is new.
        """
        found = listed(response) if response.kind is ResponseKind.ACCEPTED else None
        if found:
            msg = (
                f"The ledger is new, but Stairoids already holds signals of source "
                f"`{source}`: sending now might repeat them to people. Restore the "
                "ledger (`ledger_url`), or set `first_run` to `baseline` (remember "
                "what there is, send only what comes after) or `send` (send it all)."
            )
            raise ConfigError(msg)
        if response.kind in {ResponseKind.ACCEPTED, ResponseKind.REJECTED} or (
            response.status in {403, 404, 405}
        ):
            clear = Ruling.CLEAR if found == [] else Ruling.CANNOT_TELL
            self._rulings[source] = clear
        else:
            self._rulings[source] = Ruling.UNASKED
        return self._rulings[source]
