"""Deliveries a second: our receiver against a server that only verifies.

Both run as processes of their own, on this machine, in interleaved rounds; the
figure that travels to another machine is the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tap_stairoids_webhooks.signature import sign

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "benchmark"  # noqa: S105 -- signs nothing else
VERIFY_ONLY = """
import hashlib, hmac, json, socket
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hook(request):
    body = await request.body()
    expected = "sha256=" + hmac.new(b"benchmark", body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-stairoids-signature", "")
    ok = hmac.compare_digest(expected.encode(), given.encode())
    return PlainTextResponse("ok" if ok else "no", 200 if ok else 401)

app = Starlette(routes=[Route("/webhooks/stairoids", hook, methods=["POST"])])
listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
url = "http://127.0.0.1:%d/" % listening.getsockname()[1]
print(json.dumps({"url": url}), flush=True)
config = uvicorn.Config(app, log_level="error", access_log=False)
uvicorn.Server(config).run(sockets=[listening])
"""


def requests_for(number: int, run: str) -> list[bytes]:
    """Return signed requests of about 1 KB, each another event."""
    result = []
    for n in range(number):
        body = json.dumps(
            {
                "event": "signal.created",
                "id": f"evt_{run}_{n}",
                "created_at": "2024-10-15T09:30:00Z",
                "data": {"id": f"sig_{n}", "properties": {"text": "x" * 850}},
            }
        ).encode()
        head = (
            b"POST /webhooks/stairoids HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Content-Type: application/json\r\nX-Stairoids-Event: signal.created\r\n"
            b"X-Stairoids-Delivery: %d\r\nX-Stairoids-Signature: %s\r\n\r\n"
        )
        result.append(head % (len(body), n, sign(body, SECRET)) + body)
    return result


async def send_all(
    port: int, requests: list[bytes], connections: int
) -> tuple[float, list[float]]:
    """Return the seconds it took, and each answer's latency."""
    waiting = iter(requests)
    latencies: list[float] = []

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            start = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(connections)))
    return time.perf_counter() - start, latencies


@contextlib.contextmanager
def process(*arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command for as long as the block lasts."""
    running = subprocess.Popen(
        arguments, env=os.environ | env, stdout=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=30)


def port_of(server: subprocess.Popen[str]) -> int:
    """Wait for the line in which a server tells its URL."""
    assert server.stdout is not None
    return urlsplit(json.loads(server.stdout.readline())["url"]).port or 0


def main() -> None:
    """Measure, and print one line for each round and one with the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="for each round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    command = str(Path(sys.executable).with_name("stairoids-webhooks"))
    ratios: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        process(
            *(command, "serve", "--port", "0"),
            *("--store-url", f"sqlite:///{folder}/webhooks.db"),
            STAIROIDS_WEBHOOK_SECRET=SECRET,
        ) as ours,
        process(sys.executable, "-c", VERIFY_ONLY) as other,
    ):
        port, other_port = port_of(ours), port_of(other)
        for number in range(options.rounds):
            batch = requests_for(options.requests, f"{number}")
            rates = []
            for target in (other_port, port):
                took, latencies = asyncio.run(
                    send_all(target, batch, options.connections)
                )
                p99 = sorted(latencies)[int(len(latencies) * 0.99)] * 1000
                rates.append(len(batch) / took)
                name = "receiver" if target == port else "verify only"
                print(f"{name:<12}{rates[-1]:>9.0f}/s   p99 {p99:6.1f} ms")
            ratios.append(rates[1] / rates[0])
    print(f"ratio to verify only: {statistics.median(ratios):.2f} (median)")


if __name__ == "__main__":
    main()
