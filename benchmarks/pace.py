"""Quota: how exactly real minutes are used, and that no request is ever throttled.

For each plan, so many signals that the sliding minute is filled more than twice go to a
sandbox that keeps the quota. The ideal is a burst, a minute's wait, a burst, and so on.
Takes a little over two minutes a plan. Run `python benchmarks/pace.py --help`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stairoids_sandbox.server import Sandbox

PLANS = {"starter": 60, "growth": 300, "agency": 1_000}


def messages(count: int) -> str:
    """Return a stream of so many records."""
    properties = {"id": {"type": "integer"}, "email": {"type": "string"}}
    schema = {
        "type": "SCHEMA",
        "stream": "trials",
        "schema": {"properties": properties},
        "key_properties": ["id"],
    }
    records = (
        {
            "type": "RECORD",
            "stream": "trials",
            "record": {"id": n, "email": f"u{n}@example.com"},
        }
        for n in range(1, count + 1)
    )
    return "".join(json.dumps(message) + "\n" for message in (schema, *records))


def run(plan: str, count: int) -> tuple[float, int, int]:
    """Return seconds taken, signals accepted and requests throttled."""
    with tempfile.TemporaryDirectory() as name, Sandbox(plan=plan) as sandbox:
        folder = Path(name)
        config = folder / "config.json"
        settings = {
            "api_url": sandbox.url,
            "api_key": "sk_test_sandbox",
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "first_run": "send",
        }
        config.write_text(json.dumps(settings))
        target = Path(sys.executable).parent / "target-stairoids"
        start = time.perf_counter()
        subprocess.run(
            [target, "--config", config],
            input=messages(count),
            text=True,
            check=True,
            capture_output=True,
        )
        taken = time.perf_counter() - start
        throttled = sum(request.status == 429 for request in sandbox.requests)
        return taken, len(sandbox.signals), throttled


def main() -> None:
    """Print seconds against the ideal for each plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plans", nargs="*", default=list(PLANS), metavar="PLAN")
    parser.add_argument("--minutes", type=float, default=2.5, help="quota to use up")
    options = parser.parse_args()
    for plan in options.plans:
        quota = PLANS[plan]
        count = int(quota * options.minutes)
        ideal = 60 * (math.ceil(count / quota) - 1)
        taken, accepted, throttled = run(plan, count)
        assert accepted == count
        print(
            f"{plan:8} {count:5} signals at {quota:4}/min: {taken:6.1f} s "
            f"(ideal {ideal} s), {throttled} throttled"
        )


if __name__ == "__main__":
    main()
