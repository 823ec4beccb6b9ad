"""A client of the API for tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from stairoids_sandbox import Sandbox


class Client:
    """A keep-alive connection with an API key."""

    def __init__(self, sandbox: Sandbox, key: str | None = None) -> None:
        self.url = sandbox.url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {key or sandbox.api_key}"

    def post(self, path: str, body: object) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=30)

    def get(self, path: str, **params: str | int) -> requests.Response:
        return self.session.get(self.url + path, params=params, timeout=30)

    def send(self, **fields: object) -> requests.Response:
        return self.post("/signals", a_body(**fields))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.session.close()


def a_body(**fields: object) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "product_trial_started",
        "source": "internal_app",
        "account": {"domain": "acmecorp.com", "name": "Acme Corp"},
        "contact": {"email": "jane.doe@acmecorp.com", "first_name": "Jane"},
        "properties": {"plan": "pro_trial"},
    }
    return {name: value for name, value in {**body, **fields}.items() if value != ...}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)
