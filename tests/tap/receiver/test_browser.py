"""An operator looks after the receiver in a real browser."""

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

    from playwright.sync_api import Browser, Page

    from tap_stairoids_webhooks.receiver.server import Receiver

pytestmark = pytest.mark.slow


@pytest.fixture
def receiver(store_url: str) -> Iterator[Receiver]:
    with administered(store_url) as running:
        yield running


def sign_in(page: Page, receiver: Receiver) -> None:
    page.goto(str(receiver.admin_url))
    page.get_by_label("Admin token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()


def test_wrong_token_is_told_and_the_right_one_opens(
    page: Page, receiver: Receiver
) -> None:
    page.goto(str(receiver.admin_url))
    field = page.get_by_label("Admin token")
    expect(field).to_be_focused()
    field.fill("a-token-of-somebody-else")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")

    sign_in(page, receiver)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Admin token")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Admin token")).to_be_visible()


def test_deliveries_arrive_while_one_watches(page: Page, receiver: Receiver) -> None:
    sign_in(page, receiver)
    expect(page.get_by_text("Nothing has come in yet")).to_be_visible()

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


def test_body_is_shown_on_a_click_and_can_be_saved(
    page: Page, receiver: Receiver
) -> None:
    post(receiver, a_body())
    sign_in(page, receiver)
    page.get_by_role("link", name="signal.created").click()

    expect(page.get_by_label("Body").last).to_contain_text(EMAIL)
    with page.expect_download() as saving:
        page.get_by_role("link", name="save as it came").click()
    assert saving.value.path().read_bytes() == a_body()


def test_one_type_is_chosen(page: Page, receiver: Receiver) -> None:
    post(receiver, a_body("evt_1", "signal.created"))
    post(receiver, a_body("evt_2", "signal.scored"))
    sign_in(page, receiver)
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
    sign_in(page, receiver)
    expect(page.get_by_role("table", name="Deliveries")).to_be_visible()
    page.get_by_role("table", name="Deliveries").get_by_role("link").click()

    expect(page.get_by_role("heading", name="Body")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_everything_works_without_script(browser: Browser, receiver: Receiver) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, receiver)
    post(receiver, a_body())
    page.reload()
    page.get_by_label("Type").select_option("signal.created")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="signal.created").click()
    expect(page.get_by_label("Body").last).to_contain_text(EMAIL)
    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_label("Admin token")).to_be_visible()
    context.close()


def test_watching_ends_with_the_session(page: Page, receiver: Receiver) -> None:
    sign_in(page, receiver)
    page.context.clear_cookies()

    expect(page.get_by_label("Admin token")).to_be_visible()
    assert SECRET not in page.content()


@pytest.mark.parametrize("width", [320, 360, 390, 900, 1440])
def test_nothing_scrolls_sideways(page: Page, receiver: Receiver, width: int) -> None:
    receiver.store.append([a_delivery(an_action_body()), a_delivery(a_body())])
    receiver.store.append([a_delivery(b"[1]" + b" " * 900_000)])
    page.set_viewport_size({"width": width, "height": 800})
    sign_in(page, receiver)

    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for box in page.locator(".scroll").all():
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    date = page.get_by_text("2024-10-15").first.bounding_box()
    assert date is not None
    assert date["height"] < 25  # one line


def test_no_reader_is_told_in_one_sentence(page: Page, receiver: Receiver) -> None:
    sign_in(page, receiver)
    told = page.get_by_text("No tap has read under a name yet").bounding_box()

    assert told is not None
    assert told["height"] < 110  # two lines and what is around them
