"""Why a run stops early. Its other signals stay pending for the next run."""

from __future__ import annotations

from target_stairoids.exceptions import IncompleteError, StairoidsError

GRACE_SECONDS = 10.0  # how long the requests in flight of a stopped run may take


class Stop:
    """The reason to stop, made by the run and shared by all its parts."""

    def __init__(self) -> None:
        self.reason: StairoidsError | None = None

    def set(self, reason: StairoidsError | None) -> None:
        """Start nothing more, if there is a reason.

        The first reason counts, and a hard one, such as SIGTERM, more than others.
        """
        is_soft = reason is None or isinstance(reason, IncompleteError)
        if self.reason is None or not (self.is_hard or is_soft):
            self.reason = reason

    @property
    def is_hard(self) -> bool:
        """Whether requests that no worker has begun must not be sent either."""
        return self.reason is not None and not isinstance(self.reason, IncompleteError)
