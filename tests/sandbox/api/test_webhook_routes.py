"""Subscriptions are created, listed and deleted with the documented flat bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.sandbox_client import Client

URL = "https://example.com/hook"


def test_subscription_is_created_listed_and_deleted(client: Client) -> None:
    created = client.post(
        "/webhooks", {"url": URL, "events": ["signal.created"], "secret": "s"}
    )
    listed = client.get("/webhooks").json()
    path = f"{client.url}/webhooks/{created.json()['id']}"
    deleted = client.session.delete(path, timeout=30)
    again = client.session.delete(path, timeout=30)

    assert created.status_code == 201
    assert set(created.json()) == {"id", "url", "events", "enabled", "created_at"}
    assert created.json()["id"].startswith("wh_")
    assert listed == {"webhooks": [created.json()], "total": 1}
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert again.status_code == 404
    assert client.get("/webhooks").json() == {"webhooks": [], "total": 0}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": URL},
        {"events": ["signal.created"]},
        {"url": URL, "events": []},
        {"url": URL, "events": "signal.created"},
        {"url": URL, "events": ["signal.deleted"]},
        {"url": URL, "events": ["signal.created"], "secret": ""},
        {"url": URL, "events": ["signal.created"], "secret": 1},
        {"url": URL, "events": ["signal.created"], "enabled": True},
        {"url": "http://example.com/", "events": ["signal.created"]},
        {"url": "http://127.0.0.1.example.com/", "events": ["signal.created"]},
        {"url": "ftp://127.0.0.1/", "events": ["signal.created"]},
        {"url": "https://", "events": ["signal.created"]},
        {"url": "https://[::1", "events": ["signal.created"]},
        {"url": "http://localhost:x/", "events": ["signal.created"]},
        {"url": "http://localhost/a\r\nX-Y: 1", "events": ["signal.created"]},
    ],
)
def test_wrong_subscription_is_400(client: Client, body: dict[str, Any]) -> None:
    response = client.post("/webhooks", body)

    assert response.status_code == 400
    assert client.get("/webhooks").json()["total"] == 0


@pytest.mark.parametrize(
    "url", ["http://localhost:1/", "http://127.0.0.1/", "http://[::1]:8/x", URL]
)
def test_https_and_loopback_urls_are_accepted(client: Client, url: str) -> None:
    body = {"url": url, "events": ["signal.scored"], "secret": None}

    assert client.post("/webhooks", body).status_code == 201
