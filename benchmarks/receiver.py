"""Deliveries per second: our receiver against two simple servers.

Ours stores in SQLite and in PostgreSQL. One baseline only verifies, the other commits
each request alone. All run in processes of their own, in turn. Only the ratios can be
compared with those of other machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.figures import Figure, median_ratio
from benchmarks.processes import BIN, serving
from tap_stairoids_webhooks.signature import sign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Scope

CONNECTIONS = 64
SQLITE, POSTGRES = "SQLite", "PostgreSQL"
VERIFY, EACH = "a server that only verifies", "one commit a request"
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
COMMIT_EACH = """
import asyncio, json, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tap_stairoids_webhooks.event import Delivery, event_from
from stairoids_common.time import timestamp
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store.store import EventStore

store, verifier = EventStore.create("sqlite:///" + sys.argv[1]), Verifier(["benchmark"])
lock = asyncio.Lock()  # SQLite's own lock would let some threads wait for ever

async def hook(request):
    body = await request.body()
    signature = request.headers["x-stairoids-signature"]
    key_id = verifier.key_id_for(body, signature.encode())
    if key_id is None:
        return PlainTextResponse("no", 401)
    delivery = Delivery(body=body, signature=signature, key_id=key_id,
                        received_at=timestamp(), headers={}, event=event_from(body))
    async with lock:
        await run_in_threadpool(store.append, [delivery])
    return PlainTextResponse("ok")

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
    """Return the seconds it took, and each response's latency."""
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


def port_of(line: str) -> int:
    """Return the port in the first line of a server."""
    return urlsplit(json.loads(line)["url"]).port or 0


@contextlib.contextmanager
def postgres(folder: str) -> Iterator[str | None]:
    """Run a PostgreSQL server, if there is one for this Python."""
    if importlib.util.find_spec("pgserver") is None:
        yield None
        return
    pgserver = importlib.import_module("pgserver")  # not there on every Python
    running = pgserver.get_server(f"{folder}/postgres")
    yield running.get_uri()
    running.cleanup()


def commands(folder: str, postgres_url: str | None) -> dict[str, tuple[str, ...]]:
    """Return the servers to measure."""
    serve = (str(BIN / "stairoids-webhooks"), "serve")
    ours = (*serve, "--port", "0", "--min-free", "0", "--store-url")
    servers = {
        VERIFY: (sys.executable, "-c", VERIFY_ONLY),
        EACH: (sys.executable, "-c", COMMIT_EACH, f"{folder}/each.db"),
        SQLITE: (*ours, f"sqlite:///{folder}/webhooks.db"),
    }
    if postgres_url is not None:
        servers[POSTGRES] = (*ours, postgres_url)
    return servers


def rate_and_p99(port: int, batch: list[bytes]) -> tuple[float, float]:
    """Return requests a second, and the 99th percentile of latency in milliseconds."""
    took, latencies = asyncio.run(send_all(port, batch, CONNECTIONS))
    return len(batch) / took, sorted(latencies)[int(len(latencies) * 0.99)] * 1000


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield deliveries a second of each store, beside servers that do less."""
    count = scope.number(20_000)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        postgres_url = stack.enter_context(postgres(folder))
        ports = {
            name: port_of(
                stack.enter_context(serving(command, STAIROIDS_WEBHOOK_SECRET=SECRET))
            )
            for name, command in commands(folder, postgres_url).items()
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ports}
        for number in range(scope.rounds):
            for name, port in ports.items():
                share = 5 if name == EACH else 1  # it would take all day
                batch = requests_for(max(100, count // share), f"{number}")
                found[name].append(rate_and_p99(port, batch))
    rates = {name: [rate for rate, _ in rounds] for name, rounds in found.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, other, goal in (
        (SQLITE, VERIFY, 0.4),
        (SQLITE, EACH, None),
        (POSTGRES, VERIFY, 0.3),
    ):
        if name in rates:
            yield Figure(
                path=f"receiver, {name}",
                value=medians[name],
                unit="deliveries/s",
                beside=f"{other}, {medians[other]:,.0f}/s",
                ratio=median_ratio(rates[name], rates[other]),
                at_least=goal,
            )
    for name in (SQLITE, POSTGRES):
        if name in found:
            yield Figure(
                path=f"receiver, {name}: 99 of 100 responses within",
                value=statistics.median(p99 for _, p99 in found[name]),
                unit="ms",
            )
