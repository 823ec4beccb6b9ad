"""Why a run stops early. Signals beyond a limit stay pending for the next run."""

from __future__ import annotations

from target_stairoids.exceptions import IncompleteError, StairoidsError
from target_stairoids.settings import Settings

GRACE_SECONDS = 10.0  # how long the requests in flight of a stopped run may take


def limit_reached(
    settings: Settings, *, minutes: float = 0, signals: int = 0, requests: int = 0
) -> IncompleteError | None:
    """Return why a run must stop; `requests` are those of all runs today (UTC)."""
    for limit, used, sentences in (
        (settings.max_run_minutes, minutes, "`max_run_minutes` ({}) is reached."),
        (
            settings.max_signals_per_run,
            signals,
            "`max_signals_per_run` ({}) is reached. Run again.",
        ),
        (
            settings.requests_per_day,
            requests,
            "`requests_per_day` ({}) is reached. Run again after midnight (00:00 UTC).",
        ),
    ):
        if limit is not None and used >= limit:
            return IncompleteError(sentences.format(limit))
    return None


class Stop:
    """The reason to stop, made by the run and shared by all its parts."""

    def __init__(self) -> None:
        self.reason: StairoidsError | None = None

    def set(self, reason: StairoidsError | None) -> None:
        """Start nothing more, if there is a reason.

        The first reason counts, and a hard one, such as SIGTERM, more than others.
        """
        if self.reason is None or not (self.is_hard or _is_soft(reason)):
            self.reason = reason

    @property
    def is_hard(self) -> bool:
        """Whether requests that no worker has begun must not be sent either."""
        return not _is_soft(self.reason)


def _is_soft(reason: StairoidsError | None) -> bool:
    return reason is None or isinstance(reason, IncompleteError)
