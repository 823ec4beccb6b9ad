"""The run report: what became of every record, and whether the sum adds up."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from target_stairoids.exceptions import ConfigError
from target_stairoids.gate import Outcome

if TYPE_CHECKING:
    from pathlib import Path


class Report:
    """Counts of one run."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self.run = 0
        self.read = 0
        self.candidates = 0
        self.recovered: Counter[str] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self._by_stream: dict[str, Counter[Outcome]] = {}
        self._reasons: Counter[tuple[str, Outcome, str]] = Counter()

    def count(self, stream: str, outcome: Outcome, reason: str = "") -> None:
        """Note what became of one signal."""
        self.outcomes[outcome] += 1
        self._by_stream.setdefault(stream, Counter())[outcome] += 1
        if reason:
            self._reasons[stream, outcome, reason] += 1

    @property
    def adds_up(self) -> bool:
        """Whether every signal of the run has exactly one outcome."""
        return self.candidates == self.outcomes.total()

    def as_dict(
        self, *, exit_code: int, requests: int, quota: int | None
    ) -> dict[str, Any]:
        """Return the report as the JSON object that users read by machine."""
        ended = datetime.now(UTC)
        return {
            "run": self.run,
            "started_at": self._started.isoformat(),
            "ended_at": ended.isoformat(),
            "seconds": round((ended - self._started).total_seconds(), 3),
            "exit_code": exit_code,
            "read": self.read,
            "candidates": self.candidates,
            "adds_up": self.adds_up,
            "outcomes": {str(o): self.outcomes[o] for o in Outcome},
            "streams": {
                stream: {str(outcome): count for outcome, count in counts.items()}
                for stream, counts in self._by_stream.items()
            },
            "reasons": [
                {
                    "stream": stream,
                    "outcome": str(outcome),
                    "reason": reason,
                    "count": count,
                }
                for (stream, outcome, reason), count in self._reasons.most_common()
            ],
            "recovered": dict(self.recovered),
            "requests": requests,
            "requests_per_minute": quota,
        }


def write(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON; readers never see half of one.

    Raises:
        ConfigError: `report_path` cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)  # noqa: PTH105 - atomic, and says so by name
    except OSError as error:
        msg = f"The report cannot be written, see `report_path`: {error.strerror}."
        raise ConfigError(msg) from error
