"""The admin pages show deliveries, refusals and consumers to users with the token."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import requests

from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.schema import RefusalCount
from tests.support.sandbox_client import wait_until
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_delivery,
    an_action_body,
    deliveries,
)
from tests.tap.receiver.test_admin import TOKEN, administered, get
from tests.tap.receiver.test_app import post
from tests.tap.receiver.test_recovery import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_stairoids_webhooks.receiver.server import Receiver


@pytest.fixture
def receiver(store_url: str) -> Iterator[Receiver]:
    with administered(store_url) as running:
        yield running


def without_token(receiver: Receiver, path: str) -> requests.Response:
    return requests.get(f"{receiver.admin_url}{path}", timeout=60)


def test_password_opens_the_pages_for_any_user(receiver: Receiver) -> None:
    post(receiver, a_body())
    url = f"{receiver.admin_url}/"
    of_another_server = {"Cookie": 'a="{\xe9; b=;;;c'}

    for user in ("", "admin", "e\xe9"):
        response = requests.get(
            url, auth=(user, TOKEN), headers=of_another_server, timeout=15
        )
        assert response.status_code == 200
        assert "signal.created" in response.text


@pytest.mark.parametrize("path", ["/", "/events/1", "/events/1/body", "/nowhere"])
def test_pages_need_the_token(receiver: Receiver, path: str) -> None:
    post(receiver, a_body())

    response = without_token(receiver, path)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert "as the password" in response.text
    assert "signal.created" not in response.text


def test_pages_only_show(receiver: Receiver) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    for path in ("/", "/events/1"):
        url = f"{receiver.admin_url}{path}"
        assert requests.post(url, headers=headers, timeout=60).status_code == 405


def test_overview_shows_deliveries_without_bodies(receiver: Receiver) -> None:
    for body in (a_body("evt_1"), a_body("evt_1"), a_body("evt_1", extra=1), b"[1]"):
        post(receiver, body)
    acknowledge(receiver.store, "crm <3", {"*": 1})
    at = f"{datetime.now(UTC).date()}T00:00:00.000000Z"
    receiver.store.add_refusals(
        {"signature_mismatch": RefusalCount(number=7, last_at=at)}
    )

    shown = get(receiver, "/").text

    for text in (
        "signal.created",
        key_id_of(SECRET),
        f"{len(a_body('evt_1'))} B",
        "other body",
        "malformed",
        "crm &lt;3",
        "2 behind",
        "A run confirms the events of the run before it.",
        "signature_mismatch",
        ": 7</title>",
        "Signed with another secret, or a proxy changed the body.",
        receiver.url,
        "accepting deliveries",
    ):
        assert text in shown
    for secret in (EMAIL, SECRET, TOKEN, "sig_1"):
        assert secret not in shown


def test_overview_names_automation_type_and_company_of_an_event(
    receiver: Receiver,
) -> None:
    for body in (
        an_action_body(),
        a_body("evt_1", data={"type": "trial", "account": {"domain": "b.example"}}),
        a_body("evt_2", data=[1], account="x"),
        a_body("evt_3", data={"type": {"a": 1}, "account": {"name": 7}}),
    ):
        post(receiver, body)

    shown = get(receiver, "/").text

    assert "High-intent trial → notify sales · trial · Acme<" in shown
    assert "<bdi>trial · b.example</bdi>" in shown
    assert shown.count('<p class="soft"><bdi>') == 2
    assert EMAIL not in shown


def test_body_is_shown_escaped_and_downloaded_unchanged(
    receiver: Receiver,
) -> None:
    body = a_body(data={"mrr": 1, "text": "<script>alert(1)</script>\u202e"})
    post(receiver, body)

    shown = get(receiver, "/events/1")
    saved = get(receiver, "/events/1/body")

    assert "&lt;script&gt;" in shown.text
    assert "<script>alert" not in shown.text
    assert "d-1" in shown.text
    assert saved.content == body
    assert saved.headers["Content-Type"] == "application/octet-stream"
    assert saved.headers["Content-Disposition"].startswith("attachment")
    assert saved.headers["X-Content-Type-Options"] == "nosniff"


def test_erased_event_has_no_body(receiver: Receiver, store_url: str) -> None:
    post(receiver, a_body())
    erase(store_url, Person(email=EMAIL))

    assert "Erased." in get(receiver, "/events/1").text
    assert get(receiver, "/events/1/body").content == b""


def test_large_body_is_cut(receiver: Receiver) -> None:
    post(receiver, json.dumps({"event": "x", "text": "x" * 3_000_000}).encode())

    assert len(get(receiver, "/events/1").text) < 200_000


def test_unknown_event_is_404(receiver: Receiver) -> None:
    for sequence in ("9", "0", "-1", "x", "9" * 6000):
        assert get(receiver, f"/events/{sequence}").status_code == 404
        assert get(receiver, f"/events/{sequence}/body").status_code == 404


def test_events_are_paged_and_filtered_by_type(receiver: Receiver) -> None:
    receiver.store.append(deliveries(60))

    first = get(receiver, "/").text
    older = get(receiver, "/?before=12").text
    scored = get(receiver, "/?type=signal.scored").text
    odd = get(receiver, "/?type=%3Cb%3E&before=x").text

    def shown(page: str) -> list[str]:
        return re.findall(r'href="/events/(\d+)"', page)

    assert shown(first) == [str(n) for n in range(60, 10, -1)]
    assert 'href="/?before=11"' in first
    assert shown(older) == [str(n) for n in range(11, 0, -1)]
    assert shown(scored) == []
    created = get(receiver, "/?type=signal.created").text
    assert "More than 50 fit these filters." in created
    assert "1 fits these filters." in get(receiver, "/?text=evt_59").text
    assert "There are no such events" in odd
    assert "<b>" not in odd


def test_events_are_filtered_by_missing_type(receiver: Receiver) -> None:
    receiver.store.append([*deliveries(1), a_delivery(b"[1]")])

    page = get(receiver, "/?type=(none)").text

    assert re.findall(r'href="/events/(\d+)"', page) == ["2"]
    assert '<option value="(none)" selected>no type</option>' in page


def test_events_are_filtered_by_day_and_text_in_each_database(home_url: str) -> None:
    with administered(home_url) as receiver:
        raw = '{"event": "signal.created", "id": "evt_8", "name": "Zoë \\\\ 50%_"}'
        added = [a_body("evt_7", extra="Zoë"), raw.encode(), b"\x00\xff Zo"]
        receiver.store.append([*map(a_delivery, added), *deliveries(1)])

        def shown(query: str) -> list[str]:
            page = get(receiver, f"/?{query}").text
            return re.findall(r'href="/events/(\d+)"', page)

        assert shown("text=Zo%C3%AB") == ["2", "1"]
        assert shown("text=%5C+50%25_") == ["2"]
        assert shown("text=%00") == ["3"]
        assert shown("text=%EF%BF%BD") == []
        assert shown("text=evt_7&type=signal.created") == ["1"]
        assert shown("text=evt_") == ["4", "2", "1"]
        assert shown("text=nowhere") == shown("text=50%25x") == []
        assert shown("day=2024-10-15") == ["4", "3", "2", "1"]
        assert shown("day=2024-10-16") == shown("day=%25") == []
        assert shown("type=(none)&text=Zo") == ["3"]
        for query in ("type=%00", "type=a%00b", "day=2024%00"):
            assert get(receiver, f"/?{query}").status_code == 200
            assert shown(query) == []


def test_page_is_small_with_5000_events(home_url: str) -> None:
    with administered(home_url) as receiver:
        receiver.store.append(deliveries(5_000))

        for path in ("/", "/?text=nowhere", "/?text=evt&day=2024-10-15", "/events/1"):
            assert len(get(receiver, path).content) < 150_000


def test_choice_has_the_types_that_are_there(receiver: Receiver) -> None:
    receiver.store.append([*deliveries(1), a_delivery(b"[1]")])

    page = get(receiver, "/").text

    options = re.findall(r'<option value="([^"]*)"', page)
    assert options == ["", "(none)", "signal.created"]


def test_secrets_show_their_use_in_the_store(store_url: str) -> None:
    with administered(store_url) as first:
        post(first, a_body("evt_1"))
    with administered(store_url) as receiver:
        page = get(receiver, "/").text

    assert '1 <span class="soft">in all, 0 since this start</span>' in page
    row = page[page.index(f'id="secret-{key_id_of(SECRET)}"') :]
    assert "last used" in row
    assert '<span class="number">1</span>' in row


@pytest.mark.slow
def test_page_says_why_and_since_when_deliveries_are_refused(
    receiver: Receiver,
) -> None:
    receiver._app.draining = True
    wait_until(lambda: "Since <time" in get(receiver, "/").text)

    page = get(receiver, "/").text

    assert "The receiver is stopping. Deliveries get 503, and come again." in page
    assert "<title>Not ready" in page


@pytest.mark.slow
def test_page_has_the_limit_of_the_disk(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000))
    with administered(store_url, min_free=2_000) as receiver:
        assert "the limit of --min-free, 2.0 kB." in get(receiver, "/").text


def test_page_has_the_cause_of_a_failing_store_and_counts_its_refusals(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0)
    monkeypatch.setattr("tap_stairoids_webhooks.receiver.server._REFUSAL_SECONDS", 1)
    with administered(store_url) as receiver:
        with locked(store_url):
            post(receiver, a_body())
            assert "database is locked" in get(receiver, "/").text
            post(receiver, a_body())
        wait_until(lambda: 'id="refused-store_unavailable"' in get(receiver, "/").text)


def test_long_type_is_escaped(receiver: Receiver) -> None:
    receiver.store.append([a_delivery(a_body(event="<b>.x"))])

    assert "<bdi>&lt;b&gt;.<wbr>x</bdi>" in get(receiver, "/").text
    assert "<bdi>&lt;b&gt;.<wbr>x</bdi>" in get(receiver, "/events/1").text


def test_missing_store_is_503(receiver: Receiver, store_url: str) -> None:
    Path(store_url.removeprefix("sqlite:///")).unlink()

    response = get(receiver, "/")

    assert response.status_code == 503
    assert "tore" in response.text


@pytest.mark.slow
def test_public_port_has_no_pages(receiver: Receiver) -> None:
    public = receiver.url.removesuffix("/webhooks/stairoids")
    headers = {"Authorization": f"Bearer {TOKEN}"}

    for path in ("/", "/events/1"):
        response = requests.get(public + path, headers=headers, timeout=60)
        assert response.status_code == 404


def test_security_headers_forbid_foreign_content(receiver: Receiver) -> None:
    headers = get(receiver, "/").headers

    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
