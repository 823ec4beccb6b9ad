"""Records per second: our tap against the SDK's stream and writers, and `orjson`.

All emit the same records of stream `events` from the same store, in processes of their
own, in turn. `orjson` reads a file of the tap's output. The time of the start, measured
with an empty store, is subtracted.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from benchmarks.figures import Figure, median_ratio
from benchmarks.processes import BIN, mebibytes, seconds
from benchmarks.receiver import postgres
from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Scope

DEFAULT = """
import json, sys
from singer_sdk import Stream, Tap
from singer_sdk.contrib.msgspec import MsgSpecWriter
from tap_stairoids_webhooks.store.store import EventStore
from tap_stairoids_webhooks.reading.records import EVENTS_SCHEMA
from tap_stairoids_webhooks.store.event_filter import EventFilter

class Events(Stream):
    name, primary_keys, replication_key = "events", ("sequence",), "sequence"
    schema, is_sorted = EVENTS_SCHEMA, True

    def get_records(self, context):
        store, sequence = EventStore.open_read_only(self.config["store_url"]), 0
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
    if "fast" in sys.argv:
        message_writer_class = MsgSpecWriter
    config_jsonschema = {"properties": {"store_url": {"type": "string"}}}
    def discover_streams(self):
        return [Events(self)]

TapDefault.cli(["--config", sys.argv[1]])
"""
ORJSON = """
import sys, orjson
with open(sys.argv[1], "rb") as lines:
    for line in lines:
        line = orjson.dumps(orjson.loads(line), option=orjson.OPT_APPEND_NEWLINE)
        sys.stdout.buffer.write(line)
"""
#: The baselines of the tap, with the goal of each ratio.
BASELINES: dict[str, tuple[str, float | None]] = {
    "sdk": ("the SDK's stream and default writer", 4.0),
    "msgspec": ("the SDK's stream and `MsgSpecWriter`", None),
    "orjson": ("nothing but `orjson` loads and dumps of each line", None),
}

#: The payloads' own properties.
PROPERTIES: dict[str, dict[str, Any]] = {
    "wide": {f"property_{n}": "word " * 6 for n in range(12)},
    "nested": {
        "lines": [{"item": {"sku": f"s-{n}", "prices": [n, n / 4]}} for n in range(8)]
    },
}


def fill(url: str, number: int, kind: str) -> None:
    """Store so many events of about 1 KB."""
    with EventStore.create(url) as store:
        for start in range(0, number, 1000):
            end = min(number, start + 1000)
            store.append([an_event(n, PROPERTIES[kind]) for n in range(start, end)])


def an_event(number: int, properties: dict[str, Any]) -> Delivery:
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
                "properties": properties,
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


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield events a second for each store and kind of payload, beside baselines."""
    count = scope.number(100_000)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres_url = stack.enter_context(postgres(str(folder)))
        stores = {"SQLite": f"sqlite:///{folder}"}
        if postgres_url is not None:
            stores["PostgreSQL"] = postgres_url
        for store, base in stores.items():
            nothing = f"{base}/empty.db" if store == "SQLite" else another(base)
            empty = commands(folder, f"{store}-empty", nothing, 0, "wide")
            for kind in ("wide", "nested"):
                if store == "PostgreSQL" and kind == "nested":
                    continue  # the payload makes no difference to the store
                url = base if base == postgres_url else f"{base}/{kind}.db"
                full = commands(folder, f"{store}-{kind}", url, count, kind)
                yield from _beside_baselines(
                    f"tap, {store}, {kind} payloads", empty, full, count, scope.rounds
                )
        tap = commands(folder, "SQLite-wide", f"sqlite:///{folder}/wide.db", 0, "wide")
        yield Figure(
            path="memory of the tap",
            value=mebibytes(tap["tap"]),
            unit="MiB",
        )


def another(postgres_url: str) -> str:
    """Make one more database on a server; returns its URL."""
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE nothing")
    engine.dispose()
    return url.set(database="nothing").render_as_string(hide_password=False)


def _beside_baselines(
    path: str,
    empty: dict[str, list[str]],
    full: dict[str, list[str]],
    count: int,
    rounds: int,
) -> Iterator[Figure]:
    rates: dict[str, list[float]] = {name: [] for name in full}
    for _ in range(rounds):
        for name, command in full.items():
            start_up = seconds(empty[name])
            rates[name].append(count / (seconds(command) - start_up))
    for other, (title, goal) in BASELINES.items():
        median = statistics.median(rates[other])
        yield Figure(
            path=path,
            value=statistics.median(rates["tap"]),
            unit="events/s",
            beside=f"{title}, {median:,.0f}/s",
            ratio=median_ratio(rates["tap"], rates[other]),
            at_least=goal,
        )


def commands(
    folder: Path, name: str, url: str, count: int, kind: str
) -> dict[str, list[str]]:
    """Store so many events, and return the commands that emit them."""
    fill(url, count, kind)
    config, catalog = folder / f"{name}.config.json", folder / f"{name}.catalog.json"
    config.write_text(json.dumps({"store_url": url}))
    executable = str(BIN / "tap-stairoids-webhooks")
    catalog.write_text(catalog_of(executable, str(config)))
    tap = [executable, "--config", str(config), "--catalog", str(catalog)]
    lines = folder / f"{name}.jsonl"
    with lines.open("wb") as file:
        subprocess.run(tap, check=True, stdout=file, stderr=subprocess.DEVNULL)
    sdk = [sys.executable, "-c", DEFAULT, str(config)]
    return {
        "sdk": sdk,
        "msgspec": [*sdk, "fast"],
        "orjson": [sys.executable, "-c", ORJSON, str(lines)],
        "tap": tap,
    }


def catalog_of(tap: str, config: str) -> str:
    """Return a catalog in which only `events` is selected."""
    discover = [tap, "--config", config, "--discover"]
    catalog = json.loads(subprocess.check_output(discover, stderr=subprocess.DEVNULL))
    catalog["streams"] = [s for s in catalog["streams"] if s["stream"] == "events"]
    catalog["streams"][0]["metadata"][-1]["metadata"]["selected"] = True
    return json.dumps(catalog)
