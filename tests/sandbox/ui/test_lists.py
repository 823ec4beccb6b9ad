"""Signals, deliveries and requests are searched, filtered, paged and sent again."""

from __future__ import annotations

import json
import re
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from stairoids_sandbox import Fault, Sandbox
from tests.sandbox.ui.test_pages import get, post
from tests.support.sandbox_client import Client, a_body, wait_until
from tests.support.sandbox_receiver import SECRET

if TYPE_CHECKING:
    from tests.support.sandbox_receiver import Receiver


def fail_all(sandbox: Sandbox, client: Client, receiver: Receiver) -> None:
    """Let the delivery of one signal fail in each attempt."""
    receiver.responses = [401] * 5
    receiver.body = [b"signature_mismatch"]
    sandbox.automations.add(type="*", url=receiver.url, secret=SECRET, name="Welcome")
    client.send()
    wait_until(lambda: sandbox.deliveries[0].status == "failed")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=HARBOR", ["b"]),
        ("q=zoë", ["c"]),
        ("q=vip", ["c"]),
        ("type=a", ["a"]),
        ("key=key-1", ["c", "b", "a"]),
        ("key=key-2", []),
        ("day=2020-01-01", []),
        ("q=nothing", []),
        ("q=%22%3E<b>&type=<b>", []),
    ],
)
def test_signals_are_found_by_text_type_key_and_day(
    sandbox: Sandbox, client: Client, query: str, found: list[str]
) -> None:
    client.send(type="a")
    client.send(type="b", account={"domain": "harbor.example"})
    client.send(
        type="c",
        contact={"email": "z@x.example", "first_name": "Zoë"},
        properties={"tier": "VIP"},
    )

    page = get(sandbox, f"/signals?{query}").text

    ids = {signal.id: signal.type for signal in sandbox.signals}
    rows = re.findall(r'<li id="(sig_\w+)">', page)
    assert [ids[row] for row in rows] == found
    assert ("Nothing fits these filters." in page) == (not found)
    assert "<b>&" not in page


def test_lists_are_paged_by_a_cursor_that_new_rows_do_not_shift(
    sandbox: Sandbox, client: Client
) -> None:
    for number in range(60):
        client.send(type=("even", "odd")[number % 2], properties={"n": number})
    first = get(sandbox, "/signals?type=even").text
    assert "Older" not in first
    first = get(sandbox, "/signals").text
    (older,) = re.findall(r'href="(/signals\?before=\d+)"', first)
    before = get(sandbox, older).text
    client.send()

    assert get(sandbox, older).text.count('<li id="sig_') == 10
    assert before.count('<li id="sig_') == 10
    assert re.search(r'href="/signals\?">← The latest', before)
    (newer,) = re.findall(r'href="(/signals\?before=\d+)">← Newer', before)
    assert re.findall("sig_\\w+", get(sandbox, newer).text) == re.findall(
        "sig_\\w+", first
    )
    even = get(sandbox, "/signals?type=even").text
    assert "30 fit these filters, of 61 so far." in even
    assert "Refused requests (0)" in get(sandbox, "/requests").text


def test_link_back_has_the_filters_of_the_list(
    sandbox: Sandbox, client: Client
) -> None:
    page = f"{sandbox.origin}/signals/{client.send().json()['id']}"
    for referer, link in (
        (f"{sandbox.origin}/signals?q=%22a&type=b", "/signals?q=%22a&amp;type=b"),
        (f"{sandbox.origin}/deliveries?q=a", "/signals"),
        ("https://[x", "/signals"),
    ):
        shown = requests.get(page, headers={"Referer": referer}, timeout=30).text
        assert f'<a class="back" href="{link}">' in shown


def test_controls_give_all_signals_by_cursor(sandbox: Sandbox, client: Client) -> None:
    sent = [client.send().json()["id"] for _ in range(7)]
    found: list[str] = []
    page: dict[str, Any] = {"next_cursor": ""}
    while page["next_cursor"] is not None:
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        url = f"{sandbox.origin}/_sandbox/signals?limit=3{cursor}"
        page = requests.get(url, timeout=30).json()
        found = [signal["id"] for signal in page["signals"]] + found
    wrong = requests.get(f"{sandbox.origin}/_sandbox/signals?cursor=x", timeout=30)

    assert found == sent
    assert wrong.status_code == 400


