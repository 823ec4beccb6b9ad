"""Servers that behave badly: each signal gets the right outcome and the run ends."""

from __future__ import annotations

import gc
import json
import socket
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault, Sandbox
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Response = bytes | list[bytes]


def a_response(
    status: str = "201 Created", body: bytes = b"{}", *headers: str
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HostileServer:
    """Responds to every request with the same bytes, or slowly with several pieces."""

    def __init__(self, response: Callable[[int], Response]) -> None:
        self._response = response
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with (
            suppress(OSError),
            closing(connection),
            connection.makefile("rb") as lines,
        ):
            while head := lines.readline():
                length = 0
                while (line := lines.readline().strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                lines.read(length)
                self.requests.append(head)
                response = self._response(len(self.requests))
                try:
                    for piece in (
                        [response] if isinstance(response, bytes) else response
                    ):
                        connection.sendall(piece)
                        if not isinstance(response, bytes) and self._stopped.wait(0.1):
                            return
                except OSError:
                    return

    def stop(self) -> None:
        self._stopped.set()
        self._listener.close()


@contextmanager
def hostile(response: Response | Callable[[int], Response]) -> Iterator[HostileServer]:
    server = HostileServer(response if callable(response) else lambda _number: response)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    "response",
    [a_response("200 OK"), a_response("201 Created", b'{"data": [1, 2], "id": 7}')],
    ids=["200", "strange"],
)
def test_any_2xx_with_a_json_object_is_accepted(
    response: bytes, tmp_path: Path
) -> None:
    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.outcomes == {"accepted": 1}


@pytest.fixture
def _no_collection() -> Iterator[None]:
    """Let nothing be finalised where a deep text has used up the stack."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize(
    "response",
    [
        a_response("202 Accepted", b""),
        a_response("204 No Content", b""),
        a_response("201 Created", b"<html>thanks</html>", "Content-Type: text/html"),
        a_response("201 Created", b'{"id": "sig_'),
        a_response("201 Created", b"\xff\xfe\x00"),
        a_response("201 Created", b"[" * 100_000),
        a_response("201 Created", b'"' + b"x" * 8_000_000 + b'"'),
    ],
    ids=["202", "204", "html", "cut", "binary", "deep", "huge"],
)
def test_2xx_without_a_json_object_stops_the_run(
    response: bytes, tmp_path: Path
) -> None:
    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.exit_code == 1
    assert "does not look like the Stairoids API" in run.error
    assert run.outcomes == {"pending": 1}


@pytest.mark.parametrize(
    "response",
    [
        a_response("422 Nope", b"<html>" + b"x" * 1_000_000),
        a_response("400 Bad Request", b""),
        a_response("413 Too Large", b'{"error": "oops"}'),
        a_response("409 Conflict", b'{"error": {"code": "canary@example.com !"}}'),
    ],
    ids=["1 MB of HTML", "empty", "odd JSON", "a value as code"],
)
def test_rejections_with_any_body_are_dead_letters(
    response: bytes, tmp_path: Path
) -> None:
    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.outcomes == {"rejected": 1}
    assert "canary" not in json.dumps(run.report)


def test_redirect_is_never_followed(tmp_path: Path) -> None:
    with hostile(a_response()) as elsewhere:
        location = f"Location: {elsewhere.url}/signals"
        with hostile(a_response("307 Temporary Redirect", b"", location)) as server:
            run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.exit_code == 1
    assert "`api_url`" in run.error
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 201 Created\r\n" + b"X-Filler: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 201 Created\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["many headers", "long header", "no HTTP", "cut body"],
)
def test_response_that_is_not_http_is_looked_up(
    response: bytes, tmp_path: Path
) -> None:
    """Without an accepted signal, an unreadable lookup proves nothing."""

    def once(number: int) -> bytes:
        if number == 1:
            return response
        return a_response("403 Forbidden", b"{}")

    with hostile(once) as server:
        target = TargetUnderTest(tmp_path, server.url, request_timeout_seconds=1)
        run = target.run(a_schema(), a_record(), a_state())

    assert run.exit_code == 75
    assert run.outcomes == {"pending": 1}
    assert run.states == []


@pytest.mark.parametrize(
    "trickle",
    [
        [b"HTTP/1.1 201 Created\r\n", *[b"X: y\r\n"] * 10_000],
        [b"HTTP/1.1 201 Created\r\nContent-Length: 10000\r\n\r\n", *[b" "] * 10_000],
    ],
    ids=["headers", "body"],
)
def test_slow_response_does_not_hold_up_the_run(
    trickle: list[bytes], tmp_path: Path
) -> None:
    with hostile(trickle) as server:
        target = TargetUnderTest(
            tmp_path, server.url, request_timeout_seconds=1, on_unknown="hold"
        )
        run = target.run(a_schema(), a_record(), a_state())

    assert run.outcomes == {"unknown": 1}


def test_lookup_is_not_possible_if_accepted_signals_have_no_id(tmp_path: Path) -> None:
    """A listed signal with the same content may be an earlier one."""
    with hostile(lambda n: a_response() if n < 3 else a_response("500 Oops")) as server:
        run = TargetUnderTest(tmp_path, server.url).run(
            a_schema(), *(a_record(n) for n in range(1, 4)), max_in_flight=1
        )

    assert run.outcomes == {"accepted": 2, "unknown": 1}
    assert [line[:4] for line in server.requests] == [b"POST"] * 3


def test_lookup_ends_at_pages_that_go_round_in_a_circle(tmp_path: Path) -> None:
    def response(number: int) -> bytes:
        if number == 1:
            return a_response("500 Oops")
        cursor = "ab"[number % 2]
        return a_response("200 OK", b'{"data":[],"next_cursor":"%s"}' % cursor.encode())

    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.outcomes == {"pending": 1}
    assert len(server.requests) == 4


def test_first_run_check_that_is_throttled_respects_retry_after(tmp_path: Path) -> None:
    throttled = a_response("429 Slow Down", b"{}", "Retry-After: 86400")
    with hostile(throttled) as server:
        run = TargetUnderTest(tmp_path, server.url, first_run="guard").run(
            a_schema(), a_record()
        )

    assert run.exit_code == 75
    until = datetime.now(UTC) + timedelta(days=1)
    assert f"The quota of the day is spent, until {until:%Y-%m-%d} " in run.error
    assert run.outcomes == {"pending": 1}
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found"])
def test_lookup_that_is_refused_stops_the_run(tmp_path: Path, status: str) -> None:
    with hostile(lambda n: a_response("500 Oops" if n == 1 else status)) as server:
        target = TargetUnderTest(tmp_path, server.url)
        run = target.run(a_schema(), a_record())

    assert run.exit_code == 1
    assert "Stairoids refuses the request" in run.error
    assert run.outcomes == {"pending": 1}


def test_number_that_no_double_holds_is_a_dead_letter(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = json.dumps(a_schema(plan="number"))
    rows = [
        '{"id": 1, "email": "a@b.example", "plan": 1e400}',
        '{"id": 2, "email": "c@b.example", "plan": 1e300}',
        f'{{"id": 3, "email": "d@b.example", "plan": {"9" * 5_000}}}',
        f'{{"id": {"9" * 5_000}, "email": "e@b.example", "plan": 1}}',
    ]
    lines = [
        f'{{"type": "RECORD", "stream": "trials", "record": {row}}}' for row in rows
    ]
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))

    run = target.run_text("\n".join([schema, *lines]), verify_delay_seconds=0)
    again = target.run_text("\n".join([schema, *lines]))

    assert run.outcomes == {"invalid": 3, "accepted": 1}
    assert again.outcomes == {"invalid": 3, "duplicate": 1}
    assert len(sandbox.signals) == 1
