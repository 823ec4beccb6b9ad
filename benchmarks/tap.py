"""Records a second: our tap against the SDK's own stream and writer.

Both read the same store and emit the same records of stream `events`, as
processes of their own, in interleaved rounds; start-up is measured with an empty
store and taken off.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.store import EventStore

DEFAULT = """
import json, sys
from singer_sdk import Stream, Tap
from tap_stairoids_webhooks.store import EventStore
from tap_stairoids_webhooks.streams import EventsStream

class Events(Stream):
    name, primary_keys, replication_key = "events", ("sequence",), "sequence"
    schema, is_sorted = EventsStream.schema, True

    def get_records(self, context):
        store, sequence = EventStore.open_to_read(self.config["store_url"]), 0
        while page := store.read_after(sequence, upper=store.last_sequence()):
            for row in page:
                yield {
                    "sequence": row.sequence,
                    "event": row.event,
                    "event_id": row.event_id,
                    "received_at": row.received_at,
                    "payload": json.loads(row.body),
                    "malformed": row.malformed,
                    "conflict": row.conflict,
                    "delivery_id": row.headers.get("x-stairoids-delivery"),
                    "content_type": row.headers.get("content-type"),
                    "body_sha256": row.body_sha256,
                    "key_id": row.key_id,
                }
            sequence = page[-1].sequence

class TapDefault(Tap):
    name = "tap-default"
    config_jsonschema = {"properties": {"store_url": {"type": "string"}}}
    def discover_streams(self):
        return [Events(self)]

TapDefault.cli(["--config", sys.argv[1]])
"""


def fill(url: str, number: int) -> None:
    """Store so many events of about 1 KB."""
    with EventStore.create(url) as store:
        for start in range(0, number, 1000):
            store.append([an_event(n) for n in range(start, min(number, start + 1000))])


def an_event(number: int) -> Delivery:
    """Return one event as the receiver would have verified it."""
    body = json.dumps(
        {
            "event": "signal.created",
            "id": f"evt_{number}",
            "created_at": "2024-10-15T09:30:00Z",
            "data": {
                "id": f"sig_{number}",
                "type": "product_trial_started",
                "account": {"id": "acc_1", "domain": "acme.test", "name": "Acme"},
                "contact": {"id": "con_1", "email": "a@acme.test", "name": "A B"},
                "score": 72,
                "source": "billing",
                "properties": {f"property_{n}": "word " * 6 for n in range(12)},
                "created_at": "2024-10-15T09:29:59Z",
            },
        }
    ).encode()
    return Delivery(
        body=body,
        signature="sha256=" + "0" * 64,
        key_id="00000000",
        received_at="2024-10-15T09:30:01.000000Z",
        headers={"content-type": "application/json"},
        event=event_from(body),
    )


def seconds_of(arguments: list[str]) -> float:
    """Run a tap to /dev/null."""
    start = time.perf_counter()
    subprocess.run(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - start


def catalog_of(tap: str, config: str) -> str:
    """Return a catalog in which only `events` is selected."""
    discover = [tap, "--config", config, "--discover"]
    catalog = json.loads(subprocess.check_output(discover, stderr=subprocess.DEVNULL))
    catalog["streams"] = [s for s in catalog["streams"] if s["stream"] == "events"]
    catalog["streams"][0]["metadata"][-1]["metadata"]["selected"] = True
    return json.dumps(catalog)


def main() -> None:
    """Measure, and print rates and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tap = str(Path(sys.executable).with_name("tap-stairoids-webhooks"))
    with tempfile.TemporaryDirectory() as folder:
        commands: dict[str, list[list[str]]] = {"sdk default": [], "tap": []}
        for name, number in (("empty", 0), ("full", options.events)):
            config, catalog = (f"{folder}/{name}.{kind}.json" for kind in ("c", "cat"))
            url = f"sqlite:///{folder}/{name}.db"
            fill(url, number)
            Path(config).write_text(json.dumps({"store_url": url}))
            Path(catalog).write_text(catalog_of(tap, config))
            commands["sdk default"].append([sys.executable, "-c", DEFAULT, config])
            commands["tap"].append([tap, "--config", config, "--catalog", catalog])
        rates: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, (empty, full) in commands.items():
                start_up = seconds_of(empty)
                rate = options.events / (seconds_of(full) - start_up)
                rates[name].append(rate)
                print(f"{name:<12}{rate:>9.0f}/s   start-up {start_up:.1f} s")
    pairs = zip(rates["tap"], rates["sdk default"], strict=True)
    print(f"ratio: {statistics.median(ours / sdk for ours, sdk in pairs):.2f} (median)")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
