"""Quota: how exactly real minutes are used, and that no request is ever throttled.

For each plan, so many signals that the sliding minute is filled more than twice go to a
sandbox that keeps the quota. The ideal is a burst, a minute's wait, a burst, and so on.
Takes a little over two minutes a plan, once: rounds would add nothing but minutes.
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
    """Yield seconds for each plan; more than one minute whatever the share."""
    minutes = max(1.5, _MINUTES * scope.share)
    for plan, quota in PLANS.items():
        count = int(quota * minutes)
        ideal = 60 * (math.ceil(count / quota) - 1)
        taken, throttled = _seconds(plan.lower(), count)
        assert throttled == 0, f"{throttled} requests of {plan} were throttled"
        yield Figure(
            path=f"pace of {plan}: {count:,} signals at {quota:,} a minute",
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
