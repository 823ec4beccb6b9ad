"""The admin port shows readiness and metrics to programs with the token."""

from __future__ import annotations

import base64
import re
import sqlite3
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.environment import admin_token
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.receiver.app import RESULTS
from tap_stairoids_webhooks.receiver.http_limits import _STATUSES
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.schema import Outcome
from tap_stairoids_webhooks.store.statistics import statistics_of
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.paths import ROOT
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_receiver,
    deliveries,
    exchange,
)
from tests.tap.receiver.test_app import post, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = ROOT / "tap_stairoids_webhooks"
TOKEN = "a-token-of-the-tests"  # noqa: S105 -- opens nothing else


@contextmanager
def administered(url: str, *, min_free: int = 0) -> Iterator[Receiver]:
    with a_receiver(url, min_free=min_free, admin_port=0, token=TOKEN) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver for tests that store nothing."""
    with administered(f"sqlite:///{tmp_path_factory.mktemp('admin')}/w.db") as receiver:
        yield receiver


@pytest.fixture
def admin(store_url: str) -> Iterator[Receiver]:
    with administered(store_url) as receiver:
        yield receiver


def get(receiver: Receiver, path: str, **headers: str) -> requests.Response:
    given = {"Authorization": f"Bearer {TOKEN}", **headers}
    return requests.get(f"{receiver.admin_url}{path}", headers=given, timeout=60)


def test_ready_receiver_is_ready(admin: Receiver) -> None:
    before = get(admin, "/readyz")
    post(admin, a_body())
    after = get(admin, "/readyz").json()

    assert before.status_code == 200
    assert before.json()["seconds_since_commit"] is None
    assert after["ready"] is True
    assert 0 <= after["seconds_since_commit"] < 60
    assert (after["queue"], after["queue_bytes"]) == (0, 0)
    assert after["free_bytes"] > 0


def test_metrics_count_requests(admin: Receiver) -> None:
    for body in (a_body("evt_1"), a_body("evt_1"), a_body("evt_1", extra=1)):
        post(admin, body)
    post(admin, a_body(), **{"X-Stairoids-Signature": "sha256=no"})
    acknowledge(admin.store, "crm", {"*": 1})

    response = get(admin, "/metrics")

    prefix = "stairoids_webhooks"
    lines = response.text.splitlines()
    for line in (
        'requests_total{result="stored"} 1.0',
        'requests_total{result="duplicate"} 1.0',
        'requests_total{result="conflict"} 1.0',
        'requests_total{result="signature_mismatch"} 1.0',
        f'deliveries_total{{key_id="{key_id_of(SECRET)}"}} 3.0',
        'consumer_lag_events{consumer="crm"} 1.0',
        'consumer_lag_seconds{consumer="crm"} 0.0',
        "queue_oldest_seconds 0.0",
        "commit_rows_sum 3.0",
        "ready 1.0",
        "queue_deliveries 0.0",
        "unproven_bytes 0.0",
    ):
        assert f"{prefix}_{line}" in lines
    for name in ("commit_seconds_bucket", "free_bytes", "store_bytes", "last_commit_"):
        assert f"{prefix}_{name}" in response.text
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "process_open_fds" in response.text
    for canary in (EMAIL, SECRET, TOKEN):
        assert canary not in response.text


def test_metrics_start_from_0(shared_admin: Receiver) -> None:
    """An alert on an increase would miss the first request otherwise."""
    lines = get(shared_admin, "/metrics").text.splitlines()

    for result in RESULTS:
        assert f'stairoids_webhooks_requests_total{{result="{result}"}} 0.0' in lines
    key = f'deliveries_total{{key_id="{key_id_of(SECRET)}"}} 0.0'
    assert f"stairoids_webhooks_{key}" in lines


def test_results_has_every_result_of_the_code() -> None:
    found: set[str] = set(Outcome)
    for name in ("http_limits", "app"):
        text = (PACKAGE / "receiver" / f"{name}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'\bRefusedRequestError\(\s*\d+, "(\w+)"', text))
        found |= set(re.findall(r'\bself\._?count\("(\w+)"\)', text))
    found |= set(_STATUSES)

    assert found == set(RESULTS)


def test_documented_alerts_use_existing_results() -> None:
    page = (PACKAGE.parent / "docs/deploy/monitor-the-receiver.md").read_text(
        encoding="utf-8"
    )
    asked = re.findall(r'requests_total\{result=~?"([\w|]+)"', page)

    assert {name for names in asked for name in names.split("|")} <= set(RESULTS)
    assert len(asked) == 2


def test_last_commit_is_known_after_a_restart(store_url: str) -> None:
    with EventStore.create(store_url) as store:
        store.append(deliveries(2))

    with administered(store_url) as receiver:
        lines = get(receiver, "/metrics").text.splitlines()
        since = get(receiver, "/readyz").json()["seconds_since_commit"]

    at = datetime(2024, 10, 15, 9, 30, 1, tzinfo=UTC).timestamp()
    name = "stairoids_webhooks_last_commit_timestamp_seconds "
    assert [float(x.removeprefix(name)) for x in lines if x.startswith(name)] == [at]
    assert since == pytest.approx(time.time() - at, abs=60)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()


def test_token_is_accepted(shared_admin: Receiver) -> None:
    for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)):
        for path in ("/readyz", "/metrics", "/"):
            response = get(shared_admin, path, Authorization=authorization)
            assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/readyz", ""),
        ("/readyz", TOKEN),
        ("/metrics", "Bearer wrong"),
        ("/metrics", f"Bearer {TOKEN}x"),
        ("/metrics", "Bearer "),
        ("/", ""),
        ("/", basic("wrong")),
        ("/", basic("")),
        ("/", "Basic !"),
        ("/events/1", f"Basic {TOKEN}"),
        ("/events/1/body", "Bearer wrong"),
        ("/nowhere", f"Digest {TOKEN}"),
    ],
)
def test_wrong_token_is_401(
    shared_admin: Receiver, path: str, authorization: str
) -> None:
    response = get(shared_admin, path, Authorization=authorization)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert "(STAIROIDS_WEBHOOKS_ADMIN_TOKEN)." in response.text
    assert TOKEN not in response.text


@pytest.mark.parametrize("path", ["/readyz", "/"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example"])
def test_foreign_host_is_403(shared_admin: Receiver, path: str, host: str) -> None:
    response = get(shared_admin, path, Host=host)

    assert response.status_code == 403
    assert "use 127.0.0.1 or localhost" in response.text


def test_unknown_path_is_404(shared_admin: Receiver) -> None:
    assert get(shared_admin, "/somewhere").status_code == 404
    assert get(shared_admin, "/webhooks/stairoids").status_code == 404


def test_admin_port_is_read_only(shared_admin: Receiver) -> None:
    parts = urlsplit(str(shared_admin.admin_url))
    address = (str(parts.hostname), int(parts.port or 0))
    head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"

    for method, status in (("POST", 405), ("DELETE", 405), ("HEAD", 200)):
        request = f"{method} /readyz HTTP/1.1\r\n{head}\r\n".encode()
        assert exchange(address, request) == status
    twice = f"GET /readyz HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()
    assert exchange(address, twice) in {400, 403}


def test_public_port_has_no_metrics(shared_admin: Receiver) -> None:
    public = shared_admin.url.rpartition("/webhooks")[0]
    headers = {"Authorization": f"Bearer {TOKEN}"}

    for path in ("/readyz", "/metrics"):
        response = requests.get(f"{public}{path}", headers=headers, timeout=60)
        assert response.status_code == 404


def test_admin_port_is_off_by_default(receiver: Receiver) -> None:
    assert receiver.admin_url is None


def test_full_disk_is_503_before_the_body_is_read(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with administered(store_url, min_free=1_001) as receiver:
        refused = post(receiver, a_body())
        ready = get(receiver, "/readyz")

        assert (refused.status_code, refused.text) == (503, "disk_full")
        assert int(refused.headers["Retry-After"]) > 0
        assert (ready.status_code, ready.json()["disk_full"]) == (503, True)
        assert requests.get(
            receiver.url.replace("/webhooks/stairoids", "/healthz"), timeout=15
        ).ok

        full.free = 1_001
        until(lambda: get(receiver, "/readyz").ok)
        assert post(receiver, a_body()).status_code == 200


def test_failing_store_is_not_ready_until_it_works(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0)
    with administered(store_url) as receiver:
        path = store_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            post(receiver, a_body())
            assert get(receiver, "/readyz").json()["store_failing"] is True

        post(receiver, a_body())
        assert get(receiver, "/readyz").ok


def test_moved_store_stores_nothing_until_it_is_back(
    store_url: str,
) -> None:
    path = Path(store_url.removeprefix("sqlite:///"))
    with administered(store_url) as receiver:
        assert post(receiver, a_body("evt_1")).status_code == 200
        moved = path.rename(path.with_name("moved.db"))
        lost = post(receiver, a_body("evt_2"))
        path.touch()
        other = post(receiver, a_body("evt_2"))
        ready = get(receiver, "/readyz").status_code
        moved.replace(path)

        assert (lost.status_code, other.status_code, ready) == (503, 503, 503)
        assert post(receiver, a_body("evt_2")).status_code == 200
        assert get(receiver, "/readyz").ok


def test_refusals_are_counted_in_the_store(store_url: str) -> None:
    with administered(store_url) as receiver:
        before = timestamp()
        post(receiver, a_body(), **{"X-Stairoids-Signature": "sha256=no"})
        after = timestamp()
        post(receiver, a_body())

    with EventStore.open_read_only(store_url) as store:
        (refused,) = statistics_of(store).refused.items()
    reason, found = refused
    assert (reason, found.number) == ("signature_mismatch", 1)
    assert before <= found.last_at <= after


@pytest.mark.parametrize("token", ["", "short", "é" * 20, "x\n" * 10 + "x"])
def test_weak_token_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAIROIDS_WEBHOOKS_ADMIN_TOKEN", token)

    with pytest.raises(ConfigError, match="STAIROIDS_WEBHOOKS_ADMIN_TOKEN") as caught:
        admin_token()

    assert not token or token not in str(caught.value)
    assert str(caught.value).startswith("--admin-port needs") is not bool(token)