def test_refused_request_is_logged_with_its_error(
    sandbox: Sandbox, client: Client
) -> None:
    client.send()
    refused = client.post("/signals", {"type": "x", "account": {"domian": "a.com"}})
    sandbox.faults.add(Fault(kind="reset", count=1))
    with pytest.raises(requests.ConnectionError):
        client.send()
    error = refused.json()["error"]

    page = get(sandbox, "/requests?status=refused").text
    found = requests.get(f"{sandbox.origin}/_sandbox/requests", timeout=30).json()

    ids = error["code"], error["request_id"]
    for text in (*ids, "account.domian", "A fault closed"):
        assert text in page
    assert page.count('<li id="request-') == 2
    assert get(sandbox, f"/requests?q={error['request_id']}").text.count("<li id=") == 1
    assert [r["status"] for r in found["requests"]] == [201, 400, None]
    assert found["requests"][1]["error"]["param"] == "account.domian"


def test_refused_request_has_a_page_and_is_found_by_its_body(
    sandbox: Sandbox, client: Client
) -> None:
    accepted = client.send(account={"domain": "harbor.example"}).json()["id"]
    client.send(occurred_at="yesterday")
    client.send(account={"domain": "company33.example"}, properties={"a": ["<b>"]})
    for key in ("Bearer sk_secret_CANARY", "", "Bearer k"):
        requests.post(
            f"{sandbox.url}/signals",
            json={"type": "x", "contact": {"email": "user133@b.example"}},
            headers={"Authorization": key},
            timeout=30,
        )

    def found(text: str) -> list[str]:
        page = get(sandbox, f"/requests?q={text}").text
        return re.findall(r'<li id="request-(\d+)">', page)

    assert found("harbor") == ["1"]
    assert found("yesterday") == ["2"]
    assert found("company33") == ["3"]
    assert found("user133") == ["6", "5", "4"]
    rows = get(sandbox, "/requests").text
    assert f'href="/signals/{accepted}"' in rows
    assert "company33.example" in rows
    assert "user133@b.example" in rows
    assert "Key: sk_s… (16 characters)" in rows
    assert "Key: no key" in rows
    assert "Key: … (1 characters)" in rows
    assert "CANARY" not in rows
    shown = get(sandbox, "/requests/3").text
    assert "&lt;b&gt;" in shown
    assert "properties.a must be" in shown
    assert f'href="/signals/{accepted}"' in get(sandbox, "/requests/1").text
    assert get(sandbox, "/requests/7").status_code == 404
    assert get(sandbox, "/requests/0").status_code == 404


