"""The pages show the state without running foreign text, and accept only own forms."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from stairoids_sandbox import Fault, Sandbox
from tests.support.sandbox_client import Client, wait_until
from tests.support.sandbox_receiver import SECRET

if TYPE_CHECKING:
    from tests.support.sandbox_receiver import Receiver

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "\u202egpj.exe",
    "🎉" * 40,
    "x" * 300_000,
)


def get(sandbox: Sandbox, path: str = "/", **headers: str) -> requests.Response:
    given = {"Accept": "text/html", **headers}
    return requests.get(sandbox.origin + path, headers=given, timeout=30)


def token_of(sandbox: Sandbox) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', get(sandbox).text)
    assert found is not None
    return found[1]


def post(sandbox: Sandbox, path: str, /, **fields: str) -> requests.Response:
    return requests.post(
        sandbox.origin + path,
        data={"form_token": token_of(sandbox), **fields},
        headers={"Accept": "text/html"},
        timeout=30,
    )


def test_signal_is_shown_with_its_account_and_contact(
    sandbox: Sandbox, client: Client
) -> None:
    signal_id = client.send().json()["id"]

    for path in ("/", f"/signals/{signal_id}"):
        shown = get(sandbox, path).text
        for text in ("product_trial_started", "Acme Corp", "jane.doe@acmecorp.com"):
            assert text in shown
    assert (
        "&#34;plan&#34;: &#34;pro_trial&#34;"
        in get(sandbox, f"/signals/{signal_id}").text
    )


def test_hostile_text_is_shown_harmlessly(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    for text in HOSTILE:
        sandbox.automations.add(type=text, url=receiver.url, name=text)
        client.send(type=text, source=text, account={"domain": "a.com", "name": text})
    wait_until(lambda: all(d.status == "success" for d in sandbox.deliveries))
    pages = [
        get(sandbox).text,
        *(get(sandbox, f"/signals/{signal.id}").text for signal in sandbox.signals),
        *(get(sandbox, f"/deliveries/{sent.id}").text for sent in sandbox.deliveries),
    ]

    for page in pages:
        assert len(page) < 300_000
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "\u202e" not in page
        assert "49" not in re.findall(r"<bdi>(.*?)</bdi>", page)


def test_policy_allows_only_the_own_style_and_script(sandbox: Sandbox) -> None:
    response = get(sandbox)

    policy = response.headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert " style=" not in response.text
    assert re.search(r"\son\w+=", response.text) is None
    assert re.findall(r'(?:src|href)="(https?:[^"]*)', response.text) == []


def test_unchanged_page_is_304(sandbox: Sandbox, client: Client) -> None:
    tag = get(sandbox).headers["ETag"]
    unchanged = get(sandbox, **{"If-None-Match": tag})
    client.send()
    changed = get(sandbox, **{"If-None-Match": tag})

    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert changed.status_code == 200


def test_empty_page_shows_the_settings_for_a_target(sandbox: Sandbox) -> None:
    with Sandbox(keys={"sk_mine": "read_write"}) as other:
        shown = get(other).text

    assert f"api_url: {sandbox.url}\napi_key: sk_test_sandbox<" in get(sandbox).text
    assert "Bearer sk_test_sandbox" in get(sandbox).text
    assert "api_key: YOUR_KEY<" in shown
    assert "sk_mine" not in shown


def test_programs_get_plain_text(sandbox: Sandbox) -> None:
    response = get(sandbox, Accept="*/*")

    assert response.headers["Content-Type"].startswith("text/plain")
    assert "/v1/signals" in response.text


@pytest.mark.parametrize(
    "path", ["/", "/signals/sig_1", "/deliveries/x", "/signals", "/requests"]
)
def test_foreign_host_name_is_refused(sandbox: Sandbox, path: str) -> None:
    """A web page whose own name resolves to 127.0.0.1 must not get in."""
    assert get(sandbox, path, Host="attacker.example").status_code == 403


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        (None, {}, 403),
        ("0" * 64, {}, 403),
        ("%C3%A9", {}, 403),
        ("right", {"Origin": "https://attacker.example"}, 403),
        ("right", {"Origin": "null"}, 403),
        ("right", {"Host": "attacker.example"}, 403),
        ("right", {"Content-Type": "text/plain"}, 415),
    ],
)
def test_foreign_form_changes_nothing(
    sandbox: Sandbox, token: str | None, headers: dict[str, str], status: int
) -> None:
    token = token_of(sandbox) if token == "right" else token  # noqa: S105 -- a mark for the real token
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    for path, fields in (
        ("/automations", "url=http://127.0.0.1:1/"),
        ("/faults/reset", "do=on"),
        ("/faults", ""),
        ("/endpoints/auto_1/test", ""),
        ("/deliveries/send-again", ""),
        ("/automations/auto_1", "do=remove"),
        ("/deliveries/x/send-again", ""),
    ):
        response = requests.post(
            sandbox.origin + path,
            data=f"{fields}&form_token={token}" if token else fields,
            headers=kind | headers,
            timeout=30,
        )
        assert response.status_code == status
    assert sandbox.automations.all() == []
    assert sandbox.faults.all() == []


@pytest.mark.parametrize(
    ("body", "status"), [(b"x" * 70_000, 413), (b"a=%ff", 400), (b"\xff", 400)]
)
def test_form_that_cannot_be_read_is_refused(
    sandbox: Sandbox, body: bytes, status: int
) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    response = requests.post(
        f"{sandbox.origin}/faults/reset", data=body, headers=kind, timeout=10
    )

    assert response.status_code == status


def test_automation_is_created_switched_and_removed(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    created = post(sandbox, "/automations", url=receiver.url, type="x", secret=SECRET)
    (automation,) = sandbox.automations.all()
    path = f"/automations/{automation.id}"
    post(sandbox, path, do="off")
    client.send(type="x")
    post(sandbox, path, do="on")
    client.send(type="x")
    wait_until(lambda: len(receiver.received) == 1)

    assert created.history[0].status_code == 303
    assert SECRET not in get(sandbox).text
    assert len(sandbox.deliveries) == 1
    post(sandbox, path, do="remove")
    assert sandbox.automations.all() == []
    assert post(sandbox, path, do="paint").status_code == 400


def test_wrong_automation_shows_an_error_and_keeps_the_fields(sandbox: Sandbox) -> None:
    response = post(sandbox, "/automations", url="ftp://x", name="Mine <3")

    assert response.status_code == 400
    assert 'role="alert">url must begin with https://' in response.text
    assert 'value="Mine &lt;3"' in response.text
    assert sandbox.automations.all() == []


def test_delivery_shows_attempts_and_signature_and_is_sent_again(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.automations.add(type="*", url=receiver.url, secret=SECRET)
    client.send()
    wait_until(lambda: sandbox.deliveries[0].status == "success")
    path = f"/deliveries/{sandbox.deliveries[0].id}"

    shown = get(sandbox, path).text
    again = post(sandbox, f"{path}/send-again", **{"from": "delivery"})
    wait_until(lambda: len(receiver.received) == 2)

    (first, second) = receiver.received
    assert first.headers["X-Stairoids-Signature"] in shown
    assert first.headers["X-Stairoids-Delivery"] in shown
    assert SECRET not in shown
    assert second.body == first.body
    assert again.url == f"{sandbox.origin}/deliveries/{sandbox.deliveries[1].id}"


def test_attempt_without_a_response_is_shown(sandbox: Sandbox, client: Client) -> None:
    sandbox.automations.add(type="*", url="http://127.0.0.1:1/")
    client.send()
    wait_until(lambda: sandbox.deliveries[0].status == "failed")

    shown = get(sandbox).text

    assert shown.count("no response") == 5
    assert "failed" in shown
    assert '0 of 1 delivered, <a href="/deliveries?status=failed">1 failed' in shown


@pytest.mark.parametrize("path", ["/signals/x", "/deliveries/x"])
def test_unknown_page_is_404(sandbox: Sandbox, path: str) -> None:
    assert get(sandbox, path).status_code == 404
    assert post(sandbox, "/deliveries/x/send-again").status_code == 404


def test_fault_is_switched_on_and_off(sandbox: Sandbox, client: Client) -> None:
    custom = Fault(kind="slow", delay_ms=200, count=7)
    sandbox.faults.add(custom)
    post(sandbox, "/faults/status", do="on", probability="1", status="502")
    failed = client.send().status_code
    shown = get(sandbox).text
    post(sandbox, "/faults/status", do="off")

    assert failed == 502
    assert "every send, 502" in shown
    assert "0.2 s, 1 of 7 used" in shown
    assert client.send().status_code == 201
    assert sandbox.faults.all() == [custom]


def test_page_shows_the_uses_of_a_fault_and_then_turns_it_off(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(Fault(kind="status", count=2, containing="harbor"))
    client.send()
    client.send(account={"domain": "harbor.example"})
    shown = get(sandbox).text
    client.send(account={"domain": "harbor.example"})

    assert "every send that contains “harbor”, 503, 1 of 2 used" in shown
    assert "Faults are on" not in get(sandbox).text
    assert 'aria-checked="true"' not in get(sandbox).text


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("meteor", {}), ("reset", {"probability": "2"}), ("status", {"status": "200"})],
)
def test_unknown_switch_changes_nothing(
    sandbox: Sandbox, kind: str, fields: dict[str, Any]
) -> None:
    assert post(sandbox, f"/faults/{kind}", do="on", **fields).status_code == 400
    assert sandbox.faults.all() == []


def test_page_shows_the_used_quota_of_each_key() -> None:
    keys = {"sk_one": "read_write", "sk_two": "read"}
    with (
        Sandbox(requests_per_minute=5, keys=keys) as sandbox,
        Client(sandbox, "sk_one") as client,
    ):
        for _ in range(7):
            client.send()
        shown = get(sandbox).text

    assert 'aria-valuemax="5" aria-valuenow="5"' in shown
    assert 'aria-valuemax="5" aria-valuenow="0"' in shown
    responses = re.findall(r">(\d{3}) .&nbsp;(\d+)<", shown)
    assert responses == [("201", "5"), ("429", "2")]
    assert "sk_one" not in shown


def test_page_shows_only_the_latest_signals(sandbox: Sandbox, client: Client) -> None:
    for number in range(52):
        client.send(type=f"type_{number}_")

    shown = get(sandbox).text

    assert "type_51_" in shown
    assert "type_1_" not in shown
    assert "52 accepted" in shown


def test_page_says_where_the_key_of_its_command_is() -> None:
    with Sandbox(keys={"sk_one": "read_write"}) as sandbox, Client(sandbox) as client:
        assert "YOUR_KEY is a <code>--key</code>" in get(sandbox).text
        client.send(type=7)
        shown = get(sandbox).text

    assert "No signal was accepted." in shown
    assert "No signal yet." not in shown
