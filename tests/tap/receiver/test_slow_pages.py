"""Pages and metrics that wait for the database delay nothing else."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import sqlalchemy as sa

from tests.support.webhook_builders import SECRET, a_body
from tests.tap.receiver.test_admin import TOKEN, administered
from tests.tap.receiver.test_app import post, until
from tests.tap.receiver.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS = 40  # more than the event loop has threads for


@contextmanager
def slow_pages(store_url: str, admin_url: str) -> Iterator[None]:
    """Let requests for metrics wait for a table that no delivery needs."""
    engine = sa.create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(REQUESTS) as pool, engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE webhook_consumers")
        for _ in range(REQUESTS):
            pool.submit(_metrics_of, admin_url)
        until(lambda: other.execute(waiting).scalar_one() > 0)
        yield
    engine.dispose()


def _metrics_of(admin_url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    requests.get(f"{admin_url}/metrics", headers=headers, timeout=60)


def test_slow_pages_delay_no_large_delivery(postgres_url: str) -> None:
    with administered(postgres_url) as receiver:
        assert receiver.admin_url is not None
        with slow_pages(postgres_url, receiver.admin_url):
            response = post(receiver, a_body(note="x" * 100_000))

    assert (response.status_code, response.text) == (200, "stored")


def test_slow_pages_delay_no_stop(postgres_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        serving(
            postgres_url,
            STAIROIDS_WEBHOOK_SECRET=SECRET,
            STAIROIDS_WEBHOOKS_ADMIN_PORT=str(port),
            STAIROIDS_WEBHOOKS_ADMIN_TOKEN=TOKEN,
        ) as (process, _),
        slow_pages(postgres_url, f"http://127.0.0.1:{port}"),
    ):
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        seconds = time.monotonic() - began

    assert (process.returncode, seconds < 10) == (0, True), log
    assert "Traceback" not in log
