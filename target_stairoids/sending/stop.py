"""Why a run ends before its input does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_stairoids.exceptions import IncompleteError

if TYPE_CHECKING:
    from target_stairoids.exceptions import StairoidsError


class Stop:
    """The reason to stop, made by the run and shared by all its parts.

    Attributes:
        reason: The first reason to stop; None while the run goes on.
    """

    def __init__(self) -> None:
        self.reason: StairoidsError | None = None

    def set(self, reason: StairoidsError | None) -> None:
        """Start nothing more, if there is a reason. The first reason counts."""
        self.reason = self.reason or reason

    @property
    def is_hard(self) -> bool:
        """Whether requests that no worker has begun must not be sent either."""
        return self.reason is not None and not isinstance(self.reason, IncompleteError)
