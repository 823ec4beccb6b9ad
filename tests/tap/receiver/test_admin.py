"""Readiness and metrics are told to whoever has the token, and to nobody else."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.receiver.app import RESULTS
from tap_stairoids_webhooks.receiver.server import Admin, Receiver
from tap_stairoids_webhooks.settings import admin_token_from
from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.schema import Outcome
from tap_stairoids_webhooks.store.statistics import report_on
from tap_stairoids_webhooks.store.store import EventStore
from tap_stairoids_webhooks.timestamps import now
from tests.support.paths import ROOT
from tests.support.webhook_builders import EMAIL, SECRET, a_body, deliveries, exchange
from tests.tap.receiver.test_app import post, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = ROOT / "tap_stairoids_webhooks"
TOKEN = "a-token-of-the-tests"  # noqa: S105 -- opens nothing else


@contextmanager
def administered(url: str, *, min_free_bytes: int = 0) -> Iterator[Receiver]:
    with Receiver(
        store_url=url,
        secrets=[SECRET],
        min_free_bytes=min_free_bytes,
        admin=Admin(port=0, token=TOKEN),
    ) as receiver:
        yield receiver


@pytest.fixture
def administrable(store_url: str) -> Iterator[Receiver]:
    with administered(store_url) as receiver:
        yield receiver


def get(receiver: Receiver, path: str, **headers: str) -> requests.Response:
    given = {"Authorization": f"Bearer {TOKEN}", **headers}
    return requests.get(f"{receiver.admin_url}{path}", headers=given, timeout=15)


def test_ready_receiver_says_so(administrable: Receiver) -> None:
    before = get(administrable, "/readyz")
    post(administrable, a_body())
    after = get(administrable, "/readyz").json()

    assert before.status_code == 200
    assert before.json()["seconds_since_commit"] is None
    assert after["ready"] is True
    assert 0 <= after["seconds_since_commit"] < 60
    assert (after["queue"], after["queue_bytes"]) == (0, 0)
    assert after["free_bytes"] > 0


def test_metrics_count_what_came_in(administrable: Receiver) -> None:
    for body in (a_body("evt_1"), a_body("evt_1"), a_body("evt_1", extra=1)):
        post(administrable, body)
    post(administrable, a_body(), **{"X-Stairoids-Signature": "sha256=no"})
    acknowledge(administrable.store, "crm", {"*": 1})

    answer = get(administrable, "/metrics")

    prefix = "stairoids_webhooks"
    lines = answer.text.splitlines()
    for line in (
        'requests_total{result="stored"} 1.0',
        'requests_total{result="duplicate"} 1.0',
        'requests_total{result="conflict"} 1.0',
        'requests_total{result="signature_mismatch"} 1.0',
        f'deliveries_total{{key_id="{key_id_of(SECRET)}"}} 3.0',
        'consumer_lag_events{consumer="crm"} 1.0',
        "commit_rows_sum 3.0",
        "ready 1.0",
        "queue_deliveries 0.0",
        "unproven_bytes 0.0",
    ):
        assert f"{prefix}_{line}" in lines
    for name in ("commit_seconds_bucket", "free_bytes", "store_bytes", "last_commit_"):
        assert f"{prefix}_{name}" in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for canary in (EMAIL, SECRET, TOKEN):
        assert canary not in answer.text


def test_metrics_begin_at_0(administrable: Receiver) -> None:
    """Else an alert on an increase misses the first one."""
    lines = get(administrable, "/metrics").text.splitlines()

    for result in RESULTS:
        assert f'stairoids_webhooks_requests_total{{result="{result}"}} 0.0' in lines
    key = f'deliveries_total{{key_id="{key_id_of(SECRET)}"}} 0.0'
    assert f"stairoids_webhooks_{key}" in lines


def test_results_are_all_there_are() -> None:
    found: set[str] = set(Outcome)
    for name in ("http_limits", "app"):
        text = (PACKAGE / "receiver" / f"{name}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'\bRefusal\(\d+, "(\w+)"', text))
        found |= set(re.findall(r'\bself\.count\("(\w+)"\)', text))
    found |= {"not_http", "too_slow", "large_head"}  # connection.py counts them by name

    assert found == set(RESULTS)


def test_alerts_ask_for_results_there_are() -> None:
    page = (PACKAGE.parent / "docs/operations.md").read_text(encoding="utf-8")
    asked = re.findall(r'requests_total\{result=~?"([\w|]+)"', page)

    assert {name for names in asked for name in names.split("|")} <= set(RESULTS)
    assert len(asked) == 2


def test_last_commit_is_known_from_before_the_start(store_url: str) -> None:
    with EventStore.create(store_url) as store:
        store.append(deliveries(2))

    with administered(store_url) as receiver:
        lines = get(receiver, "/metrics").text.splitlines()
        since = get(receiver, "/readyz").json()["seconds_since_commit"]

    at = datetime(2024, 10, 15, 9, 30, 1, tzinfo=UTC).timestamp()
    name = "stairoids_webhooks_last_commit_timestamp_seconds "
    assert [float(x.removeprefix(name)) for x in lines if x.startswith(name)] == [at]
    assert since == pytest.approx(time.time() - at, abs=60)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/readyz", {"Authorization": ""}, 401),
        ("/metrics", {"Authorization": "Bearer wrong"}, 401),
        ("/metrics", {"Authorization": TOKEN}, 401),
        ("/metrics", {"Host": "evil.example"}, 403),
        ("/readyz", {"Host": "127.0.0.1.evil.example"}, 403),
        ("/", {"Authorization": ""}, 401),
        ("/events/1", {"Authorization": "Bearer wrong"}, 401),
        ("/", {"Host": "evil.example"}, 403),
        ("/somewhere", {}, 404),
        ("/webhooks/stairoids", {}, 404),
    ],
)
def test_nobody_else_is_told(
    administrable: Receiver, path: str, headers: dict[str, str], status: int
) -> None:
    assert get(administrable, path, **headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"Authorization": ""}, 401, "Bearer with the token that the receiver"),
        ({"Authorization": "Bearer wrong"}, 401, "(STAIROIDS_WEBHOOKS_ADMIN_TOKEN)."),
        ({"Host": "evil.example"}, 403, "ask for 127.0.0.1 or localhost"),
    ],
)
@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_refusal_says_what_is_wanted(
    administrable: Receiver, path: str, headers: dict[str, str], status: int, text: str
) -> None:
    answer = get(administrable, path, **headers)

    assert answer.status_code == status
    assert text in answer.text
    assert TOKEN not in answer.text
    assert ("Bearer" in answer.headers.get("WWW-Authenticate", "")) == (status == 401)


def test_only_reading_is_possible(administrable: Receiver) -> None:
    parts = urlsplit(str(administrable.admin_url))
    address = (str(parts.hostname), int(parts.port or 0))
    head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"

    for method, status in (("POST", 405), ("DELETE", 405), ("HEAD", 200)):
        request = f"{method} /readyz HTTP/1.1\r\n{head}\r\n".encode()
        assert exchange(address, request) == status
    twice = f"GET /readyz HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()
    assert exchange(address, twice) in {400, 403}


def test_public_listener_tells_nothing(administrable: Receiver) -> None:
    public = administrable.url.rpartition("/webhooks")[0]
    headers = {"Authorization": f"Bearer {TOKEN}"}

    for path in ("/readyz", "/metrics"):
        answer = requests.get(f"{public}{path}", headers=headers, timeout=15)
        assert answer.status_code == 404


def test_admin_listener_is_off_by_default(receiver: Receiver) -> None:
    assert receiver.admin_url is None


def test_full_disk_is_answered_503_before_anything_is_read(store_url: str) -> None:
    with administered(store_url, min_free_bytes=2**62) as receiver:
        refused = post(receiver, a_body())
        ready = get(receiver, "/readyz")

        assert (refused.status_code, refused.text) == (503, "disk_full")
        assert int(refused.headers["Retry-After"]) > 0
        assert (ready.status_code, ready.json()["disk_full"]) == (503, True)
        assert requests.get(
            receiver.url.replace("/webhooks/stairoids", "/healthz"), timeout=15
        ).ok

        receiver._server._min_free_bytes = 0
        until(lambda: get(receiver, "/readyz").ok)
        assert post(receiver, a_body()).status_code == 200


def test_store_that_fails_is_not_ready_until_it_works(
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


def test_store_that_was_moved_away_takes_nothing_until_it_is_back(
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


def test_refusals_are_kept_for_the_operator(store_url: str) -> None:
    with administered(store_url) as receiver:
        before = now()
        post(receiver, a_body(), **{"X-Stairoids-Signature": "sha256=no"})
        after = now()
        post(receiver, a_body())

    with EventStore.open_to_read(store_url) as store:
        (refused,) = report_on(store).refused.items()
    reason, found = refused
    assert (reason, found.number) == ("signature_mismatch", 1)
    assert before <= found.last_at <= after


@pytest.mark.parametrize("token", ["", "short", "é" * 20, "x" * 20 + "\n"])
def test_token_that_could_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="STAIROIDS_WEBHOOKS_ADMIN_TOKEN") as caught:
        admin_token_from({"STAIROIDS_WEBHOOKS_ADMIN_TOKEN": token})

    assert not token or token not in str(caught.value)
