"""Build events, deliveries and raw requests for tests."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tap_stairoids_webhooks.environment import ReceiverSettings
from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.signature import key_id_of, sign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECRET = "whsec_tests_only"  # noqa: S105 -- signs nothing but the bodies below
EMAIL = "canary@example.com"


def a_receiver(
    store_url: str, *, secrets: Sequence[str] = (SECRET,), token: str = "", **more: Any
) -> Receiver:
    """Return a receiver with more settings, on a free port if none is given."""
    settings = ReceiverSettings(store_url=store_url, **{"port": 0, **more})
    return Receiver(settings, secrets=secrets, token=token)


def a_body(
    event_id: str | None = "evt_1", event: str | None = "signal.created", **more: Any
) -> bytes:
    """Return an enveloped event."""
    body = {
        "event": event,
        "id": event_id,
        "created_at": "2024-10-15T09:30:00Z",
        "data": {"id": "sig_1", "contact": {"email": EMAIL}},
        **more,
    }
    return json.dumps({k: v for k, v in body.items() if v is not None}).encode()


def an_action_body(signal_id: str | None = "sig_1", **more: Any) -> bytes:
    """Return a flat event, as an automation's own webhook sends it."""
    body = {
        "event": "automation.action_triggered",
        "automation_id": "auto_1",
        "automation_name": "High-intent trial → notify sales",
        "triggered_at": "2024-09-01T14:32:05Z",
        "account": {"id": "acc_1", "name": "Acme", "domain": "acme.test"},
        "contact": {"id": "con_1", "email": EMAIL, "first_name": "A"},
        "signal": {"id": signal_id, "type": "trial"} if signal_id else None,
        **more,
    }
    return json.dumps(body).encode()


def a_delivery(body: bytes | None = None, *, secret: str = SECRET) -> Delivery:
    """Return a verified delivery of a body."""
    body = a_body() if body is None else body
    return Delivery(
        body=body,
        signature=sign(body, secret).decode(),
        key_id=key_id_of(secret),
        received_at="2024-10-15T09:30:01.000000Z",
        headers={"x-stairoids-delivery": "d-1", "content-type": "application/json"},
        event=event_from(body),
    )


def deliveries(number: int, *, event: str = "signal.created") -> list[Delivery]:
    """Return a number of different events."""
    return [a_delivery(a_body(f"evt_{n}", event)) for n in range(1, number + 1)]


def headers_for(
    body: bytes, *, secret: str = SECRET, delivery_id: str = "d-1"
) -> dict[str, str]:
    """Return the headers Stairoids sends along with a body."""
    return {
        "Content-Type": "application/json",
        "X-Stairoids-Signature": sign(body, secret).decode(),
        "X-Stairoids-Event": "signal.created",
        "X-Stairoids-Delivery": delivery_id,
    }


def raw_request(
    body: bytes,
    *lines: bytes,
    path: str = "/webhooks/stairoids",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a POST request, with further header lines."""
    head = [
        f"POST {path} HTTP/1.1".encode(),
        b"Host: x",
        b"Content-Length: " + str(len(body)).encode(),
    ]
    sent = headers_for(body) if headers is None else headers
    head += [f"{name}: {value}".encode() for name, value in sent.items()]
    return b"\r\n".join([*head, *lines, b"", body])


def exchange(address: tuple[str, int], request: bytes, *, timeout: float = 15) -> int:
    """Send bytes and return the status of the first response, 0 if there is none."""
    with socket.create_connection(address, timeout=timeout) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused amid the head
            connection.sendall(request)
        return status_from(connection)


def status_from(connection: socket.socket) -> int:
    """Read one response's status."""
    response = b""
    while b"\r\n" not in response:
        try:
            received = connection.recv(65536)
        except ConnectionResetError:
            return 0
        if not received:
            return 0
        response += received
    return int(response.split(b" ", 2)[1])
