"""Sending without quota: the target against bare `requests` threads.

Both post the same bodies to a sandbox in a process of its own that answers after a
while, eight at a time, as whole processes, in turn. Run `python benchmarks/send.py
--help`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
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
        answer = session.post(url + "/signals", json=body, headers=headers, timeout=30)
        answer.raise_for_status()

workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""


def messages(count: int) -> str:
    """Return a stream of so many records, each about a person of its own."""
    types = {"id": "integer", "email": "string", "plan": "string"}
    properties = {name: {"type": kind} for name, kind in types.items()}
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
            "record": {"id": n, "email": f"u{n}@c{n}.example.com", "plan": "pro"},
        }
        for n in range(1, count + 1)
    )
    return "".join(json.dumps(message) + "\n" for message in (schema, *records))


@contextmanager
def sandbox(delay_ms: int) -> Iterator[str]:
    """Run a sandbox in a process of its own; yields the URL of its API."""
    command = [str(BIN / "stairoids-sandbox"), "serve", "--port", "0"]
    if delay_ms:
        command += ["--fault", f"slow,delay_ms={delay_ms}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def seconds_of(command: list[str], text: str) -> float:
    """Return how long a process takes from start to exit."""
    start = time.perf_counter()
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    return time.perf_counter() - start


def target(url: str, folder: Path) -> list[str]:
    """Return the command of a target with a ledger of its own."""
    config = folder / "config.json"
    settings = {
        "api_url": url,
        "api_key": "sk_test_sandbox",
        "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
        "first_run": "send",
        "requests_per_minute": 1_000_000,
    }
    config.write_text(json.dumps(settings))
    return [str(BIN / "target-stairoids"), "--config", str(config)]


def main() -> None:
    """Print rates and their ratio for each delay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delays", type=int, nargs="*", default=[0, 5, 50])
    options = parser.parse_args()
    text = messages(options.signals)
    for delay in options.delays:
        ours, pool = [], []
        for _ in range(options.rounds):
            with sandbox(delay) as url:
                pool.append(seconds_of([sys.executable, "-c", POOL, url, "8"], text))
            with sandbox(delay) as url, tempfile.TemporaryDirectory() as name:
                ours.append(seconds_of(target(url, Path(name)), text))
        ratio = statistics.median(a / b for a, b in zip(pool, ours, strict=True))
        rates = [options.signals / statistics.median(taken) for taken in (ours, pool)]
        print(
            f"answers after {delay:2} ms: target-stairoids {rates[0]:6.0f}/s, "
            f"8 bare threads {rates[1]:6.0f}/s, ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
