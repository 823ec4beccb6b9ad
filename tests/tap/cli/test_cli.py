"""The commands about endpoints and statistics, in process."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from typing_extensions import override

from stairoids_sandbox import Sandbox
from tap_stairoids_webhooks.cli.main import main
from tap_stairoids_webhooks.store.statistics import statistics_of
from tests.support.commands import without_ids
from tests.support.raw_server import Server, drip, raw, running
from tests.support.webhook_builders import SECRET, a_body, a_delivery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_stairoids_webhooks.receiver.server import Receiver
    from tap_stairoids_webhooks.store.store import EventStore

KEY = "sk_canary"
ENDPOINT = {"id": "wh_1", "url": "https://x.test/", "events": [], "enabled": True}


def run(*arguments: str, **env: str) -> Result:
    given = {"STAIROIDS_WEBHOOK_SECRET": SECRET, "STAIROIDS_API_KEY": KEY, **env}
    return CliRunner().invoke(main, arguments, env=given)


class Api(ThreadingHTTPServer):
    """Responds to each request with `status` and `content`, and keeps the request."""

    status: int = 200
    content: object = None
    headers: dict[str, str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.headers = {}
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"null")
        headers = dict(self.headers.items())
        self.server.seen.append((self.command, self.path, headers, body))
        content = b""
        if self.server.content is not None:
            content = json.dumps(self.server.content).encode()
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _respond  # noqa: N815 -- the standard library's names

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, args=[0.01])
        thread.start()
        yield api
        api.shutdown()
        thread.join()


def test_help_names_every_command() -> None:
    result = run("--help")

    expected = "delete erase forget forward import list prune register restored"
    expected += " send-test serve stats"
    assert sorted(main.commands) == expected.split()
    for command in main.commands:
        assert command in result.output
        assert run(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("serve", "STAIROIDS_WEBHOOK_SECRET STAIROIDS_WEBHOOKS_ADMIN_TOKEN"),
        ("send-test", "STAIROIDS_WEBHOOK_SECRET STAIROIDS_WEBHOOK_SECRETS"),
        ("import", "STAIROIDS_WEBHOOK_SECRET STAIROIDS_WEBHOOK_SECRETS"),
        ("register", "STAIROIDS_API_KEY STAIROIDS_WEBHOOK_SECRET"),
        ("list", "STAIROIDS_API_KEY"),
        ("delete", "STAIROIDS_API_KEY"),
    ],
)
def test_help_names_the_variables_of_keys_and_secrets(
    command: str, variables: str
) -> None:
    words = set(re.findall(r"\w+", run(command, "--help").output))

    assert set(variables.split()) <= words


def test_send_test_sends_a_sample_of_each_event(receiver: Receiver) -> None:
    result = run("send-test", receiver.url)

    assert result.exit_code == 0
    assert len(statistics_of(receiver.store).events) == 6
    assert set(receiver.counts) == {"stored"}


def test_no_proxy_is_asked_for_a_server_on_this_machine(receiver: Receiver) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:1")
    root = receiver.url.removesuffix("/webhooks/stairoids")

    sent = run("send-test", receiver.url, **proxies)
    listed = run("list", "--api-url", root, STAIROIDS_API_KEY="sk_test", **proxies)

    assert sent.exit_code == 0
    assert f"GET {root}/webhooks: Stairoids responded 404" in listed.stderr


def test_send_test_with_another_secret_fails(receiver: Receiver) -> None:
    result = run("send-test", receiver.url, STAIROIDS_WEBHOOK_SECRET="hunter2")  # noqa: S106 -- a test's

    assert result.exit_code == 1
    assert "401 for 6 of 6 samples: the receiver has another secret" in result.output
    assert "[E232]" in result.output
    assert "hunter2" not in result.output


def test_send_test_to_another_path_names_the_option(receiver: Receiver) -> None:
    result = run("send-test", receiver.url.replace("stairoids", "elsewhere"))

    assert result.exit_code == 1
    assert "404 for 6 of 6 samples: the receiver has another path" in result.output
    assert "--path" in result.output


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (302, "a redirect, which is not followed"),
        (503, "see the receiver's log"),
    ],
)
def test_send_test_explains_the_status(api: Api, status: int, hint: str) -> None:
    api.status = status

    result = run("send-test", api.url)

    assert result.exit_code == 1
    assert f"{status} for 6 of 6 samples: {hint}" in result.output


def test_commands_without_a_secret_name_the_variables(receiver: Receiver) -> None:
    result = run("send-test", receiver.url, STAIROIDS_WEBHOOK_SECRET="")

    assert result.exit_code == 1
    assert "set STAIROIDS_WEBHOOK_SECRET, or STAIROIDS_WEBHOOK_SECRETS" in result.output


class Closing(socketserver.BaseRequestHandler):
    """Reads something, and hangs up."""

    @override
    def handle(self) -> None:
        self.request.recv(1)


@pytest.fixture
def closing() -> Iterator[str]:
    with socketserver.TCPServer(("127.0.0.1", 0), Closing) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/x", "connection refused: no server listens on this port"),
        ("https://no-such-host.invalid/x", "host not found"),
        ("https://{closing}/x", "TLS failed: "),
        ("http://{closing}/x", "the connection broke off before a response"),
        ("https://.x/", "the URL is not valid"),
        ("https://hooks..example.com/", "the URL is not valid"),
    ],
)
def test_missing_response_is_explained(closing: str, url: str, reason: str) -> None:
    result = run("send-test", url.format(closing=closing))

    assert result.exit_code == 1
    assert f"no response ({reason}" in result.output
    assert "Error)" not in result.output


@pytest.mark.parametrize("command", ["send-test {url}", "list --api-url {url}"])
def test_response_whose_head_is_cut_off_is_none(command: str) -> None:
    server = Server()
    server.response = b"HTTP/1.1 200 O"
    with running(server):
        result = run(*command.format(url=server.url).split())

    assert result.exit_code == 1
    expected = "no response (the connection broke off before a response)"
    assert expected in result.output


def test_missing_response_of_the_api_is_explained() -> None:
    result = run("list", "--api-url", "http://127.0.0.1:1/x")

    assert result.exit_code == 1
    assert "no response (connection refused" in result.output


def test_slow_response_is_a_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.endpoints._TEST_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"

        result = run("send-test", url)

    assert result.exit_code == 1
    assert "no response (timeout)" in result.output


@pytest.mark.parametrize("command", ["register http://127.0.0.1/", "list", "delete 1"])
def test_response_whose_body_never_ends_is_a_timeout(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.endpoints._SECONDS", 0.2)
    server = Server()
    server.response = drip
    words = [*command.split(), *(["--yes"] if "delete" in command else [])]
    with running(server):
        result = run(*words, "--api-url", server.url)

    assert result.exit_code == 1
    assert "no response (timeout)" in result.output


@pytest.mark.parametrize("command", ["register https://x.test/", "list", "delete 1"])
@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b" " * 5_000_000, b"\xff", b"<html>Sign in</html>"]
)
def test_body_that_is_no_json_is_one_sentence(command: str, content: bytes) -> None:
    server = Server()
    server.response = raw(200, content)
    words = [*command.split(), *(["--yes"] if "delete" in command else [])]
    with running(server):
        result = run(*words, "--api-url", server.url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "responded 200 with no JSON: check --api-url [E490]" in result.output


def test_samples_do_not_wait_for_the_body_of_a_response() -> None:
    server = Server()
    server.response = drip
    with running(server):
        result = run("send-test", server.url)

    assert result.exit_code == 0
    assert result.output.count('"status": 200') == 6


def test_stats_as_table_and_json(store: EventStore, store_url: str) -> None:
    store.append([a_delivery(), a_delivery(a_body("evt_2", "b")), a_delivery(b"no")])

    table = run("stats", "--store-url", store_url)
    found = run("stats", "--format", "json", STAIROIDS_WEBHOOKS_STORE_URL=store_url)

    assert "signal.created" in table.output
    assert json.loads(found.output)["events"] == {
        "(none)": 1,
        "b": 1,
        "signal.created": 1,
    }


def test_stats_of_an_empty_store(store: EventStore, store_url: str) -> None:
    assert "none yet" in run("stats", "--store-url", store_url).output
    assert store.last_sequence() == 0


def test_stats_of_no_store_fail(store_url: str) -> None:
    result = run("stats", "--store-url", store_url)

    assert result.exit_code == 1
    assert "there is no store at" in result.output


@pytest.mark.parametrize("envelope", [True, False])
def test_register_sends_the_secret_and_does_not_print_it(
    api: Api, *, envelope: bool
) -> None:
    made = ENDPOINT | {"secret": SECRET}
    api.status, api.content = 201, {"data": made} if envelope else made

    result = run(
        "register", "https://x.test/", "--event", "signal.created", "--api-url", api.url
    )

    assert json.loads(result.output)["id"] == "wh_1"
    assert SECRET not in result.output
    (method, path, headers, body), (then, *_) = api.seen
    assert (method, path, then) == ("POST", "/v1/webhooks", "GET")
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "url": "https://x.test/",
        "events": ["signal.created"],
        "secret": SECRET,
    }


def test_second_endpoint_of_a_url_is_a_warning() -> None:
    """As during the rotation of a secret."""
    with Sandbox() as sandbox:
        key = sandbox.api_key
        url = "https://x.test/hook"
        options = ("--api-url", sandbox.url)
        env = {"STAIROIDS_API_KEY": key}
        first = run("register", url, *options, **env)
        other = run("register", "https://x.test/other", *options, **env)
        second = run("register", f"{url}/", *options, **env)

    old = json.loads(first.stdout)["id"]
    assert (first.stderr, other.stderr) == ("", "")
    assert json.loads(second.stdout)["url"] == f"{url}/"
    assert f"stairoids-webhooks delete {old} [E492]" in second.stderr


@pytest.mark.parametrize(
    "content",
    [None, {"data": None}, [], "x", 7, {}, {"data": [ENDPOINT]}, {"id": None}],
    ids=json.dumps,
)
def test_response_without_an_endpoint_is_no_registration(
    api: Api, content: object
) -> None:
    api.status, api.content = 201, content

    result = run("register", "https://x.test/", "--api-url", api.url)

    assert result.exit_code == 1
    assert "names no endpoint" in result.output
    assert "[E491]" in result.output


@pytest.mark.parametrize(
    "content", [{"data": None}, None, {"webhooks": None}, {"webhooks": [1]}, "x", 7]
)
def test_list_of_something_else_is_an_error(api: Api, content: object) -> None:
    api.content = content

    result = run("list", "--api-url", api.url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "shape this version does not know" in result.output


@pytest.mark.parametrize(
    "content",
    [
        {"webhooks": [ENDPOINT], "total": 1},
        {"data": [ENDPOINT]},
        {"data": {"webhooks": [ENDPOINT]}},
        [ENDPOINT],
    ],
)
def test_list_reads_every_documented_shape(api: Api, content: object) -> None:
    api.content = content

    assert json.loads(run("list", "--api-url", api.url).output) == ENDPOINT


def test_delete_escapes_the_id(api: Api) -> None:
    api.status = 204

    assert run("delete", "wh_1/..", "--yes", "--api-url", api.url).exit_code == 0
    assert api.seen[0][:2] == ("DELETE", "/v1/webhooks/wh_1%2F..")


@pytest.mark.parametrize("endpoint_id", ["", " ", ".", ".."])
def test_delete_refuses_an_id_that_leads_to_another_url(
    api: Api, endpoint_id: str
) -> None:
    result = run("delete", endpoint_id, "--yes", "--api-url", api.url)

    assert result.exit_code == 2
    assert "ENDPOINT_ID is not an id, such as those of `list`. [E380]" in result.output
    assert api.seen == []


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (401, {"error": {"code": "unauthorized", "request_id": "r1"}}, "unauthorized"),
        (403, {"error": {"code": "x"}, "meta": {"request_id": "r1"}}, "request_id=r1"),
        (401, None, "check the API key"),
        (500, "<html>", "responded 500"),
        (404, None, "responded 404: check --api-url"),
        (302, None, "responded 302: a redirect, which is not followed; check --api"),
        (200, {"other": 1}, "shape this version does not know: check --api-url"),
    ],
)
def test_refused_call_is_explained(
    api: Api, status: int, content: object, message: str
) -> None:
    api.status, api.content = status, content
    api.headers = {"Location": f"{api.url}/elsewhere"}

    result = run("list", "--api-url", api.url)

    assert result.exit_code == 1
    assert message in result.output
    assert KEY not in result.output
    assert len(api.seen) == 1


def test_error_of_stairoids_is_shown_without_secrets(api: Api) -> None:
    message = f"url {SECRET} must begin with https:// {KEY}\x1b[2J" + "x" * 9_000
    error = {"code": "invalid_payload", "message": message, "param": "url"}
    api.status, api.content = 400, {"error": error}

    long = run("register", "http://x.test/", "--api-url", api.url).output

    error["message"] = "url must begin with https://"
    short = run("register", "http://x.test/", "--api-url", api.url).output

    assert "400: url (hidden) must begin with https:// (hidden) [2Jxxx" in long
    assert len(long) < 700
    for canary in (SECRET, KEY, "\x1b"):
        assert canary not in long
    assert without_ids(short).endswith(
        "400: url must begin with https:// (invalid_payload, param=url)\n"
    )


@pytest.mark.parametrize(
    "url",
    ["http://api.stairoids.com/v1", "ftp://127.0.0.1/", "x", "https://", "http://["],
)
def test_key_is_not_sent_in_plain_text(url: str) -> None:
    result = run("list", "--api-url", url)

    assert result.exit_code == 1
    assert "--api-url must begin with https://" in result.output


def test_misspelt_variable_of_the_key_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = run("list", STAIROIDS_API_KEY="", STAIROIDS_API_KYE=KEY)

    assert "no API key" in result.output
    assert "did you mean `STAIROIDS_API_KEY`?" in caplog.text


def test_missing_key_is_named() -> None:
    result = run("list", STAIROIDS_API_KEY="")

    assert result.exit_code == 1
    assert "set STAIROIDS_API_KEY" in result.output


@pytest.mark.parametrize(
    ("command", "key", "reason"),
    [
        ("list", "sk\ncanary", "`STAIROIDS_API_KEY` has a line break"),
        ("delete wh_1 --yes", "sk_canary\r\nX: y", "`STAIROIDS_API_KEY` has a line"),
        (
            "register https://x.test/",
            "“sk_canary”",
            "STAIROIDS_API_KEY holds characters no HTTP header can",
        ),
    ],
)
def test_key_that_no_header_can_carry_is_not_shown(
    command: str, key: str, reason: str
) -> None:
    result = run(*command.split(), STAIROIDS_API_KEY=key)

    assert result.exit_code == 1
    assert reason in result.output
    assert "canary" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_quotes_around_a_secret_are_removed(receiver: Receiver) -> None:
    result = run("send-test", receiver.url, STAIROIDS_WEBHOOK_SECRET=f'"{SECRET}"')

    assert result.exit_code == 0
    assert set(receiver.counts) == {"stored"}


@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        ("send-test http://127.0.0.1:9/", "STAIROIDS_WEBHOOK_SECRET", f"{SECRET}\r"),
        ("send-test http://127.0.0.1:9/", "STAIROIDS_WEBHOOK_SECRET", f" {SECRET}"),
        ("serve", "STAIROIDS_WEBHOOK_SECRET", f'"{SECRET} "'),
        ("serve", "STAIROIDS_WEBHOOK_SECRETS", f'["{SECRET}", " {SECRET}"]'),
        ("list", "STAIROIDS_API_KEY", "sk_canary "),
        ("list", "STAIROIDS_API_KEY", "sk_canary\r"),
        (
            "serve --admin-port 0",
            "STAIROIDS_WEBHOOKS_ADMIN_TOKEN",
            "canary_canary_canary\t",
        ),
    ],
)
def test_secret_with_white_space_at_an_end_is_refused(
    command: str, name: str, text: str
) -> None:
    result = run(*command.split(), **{"STAIROIDS_WEBHOOK_SECRET": SECRET, name: text})

    assert result.exit_code == 1
    assert f"`{name}` begins or ends with white space" in result.stderr
    assert "canary" not in result.output
    assert SECRET not in result.output


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("STAIROIDS_WEBHOOKS_PROT", "1", "did you mean `STAIROIDS_WEBHOOKS_PORT`?"),
        ("STAIROIDS_WEBHOOK_STORE_URL", "x", "`STAIROIDS_WEBHOOKS_STORE_URL`?"),
        ("STAIROIDS_WEBHOOKS_PORT", "many", "(env var: 'STAIROIDS_WEBHOOKS_PORT')"),
        ("STAIROIDS_WEBHOOKS_STORE_URL", "sqlite://", "must name a file with three"),
    ],
)
def test_wrong_variable_of_the_receiver_is_named(
    name: str, text: str, error: str
) -> None:
    others = {"STAIROIDS_WEBHOOK_SECRET": SECRET, "STAIROIDS_WEBHOOKS_PORT": "0"}
    result = run("serve", **{**others, name: text})

    assert result.exit_code in {1, 2}
    assert error in result.stderr


@pytest.mark.parametrize("command", ["list --api-url", "send-test"])
def test_url_with_credentials_is_refused_and_not_repeated(command: str) -> None:
    result = run(*command.split(), "https://me:canary@hooks.example.com/")

    assert result.exit_code == 1
    assert "must hold no credentials" in result.stderr
    assert "canary" not in result.stderr
