"""A body that is not JSON, not declared as JSON or too large is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox.api.request_body import MAX_BODY_BYTES

if TYPE_CHECKING:
    from tests.support.sandbox_client import Client

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1e999}', b"{} {}", b"[" * 100_000],
)
def test_malformed_json_is_400(client: Client, raw: bytes) -> None:
    for path in ("/signals", "/webhooks", "/automations"):
        response = client.session.post(
            client.url + path, data=raw, headers=JSON, timeout=5
        )
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "validation_error"


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/jsonl"])
def test_other_content_type_is_415(client: Client, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    response = client.session.post(
        client.url + "/signals", data=b"{}", headers=headers, timeout=5
    )

    assert response.status_code == 415


def test_too_large_body_is_413(client: Client) -> None:
    raw = b'"' + b"x" * MAX_BODY_BYTES + b'"'

    response = client.session.post(
        client.url + "/signals", data=raw, headers=JSON, timeout=5
    )

    assert response.status_code == 413
    assert client.send().status_code == 201
