"""The pages work in a real browser."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from stairoids_sandbox import Fault, Sandbox
from tests.support.sandbox_client import wait_until
from tests.support.sandbox_receiver import SECRET

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.support.sandbox_client import Client
    from tests.support.sandbox_receiver import Receiver

pytestmark = pytest.mark.slow


def long_url(receiver: Receiver) -> str:
    return receiver.url.partition("?")[0] + "/a-part-of-a-path" * 20


def test_open_page_shows_new_signals(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    page.goto(sandbox.origin)
    expect(page.get_by_text("No signal yet")).to_be_visible()

    client.send(type="first_seen")
    rows = page.get_by_role("region", name="Signals").get_by_role("listitem")
    expect(rows).to_have_count(1)
    expect(page).to_have_title("1 signal · Stairoids sandbox")
    client.send(type="second_seen", account={"domain": "harbor.example"})

    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("second_seen")
    expect(rows.first).to_contain_text("harbor.example")
    expect(page.get_by_role("status")).to_have_text("2 new signals")
    expect(page).to_have_title("2 signals · Stairoids sandbox")


def test_automation_is_created_and_its_delivery_sent_again(
    page: Page, sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    receiver.responses = [503]
    page.goto(sandbox.origin)
    page.get_by_role("link", name="Create an automation").click()
    expect(page.get_by_label("Call this URL")).to_be_focused()
    page.get_by_label("Signal type").fill("trial")
    page.get_by_label("Call this URL").fill(receiver.url)
    page.get_by_label("Webhook secret").fill(SECRET)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("switch", name="trial → webhook")).to_be_checked()
    expect(page.locator("#automation-url")).to_have_value("")

    client.send(type="trial")
    delivered = page.get_by_role("region", name="Deliveries")
    row = delivered.get_by_role("listitem")
    expect(row).to_contain_text("delivered")
    expect(row).to_contain_text(re.compile(r"503\s*204"))
    page.get_by_role("button", name="Send again").click()
    expect(row).to_have_count(2)

    page.get_by_role("link", name="trial → webhook").first.click()
    wait_until(lambda: len(receiver.received) == 3)
    expect(
        page.get_by_text(receiver.received[0].headers["X-Stairoids-Signature"])
    ).to_be_visible()
    attempts = page.get_by_role("region", name="Attempts").get_by_role("row")
    expect(attempts).to_have_count(2)
    page.get_by_role("button", name="Send again").click()
    wait_until(lambda: len(receiver.received) == 4)
    expect(page.get_by_role("cell", name="204")).to_be_visible()
    page.get_by_role("link", name="trial").click()
    shown = page.get_by_label("Body as sent").last.inner_text()
    assert json.loads(shown) == sandbox.signals[0].body


def test_error_is_shown_at_its_field(page: Page, sandbox: Sandbox) -> None:
    page.goto(sandbox.origin)
    url = page.get_by_label("Call this URL")
    url.fill("http://elsewhere.example/hook")
    page.get_by_label("Name").fill("Mine")
    url.press("Enter")

    expect(page.get_by_role("alert")).to_contain_text("url must begin with https://")
    expect(url).to_be_focused()
    expect(page.get_by_label("Name")).to_have_value("Mine")
    url.fill("https://elsewhere.example/hook")
    url.press("Enter")
    expect(page.get_by_role("switch", name="Mine")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_fault_is_switched_with_the_keyboard(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    page.goto(sandbox.origin)
    switch = page.get_by_role("switch", name="Refuse")
    refuse = page.get_by_role("listitem").filter(has=switch)
    status = refuse.get_by_label("with")
    status.select_option("500")
    status.press("Tab")
    expect(switch).to_be_focused()
    switch.press("Space")
    expect(switch).to_be_checked()
    expect(switch).to_be_focused()
    assert client.send().status_code == 500

    switch.press("Enter")
    expect(switch).not_to_be_checked()
    assert client.send().status_code == 201


def test_half_filled_form_survives_an_update(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    page.goto(sandbox.origin)
    field = page.get_by_label("Call this URL")
    field.press_sequentially("http://127")
    client.send()
    expect(page.get_by_text("1 accepted")).to_be_visible()
    field.press_sequentially(".0.0.1:1/")

    expect(field).to_have_value("http://127.0.0.1:1/")
    expect(field).to_be_focused()


def test_focused_row_is_not_removed(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    for number in range(50):
        client.send(type=f"type_{number}_")
    page.goto(sandbox.origin)
    rows = page.get_by_role("region", name="Signals").get_by_role("listitem")
    links = rows.get_by_role("link")
    links.last.focus()
    for number in (50, 51):
        client.send(type=f"type_{number}_")
        expect(links.first).to_contain_text(f"type_{number}_")

    expect(page.get_by_role("link", name="type_0_")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="type_2_")).to_be_focused()
    client.send(type="type_52_")
    expect(links).to_have_count(51)  # type_2_ is focused and would be removed
    page.get_by_role("button", name="Live").focus()
    client.send(type="type_53_")
    expect(links).to_have_count(50)


def test_page_is_paused_and_continues(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    page.goto(sandbox.origin)
    live = page.get_by_role("button", name="Live")
    live.click()
    with page.expect_request("**/", timeout=10_000):
        client.send()
        page.get_by_role("button", name="Paused").click()
    expect(page.get_by_text("1 accepted")).to_be_visible()


def test_page_shows_that_the_sandbox_has_stopped(page: Page) -> None:
    with Sandbox() as sandbox:
        page.goto(sandbox.origin)
        expect(page.get_by_role("button", name="Live")).to_be_visible()

    expect(page.get_by_role("button", name="No response")).to_be_visible()


@pytest.mark.parametrize(
    ("status", "text"), [(503, "Error 503"), (None, "No response")]
)
def test_page_is_not_live_while_its_requests_fail(
    page: Page, sandbox: Sandbox, status: int | None, text: str
) -> None:
    page.add_init_script(
        "const late = AbortSignal.timeout.bind(AbortSignal);"
        "AbortSignal.timeout = () => late(200);"
    )
    page.goto(sandbox.origin)
    page.route("**/", lambda route: route.fulfill(status=status) if status else None)
    expect(page.get_by_role("button", name=text)).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(f"{text}. Trying again.")

    page.unroute_all()
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Connected again.")


def test_restarted_sandbox_accepts_a_half_filled_form(page: Page) -> None:
    with Sandbox() as sandbox:
        page.goto(sandbox.origin)
        page.get_by_label("Call this URL").fill("http://127.0.0.1:1/")
    expect(page.get_by_role("button", name="No response")).to_be_visible()
    page.get_by_role("switch", name="Reset").click()
    expect(page.get_by_role("status")).to_have_text("Not sent.")

    with Sandbox(port=urlsplit(sandbox.origin).port or 0) as again:
        expect(page.get_by_role("button", name="Live")).to_be_visible()
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_role("status")).to_have_text("Automation created.")
        assert len(again.automations.all()) == 1


def test_screen_reader_gets_few_announcements(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    page.clock.install()
    page.goto(sandbox.origin)
    status, total = page.get_by_role("status"), page.locator("#signals-count")
    client.send()
    page.clock.run_for(1_000)
    expect(total).to_contain_text("1 accepted")
    page.clock.run_for(5_000)
    expect(status).to_have_text("1 new signal")

    for number in (2, 3):
        client.send()
        page.clock.run_for(1_000)
        expect(total).to_contain_text(f"{number} accepted")
        page.clock.run_for(5_000)
    expect(status).to_have_text("1 new signal")
    page.clock.run_for(10_000)
    expect(status).to_have_text("2 new signals")


def test_delivery_is_sent_again_on_the_page_of_its_signal(
    page: Page, sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.automations.add(type="*", url=receiver.url)
    first, _ = client.send(), client.send()
    wait_until(lambda: len(receiver.received) == 2)
    page.goto(f"{sandbox.origin}/signals/{first.json()['id']}")
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    button = page.get_by_role("button", name="Send again")
    button.press("Enter")

    expect(button).to_have_count(2)
    expect(button.last).to_be_focused()
    assert f"{sandbox.origin}/" not in requested


def test_everything_works_without_script(
    browser: Browser, sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(sandbox.origin)
    page.get_by_label("Call this URL").fill(receiver.url)
    page.get_by_role("button", name="Create", exact=True).click()
    client.send()
    wait_until(lambda: sandbox.deliveries[0].status == "success")
    page.reload()
    page.get_by_role("button", name="Send again").click()
    wait_until(lambda: len(receiver.received) == 2)
    page.get_by_role("switch", name="Reset").click()

    expect(page.get_by_role("switch", name="Reset")).to_be_checked()
    expect(page.get_by_role("button", name="Live")).to_be_hidden()
    context.close()


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\u202eevil \u2067 text",
        "🎉" * 60,
        "W" * 300_000,
        "Z\u0335" * 500,
    ],
)
def test_hostile_text_neither_runs_nor_breaks_the_page(
    page: Page, sandbox: Sandbox, client: Client, text: str
) -> None:
    page.goto(sandbox.origin)
    client.send(type=text, source=text, account={"domain": "a.com", "name": text})
    expect(page.get_by_text("1 accepted")).to_be_visible()

    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    row = page.get_by_role("region", name="Signals").get_by_role("listitem")
    box = row.bounding_box()

    assert width <= 0
    assert box is not None
    assert box["height"] < 100
    row.get_by_role("link").click()
    expect(page.get_by_label("Body as sent").last).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("width", [360, 390, 900, 1440])
def test_page_does_not_scroll_sideways(
    page: Page, sandbox: Sandbox, client: Client, receiver: Receiver, width: int
) -> None:
    sandbox.automations.add(type="trial", url=long_url(receiver))
    client.send(type="trial")
    wait_until(lambda: sandbox.deliveries[0].status == "success")
    page.set_viewport_size({"width": width, "height": 800})

    for path in ("", f"/deliveries/{sandbox.deliveries[0].id}"):
        page.goto(sandbox.origin + path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        for box in page.locator(".scroll").all():
            assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0


def test_long_url_is_readable(
    page: Page, sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.automations.add(type="trial", url=long_url(receiver))
    sandbox.webhooks.add(url=long_url(receiver), events=("account.score_changed",))
    client.send(type="trial")
    place = long_url(receiver).removeprefix("http://")
    page.goto(sandbox.origin)

    link = page.get_by_role("link", name="trial → webhook")
    expect(link).to_have_attribute("title", place)
    automations = page.get_by_role("region", name="Automations")
    expect(automations.get_by_text(place, exact=True)).to_have_count(2)
    link.click()
    expect(page.get_by_text(place, exact=True)).to_be_visible()


def test_first_tab_skips_to_the_content(page: Page, sandbox: Sandbox) -> None:
    page.goto(sandbox.origin)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("main")).to_be_focused()
    names = [
        section.get_attribute("aria-labelledby")
        for section in page.get_by_role("region").all()
    ]
    assert len(names) == 5


def test_person_turns_off_all_faults_from_any_page(
    page: Page, sandbox: Sandbox
) -> None:
    sandbox.faults.add(Fault(kind="reset"))
    page.goto(f"{sandbox.origin}/signals?q=a")
    expect(page).to_have_title(re.compile("^Faults on"))
    page.get_by_role("button", name="Turn all off").click()

    expect(page.get_by_text("Faults are off.")).to_be_visible()
    expect(page.get_by_text("Faults are on")).to_have_count(0)
    expect(page.get_by_role("main")).to_be_focused()
    assert sandbox.faults.all() == []


def test_person_sends_a_test_event_and_undoes_a_removal(
    page: Page, sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.automations.add(type="trial", url=receiver.url, name="Welcome")
    page.goto(sandbox.origin)
    page.get_by_role("button", name="Send a test to Welcome").dblclick()
    expect(page.get_by_text("Test event sent.")).to_be_visible()
    wait_until(lambda: len(receiver.received) > 0)
    page.get_by_role("button", name="Remove Welcome").click()
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("switch", name="Welcome")).to_be_checked()


def test_saved_automation_is_closed_on_the_first_page(
    page: Page, sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.automations.add(type="a", url=receiver.url, name="One", secret=SECRET)
    page.goto(sandbox.origin)
    page.get_by_text("Edit One").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Automation saved.")).to_be_visible()

    edit = page.locator("details.edit")
    expect(edit).not_to_have_attribute("open", "")
    expect(edit.locator("form")).to_have_count(1)


def test_back_restores_the_pause_and_the_place(
    page: Page, sandbox: Sandbox, client: Client
) -> None:
    for number in range(40):
        client.send(type=f"type_{number}_")
    page.goto(sandbox.origin)
    page.get_by_role("button", name="Live").click()
    page.get_by_role("link", name="type_3_").click()
    expect(page.get_by_role("heading", name="type_3_")).to_be_visible()
    page.go_back()

    expect(page.get_by_role("button", name="Paused")).to_be_visible()
    expect(page.get_by_role("link", name="type_3_")).to_be_in_viewport()


def test_times_are_local_with_utc_in_the_tooltip(
    browser: Browser, sandbox: Sandbox, client: Client
) -> None:
    client.send()
    context = browser.new_context(timezone_id="Asia/Kolkata")
    page = context.new_page()
    page.goto(sandbox.origin)
    at = page.get_by_role("region", name="Signals").locator("time")

    minutes = int(at.inner_text()[-5:-3])
    title = at.get_attribute("title") or ""
    assert title.endswith(" UTC")
    assert (int(title[-9:-7]) + 30) % 60 == minutes
    at.locator("..").locator("..").get_by_role("link").click()
    expect(page.get_by_text("Accepted (local time)")).to_be_visible()
    expect(page.get_by_text("(just now)").first).to_be_visible()
    context.close()


def test_body_is_folded_and_copied(
    browser: Browser, sandbox: Sandbox, client: Client
) -> None:
    client.send(type="trial")
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(sandbox.origin)
    page.get_by_role("link", name="trial").click()
    page.get_by_text('"account": {').click()
    expect(page.locator(".text details").first).not_to_have_attribute("open", "")
    page.get_by_role("button", name="Copy the body").click()

    expect(page.get_by_role("status")).to_have_text("Copied.")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["account"]["domain"] == "acmecorp.com"
    context.close()
