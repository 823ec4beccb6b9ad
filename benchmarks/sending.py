"""Sending without quota: the target against bare `requests` threads.

Both post the same bodies, eight at a time, to a sandbox that responds after a delay.
Whole processes run in turn.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, in_turn, median_ratio
from benchmarks.inputs import write_trials
from benchmarks.processes import BIN, seconds, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Scope

#: Faults of the sandbox, and the share of the usual number of signals.
ANSWERS: dict[str, tuple[tuple[str, ...], float]] = {
    "at once": ((), 1.0),
    "after 5 ms": (("slow,delay_ms=5",), 1.0),
    "after 50 ms": (("slow,delay_ms=50",), 0.2),
    "at once, 1 % after 500 ms": (("slow,delay_ms=500,probability=0.01",), 1.0),
}
POOL = """
import json, queue, sys, threading, requests

url, threads = sys.argv[1], int(sys.argv[2])
bodies = queue.SimpleQueue()
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "RECORD":
        record = message["record"]
        bodies.put({
            "type": "trials", "source": "singer",
            "contact": {"email": record["email"]},
            "properties": {"id": record["id"], "plan": record["plan"]},
        })

def work():
    session = requests.Session()
    headers = {"Authorization": "Bearer sk_test_sandbox"}
    while True:
        try:
            body = bodies.get_nowait()
        except queue.Empty:
            return
        response = session.post(
            url + "/signals", json=body, headers=headers, timeout=30
        )
        response.raise_for_status()

workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""


@contextmanager
def sandbox(faults: tuple[str, ...]) -> Iterator[str]:
    """Run a sandbox in a process of its own; yields the URL of its API."""
    command = [str(BIN / "stairoids-sandbox"), "serve", "--port", "0"]
    for fault in faults:
        command += ["--fault", fault]
    with serving(command) as line:
        yield json.loads(line)["url"]


def pool(records: Path, faults: tuple[str, ...]) -> float:
    """Return how long eight bare threads take."""
    with sandbox(faults) as url:
        return seconds([sys.executable, "-c", POOL, url, "8"], records)


def target(records: Path, faults: tuple[str, ...]) -> float:
    """Return how long a target with a new ledger takes."""
    with sandbox(faults) as url, tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.json"
        settings = {
            "api_url": url,
            "api_key": "sk_test_sandbox",
            "ledger_url": f"sqlite:///{name}/ledger.db",
            "first_run": "send",
            "requests_per_minute": 1_000_000,
        }
        config.write_text(json.dumps(settings))
        command = [str(BIN / "target-stairoids"), "--config", str(config)]
        return seconds(command, records)


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield signals a second for each kind of responses, beside bare threads."""
    with tempfile.TemporaryDirectory() as name:
        for label, (faults, share) in ANSWERS.items():
            count = scope.number(int(15_000 * share))
            records = Path(name) / "records.jsonl"
            write_trials(records, count)
            measures = {
                "pool": partial(pool, records, faults),
                "ours": partial(target, records, faults),
            }
            found = in_turn(measures, scope.rounds)
            threads = count / statistics.median(found["pool"])
            yield Figure(
                path=f"sending, responses {label}",
                value=count / statistics.median(found["ours"]),
                unit="signals/s",
                beside=f"eight bare `requests` threads, {threads:,.0f}/s",
                ratio=median_ratio(found["pool"], found["ours"]),
                at_least=0.85 if label == "after 5 ms" else 0.8,
            )
