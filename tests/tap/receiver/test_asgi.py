"""The receiver inside other servers and apps."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from asyncio import Queue
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tap_stairoids_webhooks.receiver import create_app
from tests.support.webhook_builders import SECRET, a_body, headers_for
from tests.tap.receiver.test_app import until
from tests.tap.receiver.test_server import clean_environment, stored_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver

    Message = MutableMapping[str, Any]

UVICORN = Path(sys.executable).with_name("uvicorn")
MOUNTED = """
from starlette.applications import Starlette
from starlette.routing import Mount
from tap_stairoids_webhooks.receiver import create_app
app = Starlette(routes=[Mount("/hooks", create_app())])
"""


@contextmanager
def serving(
    store_url: str, *arguments: str, folder: Path | None = None
) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = clean_environment(
        STAIROIDS_WEBHOOK_SECRET=SECRET, STAIROIDS_WEBHOOKS_STORE_URL=store_url
    )
    with subprocess.Popen(
        [UVICORN, *arguments, "--port", str(port), "--log-level", "warning"],
        env=environment,
        cwd=folder,
    ) as process:
        try:
            until(lambda: _listens(port), seconds=30)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(timeout=30) in {0, -15}


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_uvicorn_serves_the_app_of_the_environment(home_url: str) -> None:
    factory = "tap_stairoids_webhooks.receiver:create_app"
    with serving(home_url, "--factory", factory) as url:
        statuses = [
            requests.post(
                f"{url}/webhooks/stairoids", body, headers=headers_for(body), timeout=15
            ).status_code
            for body in (a_body("evt_1"), a_body("evt_2"), a_body("evt_2"))
        ]
        unsigned = requests.post(f"{url}/webhooks/stairoids", b"{}", timeout=60)
        ready = requests.get(f"{url}/readyz", timeout=60)

    assert statuses == [200, 200, 200]
    assert (unsigned.status_code, ready.status_code) == (401, 200)
    assert stored_ids(home_url) == ["evt_1", "evt_2"]


@pytest.mark.slow
def test_app_is_mounted_in_another_app(store_url: str, tmp_path: Path) -> None:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    with serving(store_url, "mounted:app", folder=tmp_path) as url:
        response = requests.post(
            f"{url}/hooks/webhooks/stairoids",
            a_body("evt_1"),
            headers=headers_for(a_body("evt_1")),
            timeout=15,
        )

    assert response.text == "stored"
    assert stored_ids(store_url) == ["evt_1"]


async def _posted(app: EmbeddedReceiver, body: bytes) -> bytes:
    """Post a body to a started app; return the text of the response."""
    inbox: Queue[Message] = Queue()
    outbox: Queue[Message] = Queue()
    head = [(k.lower().encode(), v.encode()) for k, v in headers_for(body).items()]
    scope = {"type": "http", "method": "POST", "path": "/webhooks/stairoids"}
    await inbox.put({"type": "http.request", "body": body})
    await app({**scope, "headers": head}, inbox.get, outbox.put)
    _, response = outbox.get_nowait(), outbox.get_nowait()
    return bytes(response["body"])


async def _served_once(app: EmbeddedReceiver, body: bytes) -> bytes:
    """Start an app, post a body and stop the app; return the text of the response."""
    inbox: Queue[Message] = Queue()
    outbox: Queue[Message] = Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan"}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"
    text = await _posted(app, body)
    await inbox.put({"type": "lifespan.shutdown"})
    await lifespan
    return text


def test_app_that_starts_again_stores_deliveries(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the tests of an app, each of which starts and stops it."""
    monkeypatch.setenv("STAIROIDS_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("STAIROIDS_WEBHOOKS_STORE_URL", store_url)
    app = create_app()

    texts = [asyncio.run(_served_once(app, a_body(f"evt_{n}"))) for n in range(2)]

    assert texts == [b"stored", b"stored"]
    assert stored_ids(store_url) == ["evt_0", "evt_1"]


def test_store_that_is_gone_at_the_first_request_is_logged_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setenv("STAIROIDS_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("STAIROIDS_WEBHOOKS_STORE_URL", f"sqlite:///{folder}/x.db")
    app = create_app()
    folder.rename(tmp_path / "unmounted")

    text = asyncio.run(_posted(app, a_body()))

    assert text == b"store_unavailable"
    assert f"the folder {folder} does not exist" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("STAIROIDS_WEBHOOK_SECRET", "", "no webhook secret"),
        ("STAIROIDS_WEBHOOKS_MAX_BODY", "much", "MAX_BODY` must be of type integer"),
        ("STAIROIDS_WEBHOOKS_MAX_BODY", "0", "MAX_BODY` must be at least 1"),
        ("STAIROIDS_WEBHOOKS_MIN_FREE", "-1", "MIN_FREE` must be at least 0"),
        ("STAIROIDS_WEBHOOKS_PATH", "hooks", "PATH must be a path such as /hooks"),
        ("STAIROIDS_WEBHOOKS_PATH", "/a b", "PATH must be a path such as /hooks"),
        ("STAIROIDS_WEBHOOKS_PATH", "/a?b", "PATH must be a path such as /hooks"),
        ("STAIROIDS_WEBHOOKS_PATH", "/healthz", "PATH must be a path such as /hooks"),
        ("STAIROIDS_WEBHOOKS_PATH", "/readyz/", "PATH must be a path such as /hooks"),
        ("STAIROIDS_WEBHOOKS_PATH_FILE", "/none", "PATH_FILE cannot be read"),
        ("STAIROIDS_WEBHOOKS_STORE_URL", "mysql://host/db", "must name SQLite or"),
        ("STAIROIDS_WEBHOOKS_STORE_URL", "sqlite:////no/x.db", "/no does not exist"),
        ("STAIROIDS_WEBHOOKS_STORE_URL", f"sqlite:///{__file__}", "is not a database"),
        ("STAIROIDS_WEBHOOKS_STORE_URL", "postgresql://127.0.0.1:1/x", "refused"),
        ("STAIROIDS_WEBHOOKS_STOR_URL", "x", "did you mean"),
        ("STAIROIDS_WEBHOOKS_FORWARD", "https://x", "forward beside this app"),
    ],
)
def test_wrong_environment_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    message: str,
) -> None:
    monkeypatch.setenv("STAIROIDS_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv(name, text)

    with pytest.raises(SystemExit, match="3"):
        create_app()

    printed = capsys.readouterr().err
    assert message in printed
    assert re.fullmatch(r"Error: .+ \[E\d+\]\n", printed)


def test_server_prints_a_wrong_environment_without_a_traceback() -> None:
    done = subprocess.run(
        [UVICORN, "--factory", "tap_stairoids_webhooks.receiver:create_app"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3
    assert done.stderr.startswith("Error: no webhook secret: set STAIROIDS_WEBHOOK_")
    assert done.stderr.count("\n") == 1


def test_settings_of_addresses_and_logs_are_not_read(
    monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    monkeypatch.setenv("STAIROIDS_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("STAIROIDS_WEBHOOKS_STORE_URL", store_url)
    for name in ("PORT", "ADMIN_PORT", "LOG_LEVEL", "LOG_FORMAT", "ALLOW_HTTP"):
        monkeypatch.setenv(f"STAIROIDS_WEBHOOKS_{name}", "odd")

    create_app()
