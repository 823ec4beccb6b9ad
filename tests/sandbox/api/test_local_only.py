"""Only a loopback caller that used a loopback name is local."""

from __future__ import annotations

import pytest

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
