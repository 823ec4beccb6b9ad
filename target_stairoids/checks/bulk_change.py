"""The bulk-change check: stop before much of a known stream is sent again."""

from __future__ import annotations

from collections import Counter

from target_stairoids.exceptions import IncompleteError

_MOST = 1_000
_SHARE = 0.2


class BulkChangeCheck:
    """Counts the changed entities of each stream."""

    def __init__(self) -> None:
        self._changed: Counter[str] = Counter()

    def changed(self, stream: str, *, known: int) -> IncompleteError | None:
        """Count a changed entity; return why the run must stop, if it must.

        Args:
            known: How many entities of the stream are known; 0 for a new stream.
        """
        self._changed[stream] += 1
        count = self._changed[stream]
        if count <= _MOST or not count > _SHARE * known > 0:
            return None
        return IncompleteError(
            f"Stream `{stream}`: over {_MOST} and over {_SHARE:.0%} of its {known} "
            "known entities have changed in this run. If that is intended, set "
            "`allow_surge` and run again. If a column changed, name it in the "
            "mapping's `ignore_changes`."
        )
