"""Only a loopback caller that used a loopback name is local."""

from __future__ import annotations

import pytest
import requests

from stairoids_sandbox import Sandbox
from stairoids_sandbox.api.local_only import is_local


@pytest.mark.parametrize(
    ("peer", "hosts", "local"),
    [
        ("127.0.0.1", [b"127.0.0.1:8900"], True),
        ("::1", [b"[::1]:8900"], True),
        ("127.0.0.1", [b"localhost"], True),
        ("10.0.0.7", [b"127.0.0.1:8900"], False),
        ("127.0.0.1", [b"attacker.example"], False),
        ("127.0.0.1", [b"127.0.0.1", b"attacker.example"], False),
        ("127.0.0.1", [b"[::1"], False),
        ("127.0.0.1", [b""], False),
        ("127.0.0.1", [], False),
        (None, [b"127.0.0.1"], False),
    ],
)
def test_caller_is_local(peer: str | None, hosts: list[bytes], *, local: bool) -> None:
    scope = {
        "client": None if peer is None else (peer, 50_000),
        "headers": [(b"host", host) for host in hosts],
    }

    assert is_local(scope) is local


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("[::1]", 200),
        ("attacker.example", 403),
        ("127.0.0.1.x", 403),
    ],
)
def test_sandbox_on_loopback_refuses_other_names(
    sandbox: Sandbox, host: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {sandbox.api_key}", "Host": host}

    response = requests.get(f"{sandbox.url}/signals", headers=headers, timeout=60)

    assert response.status_code == status
