"""An operator uses the admin pages in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tap_stairoids_webhooks.store.consumers import acknowledge
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_delivery,
    an_action_body,
)
from tests.tap.receiver.test_admin import TOKEN, administered
from tests.tap.receiver.test_app import post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, HttpCredentials, Page

    from tap_stairoids_webhooks.receiver.server import Receiver

pytestmark = pytest.mark.slow
CREDENTIALS: HttpCredentials = {"username": "admin", "password": TOKEN}


@pytest.fixture
def receiver(store_url: str) -> Iterator[Receiver]:
    with administered(store_url) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that knows the token."""
    context = browser.new_context(http_credentials=CREDENTIALS)
    yield context.new_page()
    context.close()


def test_browser_with_a_wrong_token_shows_nothing(
    browser: Browser, receiver: Receiver
) -> None:
    post(receiver, a_body())
    wrong: HttpCredentials = {"username": "admin", "password": "wrong"}
    context = browser.new_context(http_credentials=wrong)
    page = context.new_page()

    response = page.goto(str(receiver.admin_url))

    assert response is not None
    assert response.status == 401
    assert "signal.created" not in page.content()
    context.close()


def test_open_page_shows_new_deliveries(page: Page, receiver: Receiver) -> None:
    page.goto(str(receiver.admin_url))
    expect(page.get_by_text("No delivery yet")).to_be_visible()

    post(receiver, a_body())
    post(receiver, an_action_body())
    post(receiver, a_body(), **{"X-Stairoids-Signature": "sha256=no"})

    table = page.get_by_role("table", name="Deliveries")
    expect(table.get_by_role("row")).to_have_count(3)
    expect(table.get_by_role("row").nth(1)).to_contain_text("action_triggered")
    refused = page.get_by_role("table", name="Refused")
    expect(refused.get_by_role("row")).to_contain_text(["signature_mismatch"])
    acknowledge(receiver.store, "warehouse", {"*": 1})
    lag = page.get_by_role("definition").filter(has_text="1 event")
    expect(lag).to_be_visible(timeout=9_000)
    assert EMAIL not in page.content()


def test_body_is_shown_and_downloaded(page: Page, receiver: Receiver) -> None:
    post(receiver, a_body())
    page.goto(str(receiver.admin_url))
    page.get_by_role("link", name="signal.created").click()

    expect(page.get_by_label("Body").last).to_contain_text(EMAIL)
    with page.expect_download() as saving:
        page.get_by_role("link", name="download").click()
    assert saving.value.path().read_bytes() == a_body()


def test_deliveries_are_filtered_by_type(page: Page, receiver: Receiver) -> None:
    post(receiver, a_body("evt_1", "signal.created"))
    post(receiver, a_body("evt_2", "signal.scored"))
    page.goto(str(receiver.admin_url))
    field = page.get_by_label("Type")
    field.focus()
    field.select_option("signal.scored")

    rows = page.get_by_role("table", name="Deliveries").get_by_role("row")
    expect(rows).to_have_count(2)
    expect(page).to_have_url(f"{receiver.admin_url}/?type=signal.scored")
    expect(field).to_be_focused()
    page.reload()
    expect(rows).to_have_count(2)
    expect(field).to_have_value("signal.scored")
    field.select_option("every type")
    expect(rows).to_have_count(3)


def test_operator_finds_an_event_by_text_and_sees_why_others_were_refused(
    page: Page, receiver: Receiver
) -> None:
    post(receiver, a_body("evt_1", "signal.created"))
    post(receiver, an_action_body())
    post(receiver, a_body(), **{"X-Stairoids-Signature": "sha256=no"})
    page.goto(str(receiver.admin_url))
    field = page.get_by_label("Text in the body")
    field.fill("evt_1")
    field.press("Enter")

    rows = page.get_by_role("table", name="Deliveries").get_by_role("row")
    expect(rows).to_have_count(2)
    refused = page.get_by_role("table", name="Refused")
    expect(refused).to_contain_text("Signed with another secret", timeout=9_000)
    expect(refused).to_contain_text("Last ")
    expect(page.get_by_role("region", name="Secrets")).to_contain_text("last used")
    expect(page.get_by_text(receiver.url, exact=True)).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(rows).to_have_count(3)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\u202eevil",
        "🎉" * 60,
        "W" * 1_000_000,
    ],
)
def test_hostile_text_neither_runs_nor_breaks_the_page(
    page: Page, receiver: Receiver, text: str
) -> None:
    post(receiver, a_body(event=text, data={"text": text}))
    page.goto(str(receiver.admin_url))
    expect(page.get_by_role("table", name="Deliveries")).to_be_visible()
    page.get_by_role("table", name="Deliveries").get_by_role("link").click()

    expect(page.get_by_role("heading", name="Body")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_pages_work_without_script(browser: Browser, receiver: Receiver) -> None:
    context = browser.new_context(
        java_script_enabled=False, http_credentials=CREDENTIALS
    )
    page = context.new_page()
    post(receiver, a_body())
    page.goto(str(receiver.admin_url))
    page.get_by_label("Type").select_option("signal.created")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="signal.created").click()

    expect(page.get_by_label("Body").last).to_contain_text(EMAIL)
    assert SECRET not in page.content()
    context.close()


@pytest.mark.parametrize("width", [320, 360, 390, 900, 1440])
def test_nothing_scrolls_sideways(page: Page, receiver: Receiver, width: int) -> None:
    receiver.store.append([a_delivery(an_action_body()), a_delivery(a_body())])
    receiver.store.append([a_delivery(b"[1]" + b" " * 900_000)])
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(str(receiver.admin_url))

    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for box in page.locator(".scroll").all():
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    date = page.get_by_text("2024-10-15").first.bounding_box()
    assert date is not None
    assert date["height"] < 25  # one line


def test_missing_consumer_is_explained_briefly(page: Page, receiver: Receiver) -> None:
    page.goto(str(receiver.admin_url))
    note = page.get_by_text("No consumer yet").bounding_box()

    assert note is not None
    assert note["height"] < 110  # two lines with their margins
