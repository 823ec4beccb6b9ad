"""Each scope allows only the documented requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from stairoids_sandbox import Sandbox
from stairoids_sandbox.exceptions import UsageError
from stairoids_sandbox.state.keys import KeyRing
from tests.support.sandbox_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = {
    "sk_r": "read",
    "sk_w": "write",
    "sk_rw": "read_write",
    "sk_s": "signals:write",
}


@pytest.fixture(scope="module")
def scoped() -> Iterator[Sandbox]:
    with Sandbox(keys=KEYS) as running:
        yield running


@pytest.mark.parametrize(
    ("key", "sending", "reading", "listing_webhooks", "adding_webhooks"),
    [
        ("sk_r", 403, 200, 200, 403),
        ("sk_w", 201, 403, 403, 400),
        ("sk_rw", 201, 200, 200, 400),
        ("sk_s", 201, 403, 403, 403),
        ("sk_unknown", 401, 401, 401, 401),
    ],
)
def test_scope_limits_the_requests(
    scoped: Sandbox,
    key: str,
    sending: int,
    reading: int,
    listing_webhooks: int,
    adding_webhooks: int,
) -> None:
    with Client(scoped, key) as client:
        assert client.send().status_code == sending
        assert client.get("/signals").status_code == reading
        assert client.get("/webhooks").status_code == listing_webhooks
        assert client.post("/webhooks", {}).status_code == adding_webhooks


def test_refused_scope_stores_nothing() -> None:
    with Sandbox(keys={"sk_r": "read"}) as sandbox, Client(sandbox, "sk_r") as client:
        response = client.send()

        assert response.json()["error"]["code"] == "forbidden"
        assert sandbox.signals == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "sk_rw"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic sk_rw"},
        {"X-Api-Key": "sk_rw"},
    ],
)
def test_request_without_a_valid_key_is_401(
    scoped: Sandbox, headers: dict[str, str]
) -> None:
    for path in ("/signals", "/unknown"):
        response = requests.get(scoped.url + path, headers=headers, timeout=30)

        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
        assert response.json()["error"]["message"] == "Invalid or missing API key."


def test_unknown_path_is_404_and_wrong_method_405(client: Client) -> None:
    unknown = client.get("/contacts")
    wrong = client.session.put(client.url + "/signals", timeout=30)

    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert unknown.json()["error"]["code"] == "not_found"
    assert wrong.json()["error"]["code"] == "method_not_allowed"


def test_error_about_a_scope_hides_the_key() -> None:
    with pytest.raises(UsageError) as caught:
        KeyRing({"sk_secret": "admin"})

    assert "sk_secret" not in str(caught.value)
