"""A webhook endpoint that keeps its requests and responds as it is set to."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECRET = "whsec_hidden"  # noqa: S105 -- signs only deliveries of tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request and its time of arrival."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> Any:  # noqa: ANN401 -- any JSON
        return json.loads(self.body)


class Receiver:
    """Serve on a free port. Respond with the statuses in ``responses``, then 204."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.responses: list[int] = []
        self.body: Iterable[bytes] = ()
        self.release = threading.Event()
        self.release.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # a sender may connect and then say nothing

            def do_POST(self) -> None:
                receiver.take(self)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/webhooks/stairoids?a=b"

    def take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.received.append(
            Received(
                path=request.path,
                headers=dict(request.headers.items()),
                body=body,
                at=time.monotonic(),
            )
        )
        self.release.wait(10)
        status = self.responses.pop(0) if self.responses else 204
        if status == 0:  # hang up
            return
        request.send_response(status)
        request.send_header("Location", "http://127.0.0.1:1/")
        request.send_header("Set-Cookie", "session=1")
        request.end_headers()
        with suppress(ConnectionError):  # the sender reads only so much
            for chunk in self.body:
                request.wfile.write(chunk)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
