"""The receiver's page shows everything but bodies, to whoever has shown the token."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.retention import erase
from tap_stairoids_webhooks.store.schema import Refused
from tests.support.webhook_builders import EMAIL, SECRET, a_body, a_delivery, deliveries
from tests.tap.receiver.test_admin import TOKEN, administered, get
from tests.tap.receiver.test_app import post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_stairoids_webhooks.receiver.server import Receiver


@pytest.fixture
def receiver(store_url: str) -> Iterator[Receiver]:
    with administered(store_url) as running:
        yield running


class Tab:
    """What a browser keeps between two requests."""

    def __init__(self, receiver: Receiver) -> None:
        self.url = str(receiver.admin_url)
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str = "/") -> requests.Response:
        return self.session.get(self.url + path, timeout=15)

    def post(self, path: str, **fields: str) -> requests.Response:
        found = re.search(r'name="form_token" value="(\w+)"', self.get().text)
        token = {"form_token": found[1]} if found else {}
        return self.session.post(self.url + path, data=token | fields, timeout=15)

    def sign_in(self) -> Tab:
        assert self.post("/login", token=TOKEN).status_code == 200
        return self


def test_token_opens_the_page_and_signing_out_shuts_it(receiver: Receiver) -> None:
    tab = Tab(receiver)
    shut = tab.get()
    answer = tab.post("/login", token=TOKEN)
    cookie = answer.history[0].headers["Set-Cookie"]
    port = receiver.admin_url.rpartition(":")[2] if receiver.admin_url else ""

    assert shut.status_code == 401
    assert "Admin token" in shut.text
    assert "Deliveries" not in shut.text
    assert "Deliveries" in answer.text
    assert cookie.startswith(f"stairoids_webhooks_{port}=")
    assert TOKEN not in cookie
    for guard in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert guard in cookie
    kept = dict(tab.session.cookies)
    assert tab.post("/logout").status_code == 401
    tab.session.cookies.update(kept)
    assert tab.get().status_code == 401


@pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], "é"])
def test_other_token_opens_nothing(receiver: Receiver, given: str) -> None:
    tab = Tab(receiver)

    answer = tab.post("/login", token=given)

    assert answer.status_code == 401
    assert "That is not the token." in answer.text
    assert not tab.session.cookies
    assert tab.get("/events/1").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": "stairoids_webhooks_1=x"},
        {"Cookie": '=;;"=é\\'},
        {"Authorization": "Bearer wrong"},
        {"Origin": "https://attacker.example"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/events/1", "/events/1/body", "/nowhere"])
def test_nothing_is_shown_without_the_token(
    receiver: Receiver, path: str, headers: dict[str, str]
) -> None:
    post(receiver, a_body())

    answer = get(receiver, path, **{"Authorization": "", **headers})

    assert answer.status_code == 401
    assert "signal.created" not in answer.text


def test_forms_of_another_page_change_nothing(receiver: Receiver) -> None:
    tab = Tab(receiver).sign_in()
    stale = tab.session.post(f"{tab.url}/logout", data={"a": "b"}, timeout=15)
    foreign = tab.session.post(
        f"{tab.url}/logout", headers={"Origin": "https://attacker.example"}, timeout=15
    )
    login = requests.post(f"{tab.url}/login", data={"token": TOKEN}, timeout=15)

    assert (stale.status_code, foreign.status_code) == (403, 403)
    assert login.status_code == 403
    assert tab.get().status_code == 200


def test_token_of_one_sessions_form_is_no_use_in_another(receiver: Receiver) -> None:
    one, two = Tab(receiver).sign_in(), Tab(receiver).sign_in()
    found = re.search(r'name="form_token" value="(\w+)"', one.get().text)
    assert found is not None

    fields = {"form_token": found[1]}
    answer = two.session.post(f"{two.url}/logout", data=fields, timeout=15)

    assert answer.status_code == 403


def test_header_with_the_token_opens_it_too(receiver: Receiver) -> None:
    answer = get(receiver, "/")

    assert answer.status_code == 200
    assert "Sign out" not in answer.text


def test_overview_shows_what_came_in_but_no_body(receiver: Receiver) -> None:
    for body in (a_body("evt_1"), a_body("evt_1"), a_body("evt_1", extra=1), b"[1]"):
        post(receiver, body)
    acknowledge(receiver.store, "crm <3", {"*": 1})
    at = f"{datetime.now(UTC).date()}T00:00:00.000000Z"
    receiver.store.note_refusals({"signature_mismatch": Refused(number=7, last_at=at)})

    shown = get(receiver, "/").text

    for text in (
        "signal.created",
        key_id_of(SECRET),
        f"{len(a_body('evt_1'))} B",
        "other body",
        "malformed",
        "crm &lt;3",
        "2 behind",
        "signature_mismatch",
        ": 7</title>",
        "taking deliveries",
    ):
        assert text in shown
    for secret in (EMAIL, SECRET, TOKEN, "sig_1"):
        assert secret not in shown


def test_body_is_shown_on_its_own_page_and_saved_as_it_came(
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


def test_erased_event_says_so_and_has_no_body(
    receiver: Receiver, store_url: str
) -> None:
    post(receiver, a_body())
    erase(store_url, is_about=lambda _: True)

    assert "Erased." in get(receiver, "/events/1").text
    assert get(receiver, "/events/1/body").content == b""


def test_large_body_is_cut(receiver: Receiver) -> None:
    post(receiver, json.dumps({"event": "x", "text": "x" * 3_000_000}).encode())

    assert len(get(receiver, "/events/1").text) < 200_000


@pytest.mark.parametrize(
    "path",
    ["/events/9", "/events/0", "/events/-1", "/events/x", f"/events/{'9' * 6000}"],
)
def test_event_that_is_not_there_is_404(receiver: Receiver, path: str) -> None:
    assert get(receiver, path).status_code == 404
    assert get(receiver, f"{path}/body").status_code == 404


def test_older_events_and_one_type_are_found(receiver: Receiver) -> None:
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
    assert "Nothing of this kind" in odd
    assert "<b>" not in odd


def test_events_without_a_type_are_found(receiver: Receiver) -> None:
    receiver.store.append([*deliveries(1), a_delivery(b"[1]")])

    page = get(receiver, "/?type=(none)").text

    assert re.findall(r'href="/events/(\d+)"', page) == ["2"]
    assert '<option value="(none)" selected>no type</option>' in page


def test_type_that_is_broken_over_lines_is_still_text(receiver: Receiver) -> None:
    receiver.store.append([a_delivery(a_body(event="<b>.x"))])

    assert "<bdi>&lt;b&gt;.<wbr>x</bdi>" in get(receiver, "/").text
    assert "<bdi>&lt;b&gt;.<wbr>x</bdi>" in get(receiver, "/events/1").text


def test_store_that_is_gone_is_said(receiver: Receiver, store_url: str) -> None:
    Path(store_url.removeprefix("sqlite:///")).unlink()

    answer = get(receiver, "/")

    assert answer.status_code == 503
    assert "tore" in answer.text


def test_public_listener_has_no_page(receiver: Receiver) -> None:
    public = receiver.url.removesuffix("/webhooks/stairoids")
    headers = {"Authorization": f"Bearer {TOKEN}"}

    for path in ("/", "/login", "/events/1"):
        answer = requests.get(public + path, headers=headers, timeout=15)
        assert answer.status_code == 404


def test_policy_lets_nothing_in(receiver: Receiver) -> None:
    for answer in (get(receiver, "/"), get(receiver, "/", Authorization="")):
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"
