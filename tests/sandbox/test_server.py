"""The sandbox starts, stops at once and keeps its state readable."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

import stairoids_sandbox
from stairoids_sandbox import Fault, Sandbox
from stairoids_sandbox.exceptions import NotRunningError, UsageError
from tests.support.sandbox_client import Client, a_body

if TYPE_CHECKING:
    from pathlib import Path


def test_accepted_signals_are_listed_in_order(sandbox: Sandbox, client: Client) -> None:
    ids = [client.send(type=name).json()["id"] for name in ("first", "second")]

    assert [signal.id for signal in sandbox.signals] == ids
    assert sandbox.signals[0].body == a_body(type="first")
    assert sandbox.signals[0].key_name == "key-1"
    assert sandbox.signals[0].key_scope == "read_write"


def test_requests_are_listed_without_the_key(sandbox: Sandbox, client: Client) -> None:
    before = time.monotonic()
    client.get("/signals", type="x")

    (seen,) = sandbox.requests

    assert (seen.method, seen.path, seen.query) == ("GET", "/v1/signals", "type=x")
    assert seen.status == 200
    assert before <= seen.arrived <= seen.responded <= time.monotonic()
    assert "sk_" not in repr(seen)


def test_stop_leaves_no_thread_and_no_listener() -> None:
    with Sandbox() as sandbox, Client(sandbox) as client:
        client.send()
        began = time.monotonic()
        sandbox.stop()
        took = time.monotonic() - began

        assert took < 10  # an idle connection is kept for 75 s
        assert "stairoids-sandbox" not in {t.name for t in threading.enumerate()}
        address = urlsplit(sandbox.url)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((str(address.hostname), address.port or 0))
        with pytest.raises(requests.ConnectionError):
            client.send()
        assert len(sandbox.signals) == 1


def test_package_exports_its_public_names() -> None:
    exported = [getattr(stairoids_sandbox, name) for name in stairoids_sandbox.__all__]

    assert exported == [Fault, Sandbox]
    assert not hasattr(stairoids_sandbox, "Receiver")


def test_many_sandboxes_run_at_once() -> None:
    with Sandbox() as one, Sandbox() as two, Client(two) as client:
        client.send()

        assert one.url != two.url
        assert (len(one.signals), len(two.signals)) == (0, 1)


def test_sandbox_that_has_not_started_has_no_address() -> None:
    with pytest.raises(NotRunningError):
        _ = Sandbox().url


def test_taken_port_is_named(sandbox: Sandbox) -> None:
    port = urlsplit(sandbox.url).port or 0

    with pytest.raises(UsageError, match=str(port)):
        Sandbox(port=port).start()


def test_database_keeps_signals_over_a_restart(tmp_path: Path) -> None:
    with Sandbox(db=tmp_path / "s.db") as first, Client(first) as client:
        sent = client.send(type="meeting_booked").json()

    with Sandbox(db=tmp_path / "s.db") as second, Client(second) as client:
        again = client.get(f"/signals/{sent['id']}").json()["data"]
        later = client.send(type="page_visit").json()

    assert again["account"]["id"] == sent["account_id"] == later["account_id"]
    assert again["account"]["score"] == 25
    assert again["created_at"] == sent["created_at"]
    assert [signal.sequence for signal in second.signals] == [1, 2]


def test_database_serves_one_sandbox_at_a_time(tmp_path: Path) -> None:
    with (
        Sandbox(db=tmp_path / "s.db"),
        pytest.raises(UsageError, match="locked"),
    ):
        Sandbox(db=tmp_path / "s.db")