def test_failed_delivery_shows_the_response_and_its_cause(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    fail_all(sandbox, client, receiver)
    receiver.responses, receiver.body = [200], [b"x" * 9_000]
    client.send()
    wait_until(lambda: sandbox.deliveries[1].status == "success")

    page = get(sandbox, f"/deliveries/{sandbox.deliveries[0].id}").text

    assert "The secret differs from the receiver" in page
    assert page.count("signature_mismatch") == 5
    assert "Welcome" in page
    assert "Acme Corp" in page
    assert len(sandbox.deliveries[1].attempts[0].response) == 4_096
    assert "<title>1 failed · 2 signals" in get(sandbox).text


def test_waiting_delivery_shows_its_next_attempt(receiver: Receiver) -> None:
    receiver.responses = [503]
    with Sandbox(retry_base_seconds=60) as sandbox, Client(sandbox) as client:
        sandbox.automations.add(type="*", url=receiver.url)
        client.send()
        wait_until(lambda: sandbox.deliveries[0].next_at is not None)
        for path in ("/", f"/deliveries/{sandbox.deliveries[0].id}"):
            page = get(sandbox, path).text
            assert "attempt 2 of 5 at" in page
        assert "/send-again" not in get(sandbox).text


@pytest.mark.slow
def test_delivery_is_sent_again_to_the_edited_endpoint(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    fail_all(sandbox, client, receiver)
    (automation,) = sandbox.automations.all()
    url = receiver.url.replace("/webhooks", "/elsewhere")
    edited = {"do": "save", "url": url, "type": "vip", "name": "Better"}
    post(sandbox, f"/automations/{automation.id}", **edited, secret="s2")  # noqa: S106 -- of a test
    path = f"/deliveries/{sandbox.deliveries[0].id}"
    again = post(sandbox, f"{path}/send-again", **{"from": "delivery"})
    wait_until(lambda: len(receiver.received) == 6)

    first, last = receiver.received[0], receiver.received[-1]
    (automation,) = sandbox.automations.all()
    assert (automation.name, automation.conditions) == (
        "Better",
        (("signal.type", "vip"),),
    )
    assert (first.path, last.path) == (
        "/webhooks/stairoids?a=b",
        "/elsewhere/stairoids?a=b",
    )
    name = "X-Stairoids-Signature"
    assert first.headers[name] != last.headers[name]
    assert sandbox.deliveries[1].id in get(sandbox, path).text
    assert sandbox.deliveries[0].id in again.text
    assert "s2" not in re.findall(r'value="([^"]*)"', get(sandbox).text)
    post(sandbox, f"/automations/{automation.id}", **edited)
    assert sandbox.automations.all()[0].endpoint.secret == "s2"  # type: ignore[union-attr]  # noqa: S105 -- it has an endpoint
    post(sandbox, f"/automations/{automation.id}", **edited, unsigned="yes")
    assert sandbox.automations.all()[0].endpoint.secret is None  # type: ignore[union-attr]  # same


def test_delivery_of_a_removed_automation_offers_a_choice(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    fail_all(sandbox, client, receiver)
    (automation,) = sandbox.automations.all()
    post(sandbox, f"/automations/{automation.id}", do="remove")
    other = sandbox.automations.add(type="*", url=receiver.url, name="Other")
    path = f"/deliveries/{sandbox.deliveries[0].id}"
    refused = post(sandbox, f"{path}/send-again")
    assert post(sandbox, "/deliveries/send-again").url.endswith("?sent=0")
    post(sandbox, f"{path}/send-again", to="old")
    post(sandbox, f"{path}/send-again", to=other.id)
    wait_until(lambda: len(receiver.received) == 7)

    assert refused.status_code == 409
    assert "Its automation was removed." in refused.text
    assert [d.owner.name for d in sandbox.deliveries] == ["Welcome", "Welcome", "Other"]


@pytest.mark.parametrize(("since", "sent"), [("600", 1), ("", 1), ("soon", 1)])
def test_failed_deliveries_are_sent_again_once(
    sandbox: Sandbox, client: Client, receiver: Receiver, since: str, sent: int
) -> None:
    fail_all(sandbox, client, receiver)

    first = post(sandbox, "/deliveries/send-again", since=since)
    second = post(sandbox, "/deliveries/send-again", since=since)
    wait_until(lambda: sandbox.deliveries[-1].status == "success")

    assert f"{sent} sent again." in first.text
    assert "0 sent again." in second.text
    assert "1 of 2 delivered, <a" in get(sandbox).text
    assert "1 sent again</a>" in get(sandbox).text
    assert "Failed (0)" in second.text
    shown = get(sandbox, "/deliveries?status=sent+again").text
    assert shown.count('<li id="delivery-') == 1


def test_removed_automation_is_restored(sandbox: Sandbox) -> None:
    automation = sandbox.automations.add(type="a", url="http://127.0.0.1:1/", name="M")
    path = f"/automations/{automation.id}"

    assert "was removed." in post(sandbox, path, do="remove").text
    assert "was removed." not in post(sandbox, path, do="restore").text
    assert sandbox.automations.all() == [automation]


def test_form_that_is_sent_twice_makes_one_automation(sandbox: Sandbox) -> None:
    for _ in range(2):
        post(sandbox, "/automations", url="http://127.0.0.1:1/", number="0")
    assert len(sandbox.automations.all()) == 1
    post(sandbox, "/automations", url="http://127.0.0.1:1/", number="1")

    assert len(sandbox.automations.all()) == 2


def test_test_event_is_sent_to_automations_and_subscriptions(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    automation = sandbox.automations.add(type="trial", url=receiver.url)
    for event in ("automation.triggered", "contact.score_changed"):
        webhook = sandbox.webhooks.add(url=receiver.url, events=(event,))
        post(sandbox, f"/endpoints/{webhook.id}/test")
    post(sandbox, f"/endpoints/{automation.id}/test")
    wait_until(lambda: len(receiver.received) == 3)

    events = {received.json()["event"] for received in receiver.received}
    assert "automation.action_triggered" in events
    assert "contact.score_changed" in events
    assert sandbox.signals == []
    assert "test event" in get(sandbox, f"/deliveries/{sandbox.deliveries[0].id}").text
    assert post(sandbox, "/endpoints/x/test").status_code == 404


def test_active_faults_are_on_top_of_each_page(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(kind="reset"))
    for path in ("/", "/signals", "/deliveries", "/requests"):
        page = get(sandbox, path).text
        assert "<title>Faults on · " in page
        assert "Reset (every send)" in page
    post(sandbox, "/faults")

    assert sandbox.faults.all() == []
    assert "Faults are on" not in get(sandbox).text


def test_form_leads_back_to_its_page_and_to_no_other_site(sandbox: Sandbox) -> None:
    for referer, path in (
        (f"{sandbox.origin}/signals?q=a", "/signals?q=a"),
        (f"{sandbox.origin}//attacker.example/", "/attacker.example/"),
        ("https://[x", "/"),
        ("", "/"),
    ):
        response = requests.post(
            f"{sandbox.origin}/faults",
            data={"form_token": re.findall(r'value="(\w{64})"', get(sandbox).text)[0]},
            headers={"Referer": referer},
            allow_redirects=False,
            timeout=30,
        )
        assert response.headers["Location"] == path


def test_deliveries_beyond_the_limit_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr("stairoids_sandbox.webhooks.webhook_sender.KEPT", 3)
    with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.automations.add(type="*", url=receiver.url)
        for _ in range(5):
            client.send()
        wait_until(lambda: len(receiver.received) == 5)

        assert [delivery.sequence for delivery in sandbox.deliveries] == [3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    "delivered",
    # The soak delivers all, which takes most of the time of the test.
    [500, pytest.param(5_000, marks=pytest.mark.soak)],
)
def test_pages_stay_small_with_5000_signals(
    sandbox: Sandbox, receiver: Receiver, delivered: int
) -> None:
    sandbox.automations.add(type="*", url=receiver.url, name="Welcome")
    send_many(sandbox, delivered)
    wait_until(lambda: len(receiver.received) == delivered, 120)
    receiver.release.clear()
    send_many(sandbox, 5_000 - delivered)
    assert len(sandbox.signals) == len(sandbox.deliveries) == 5_000

    lists = ("/signals", "/deliveries", "/requests")
    paths = ("/", *lists, *(f"{path}?q=nowhere" for path in lists))
    for path in paths:
        assert len(get(sandbox, path).content) < 150_000, path


def send_many(sandbox: Sandbox, count: int) -> None:
    """Send signals over one connection, without the work of a client library."""
    api = urlsplit(sandbox.url)
    headers = {
        "Authorization": f"Bearer {sandbox.api_key}",
        "Content-Type": "application/json",
    }
    with closing(HTTPConnection(str(api.hostname), api.port)) as connection:
        for number in range(count):
            body = json.dumps(a_body(properties={"n": number}))
            connection.request("POST", f"{api.path}/signals", body, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 201


def test_redirect_has_the_colour_of_a_failure(sandbox: Sandbox) -> None:
    headers = {"Authorization": "Bearer sk_test_sandbox"}
    url = f"{sandbox.url}/signals/"
    requests.get(url, headers=headers, allow_redirects=False, timeout=30)

    assert re.search('class="tag bad">307<', get(sandbox, "/requests").text)
    assert re.search('class="bad">307', get(sandbox, "/").text)
