"""A handler of webhooks, as a user of the forwarder writes one."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from tests.support.webhook_builders import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

Payload = dict[str, Any]
Answer = tuple[int, dict[str, str]]
OK: Answer = (200, {})


class WebhookHandler:
    """Verify each request as the documentation of Stairoids shows, and keep it.

    Args:
        answer: Returns status and headers for a payload and its number of requests.
        port: The port; 0 for a free one.

    Attributes:
        ids: The ids of the events that got 2xx, in order.
        headers: The headers of each request.
    """

    def __init__(
        self, answer: Callable[[Payload, int], Answer] = lambda *_: OK, port: int = 0
    ) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.ids: list[str] = []
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        handler = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet, so that no client waits for the second

            def do_POST(self) -> None:
                handler.take(self)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?token=canary"

    def take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        signature = request.headers["X-Stairoids-Signature"]
        expected = (
            "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        )
        payload = json.loads(body)
        with self._lock:
            self.headers.append(dict(request.headers.items()))
            self.requests[payload["id"]] += 1
            number = self.requests[payload["id"]]
        status, headers = self._answer(payload, number)
        if not hmac.compare_digest(expected, signature):
            status = 401
        if 200 <= status < 300:
            with self._lock:
                self.ids.append(payload["id"])
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"OK")
        request.wfile.flush()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
