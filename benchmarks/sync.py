"""Repeated sync: reading records whose signals were sent before.

Compares whole processes, in turn: the SDK's empty `RecordSink` with its defaults,
the same with its fastest settings, and `target-stairoids` over a ledger that knows
every record. Run `python benchmarks/sync.py --help`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stairoids_sandbox.server import Sandbox

EMPTY_TARGET = """
import sys
from singer_sdk import RecordSink, Target
from singer_sdk.contrib.msgspec import MsgSpecReader

class EmptySink(RecordSink):
    def process_record(self, record, context):
        pass

class EmptyTarget(Target):
    name = "target-empty"
    default_sink_class = EmptySink
    if "fast" in sys.argv[1:]:
        message_reader_class = MsgSpecReader

config = {"validate_records": False} if "fast" in sys.argv[1:] else {}
EmptyTarget(config=config).listen()
"""


def write_records(path: Path, count: int) -> None:
    """Write a stream of ten-field CRM records with a STATE after each 10,000."""
    types = dict.fromkeys(("id", "seats"), "integer") | {"mrr": "number"}
    names = ("email", "company", "website", "stage", "plan", "city", "updated_at")
    schema = {
        "type": "object",
        "properties": {
            name: {"type": ["null", types.get(name, "string")]}
            for name in ("id", *names, "seats", "mrr")
        },
    }
    message: dict[str, object] = {
        "type": "SCHEMA",
        "stream": "crm-contacts",
        "schema": schema,
        "key_properties": ["id"],
    }
    with path.open("w") as file:
        file.write(json.dumps(message) + "\n")
        for n in range(1, count + 1):
            record = {
                "id": n,
                "email": f"user.{n}@company{n % 997}.example.com",
                "company": f"Company {n % 997}",
                "website": f"https://www.company{n % 997}.example.com/",
                "stage": ("lead", "qualified", "customer")[n % 3],
                "plan": ("free", "pro", "team")[n % 3],
                "city": "Rotterdam",
                "updated_at": f"2026-01-{n % 28 + 1:02}T00:00:00Z",
                "seats": n % 50,
                "mrr": n % 1000 + 0.25,
            }
            line = {"type": "RECORD", "stream": "crm-contacts", "record": record}
            file.write(json.dumps(line) + "\n")
            if n % 10_000 == 0:
                file.write(json.dumps({"type": "STATE", "value": {"at": n}}) + "\n")


def seconds_of(command: list[str], source: Path) -> float:
    """Return how long a process takes from start to exit."""
    with source.open("rb") as lines:
        start = time.perf_counter()
        subprocess.run(command, stdin=lines, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    """Print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Sandbox() as sandbox:
        folder = Path(name)
        source = folder / "records.jsonl"
        write_records(source, options.records)
        config = folder / "config.json"
        settings = {
            "api_url": sandbox.url,
            "api_key": "sk_test_sandbox",
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "first_run": "baseline",
        }
        config.write_text(json.dumps(settings))
        target = str(Path(sys.executable).parent / "target-stairoids")
        ours = [target, "--config", str(config)]
        baseline = seconds_of(ours, source)
        empty = [sys.executable, "-c", EMPTY_TARGET]
        commands = {
            "SDK, empty RecordSink": empty,
            "SDK, empty, msgspec, no validation": [*empty, "fast"],
            "target-stairoids, nothing new": ours,
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for label, command in commands.items():
                taken[label].append(seconds_of(command, source))
    count = options.records
    print(f"first baseline of {count:,} records: {count / baseline:,.0f} records/s")
    medians = {label: statistics.median(values) for label, values in taken.items()}
    reference = medians["SDK, empty RecordSink"]
    for label, median in medians.items():
        rate, ratio = count / median, reference / median
        print(f"{label:36} {rate:10,.0f} records/s   {ratio:5.2f} x")


if __name__ == "__main__":
    main()
