"""Servers that behave badly: each signal is judged right and the run ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.singer_io import TargetUnderTest, a_record, a_schema, a_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Response = bytes | list[bytes]


def an_answer(status: str = "201 Created", body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HostileServer:
    """Answers every request with the same bytes, in pieces if asked to."""

    def __init__(self, response: Callable[[int], Response]) -> None:
        self._answer = response
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
                response = self._answer(len(self.requests))
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
    [
        an_answer("200 OK"),
        an_answer("202 Accepted", b""),
        an_answer("204 No Content", b""),
        an_answer("201 Created", b"<html>thanks</html>", "Content-Type: text/html"),
        an_answer("201 Created", b'{"id": "sig_'),
        an_answer("201 Created", b'{"data": [1, 2], "id": 7}'),
        an_answer("201 Created", b"\xff\xfe\x00"),
        an_answer("201 Created", b"[" * 100_000),
        an_answer("201 Created", b'"' + b"x" * 8_000_000 + b'"'),
    ],
    ids=["200", "202", "204", "html", "cut", "strange", "binary", "deep", "huge"],
)
def test_any_2xx_is_accepted_whatever_its_body(response: bytes, tmp_path: Path) -> None:
    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.outcomes == {"accepted": 1}


@pytest.mark.parametrize(
    "response",
    [
        an_answer("422 Nope", b"<html>" + b"x" * 1_000_000),
        an_answer("400 Bad Request", b""),
        an_answer("413 Too Large", b'{"error": "oops"}'),
        an_answer("409 Conflict", b'{"error": {"code": "canary@example.com !"}}'),
    ],
    ids=["1 MB of HTML", "empty", "odd JSON", "a value as code"],
)
def test_rejections_in_any_clothes_are_dead_letters(
    response: bytes, tmp_path: Path
) -> None:
    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.outcomes == {"rejected": 1}
    assert "canary" not in json.dumps(run.report)


def test_redirect_is_never_followed(tmp_path: Path) -> None:
    with hostile(an_answer()) as elsewhere:
        location = f"Location: {elsewhere.url}/signals"
        with hostile(an_answer("307 Temporary Redirect", b"", location)) as server:
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
def test_answer_that_is_none_is_unknown(response: bytes, tmp_path: Path) -> None:
    def once(number: int) -> bytes:
        if number == 1:
            return response
        return an_answer("403 Forbidden", b"{}")

    with hostile(once) as server:
        target = TargetUnderTest(tmp_path, server.url, request_timeout_seconds=1)
        run = target.run(a_schema(), a_record(), a_state())

    assert run.outcomes == {"unknown": 1}
    assert run.states == [{"at": 1}]


@pytest.mark.parametrize(
    "trickle",
    [
        [b"HTTP/1.1 201 Created\r\n", *[b"X: y\r\n"] * 200],
        [b"HTTP/1.1 201 Created\r\nContent-Length: 200\r\n\r\n", *[b" "] * 200],
    ],
    ids=["headers", "body"],
)
def test_trickling_answer_does_not_hold_the_run(
    trickle: list[bytes], tmp_path: Path
) -> None:
    with hostile(trickle) as server:
        target = TargetUnderTest(
            tmp_path, server.url, request_timeout_seconds=1, on_unknown="hold"
        )
        start = time.monotonic()
        run = target.run(a_schema(), a_record(), a_state())
        taken = time.monotonic() - start

    assert run.outcomes == {"unknown": 1}
    assert taken < 15


def test_acceptances_without_ids_leave_lost_answers_to_a_person(tmp_path: Path) -> None:
    """What says the same may be the earlier one, so finding it would prove nothing."""
    with hostile(lambda n: an_answer() if n < 3 else an_answer("500 Oops")) as server:
        run = TargetUnderTest(tmp_path, server.url).run(
            a_schema(), *(a_record(n) for n in range(1, 4)), max_in_flight=1
        )

    assert run.outcomes == {"accepted": 2, "unknown": 1}
    assert [line[:4] for line in server.requests] == [b"POST"] * 3


def test_pages_that_go_round_in_a_circle_prove_nothing(tmp_path: Path) -> None:
    def response(number: int) -> bytes:
        if number == 1:
            return an_answer("500 Oops")
        cursor = "ab"[number % 2]
        return an_answer("200 OK", b'{"data":[],"next_cursor":"%s"}' % cursor.encode())

    with hostile(response) as server:
        run = TargetUnderTest(tmp_path, server.url).run(a_schema(), a_record())

    assert run.outcomes == {"unknown": 1}
    assert len(server.requests) == 4


def test_guard_that_is_throttled_waits_as_it_is_told(tmp_path: Path) -> None:
    """A day that is spent is spent for questions too."""
    throttled = an_answer("429 Slow Down", b"{}", "Retry-After: 86400")
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
def test_refusal_while_looking_stops_the_run(tmp_path: Path, status: str) -> None:
    with hostile(lambda n: an_answer("500 Oops" if n == 1 else status)) as server:
        target = TargetUnderTest(tmp_path, server.url)
        run = target.run(a_schema(), a_record())

    assert run.exit_code == 1
    assert "Stairoids refuses us" in run.error
    assert run.outcomes == {"pending": 1}
