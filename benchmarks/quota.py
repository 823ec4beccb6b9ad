"""Quota: the share of real quota minutes that is used, without a refused request.

For each plan, the target sends signals for more than two minutes to a sandbox with that
quota. The ideal is a burst, a wait of one minute, a burst, and so on. There is one
round, which takes two minutes for each plan.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from benchmarks.inputs import write_trials
from benchmarks.processes import BIN, seconds
from stairoids_sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Scope

PLANS = {"Starter": 60, "Growth": 300, "Agency": 1_000}
_MINUTES = 2.5
_SLACK = 4.0  # seconds over the ideal


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield the seconds of each plan, more than one minute for any share."""
    minutes = max(1.5, _MINUTES * scope.share)
    for plan, quota in PLANS.items():
        count = int(quota * minutes)
        ideal = 60 * (math.ceil(count / quota) - 1)
        taken, throttled = _seconds(plan.lower(), count)
        assert throttled == 0, f"{throttled} requests of {plan} were throttled"
        yield Figure(
            path=f"quota of {plan}: {count:,} signals at {quota:,} per minute",
            value=taken,
            unit="s",
            beside=f"the ideal, {ideal} s; 0 throttled",
            at_most=ideal + _SLACK,
        )


def _seconds(plan: str, count: int) -> tuple[float, int]:
    """Return seconds taken and requests throttled."""
    with tempfile.TemporaryDirectory() as name, Sandbox(plan=plan) as sandbox:
        records, config = Path(name) / "records.jsonl", Path(name) / "config.json"
        write_trials(records, count)
        settings = {
            "api_url": sandbox.url,
            "api_key": "sk_test_sandbox",
            "ledger_url": f"sqlite:///{name}/ledger.db",
            "first_run": "send",
        }
        config.write_text(json.dumps(settings))
        command = [str(BIN / "target-stairoids"), "--config", str(config)]
        taken = seconds(command, records)
        assert len(sandbox.signals) == count
        return taken, sum(request.status == 429 for request in sandbox.requests)
