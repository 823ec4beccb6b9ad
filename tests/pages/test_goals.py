"""A person reaches each goal from the first page by few clicks, which are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from stairoids_sandbox import Sandbox
from tap_stairoids_webhooks.store.consumers import acknowledge
from tests.support.commands import signals
from tests.support.sandbox_client import Client, wait_until
from tests.support.sandbox_receiver import SECRET
from tests.support.sandbox_receiver import Receiver as Endpoint
from tests.support.singer_io import TargetUnderTest, a_record, a_schema
from tests.support.webhook_builders import (
    EMAIL,
    a_body,
    a_delivery,
    a_receiver,
    an_action_body,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow
TOKEN = "a-token-of-the-tests"  # noqa: S105 -- opens nothing else


class Visit:
    """A person on the pages, whose clicks are counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, target: Locator) -> None:
        target.click()
        self.clicks += 1


@pytest.fixture
def visit(page: Page) -> Visit:
    return Visit(page)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(retry_base_seconds=0.01, plan="starter") as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with Client(sandbox) as talking:
        yield talking


def test_person_watches_signals_and_makes_an_automation(
    visit: Visit, sandbox: Sandbox, client: Client
) -> None:
    page = visit.page
    page.goto(sandbox.origin)
    with Endpoint() as endpoint:
        visit.click(page.get_by_role("link", name="Create an automation"))
        page.get_by_label("Signal type").fill("trial")
        page.get_by_label("Call this URL").fill(endpoint.url)
        visit.click(page.get_by_role("button", name="Create", exact=True))
        page.get_by_text("Automation created.").wait_for()
        client.send(type="trial")
        expect(page.get_by_text("1 of 1 delivered")).to_be_visible()

    expect(page.get_by_role("link", name="trial", exact=True)).to_be_visible()
    expect(page.get_by_text("9,999 left")).to_be_visible()
    assert visit.clicks == 2


def test_person_finds_why_a_delivery_failed_fixes_it_and_sends_it_again(
    visit: Visit, sandbox: Sandbox, client: Client
) -> None:
    page = visit.page
    with Endpoint() as endpoint:
        endpoint.responses = [401] * 5
        endpoint.body = [b"signature_mismatch"]
        sandbox.automations.add(type="*", url=endpoint.url, secret="old", name="Sales")  # noqa: S106 -- of a test
        client.send()
        wait_until(lambda: sandbox.deliveries[0].status == "failed")

        page.goto(sandbox.origin)
        visit.click(page.get_by_role("link", name="1 failed"))
        expect(page.get_by_text("The secret differs from the receiver")).to_be_visible()
        visit.click(page.get_by_role("link", name="Sales", exact=True))
        expect(page.get_by_label("Response", exact=True).first).to_be_visible()
        assert visit.clicks == 2
        page.get_by_label("Webhook secret").fill(SECRET)
        visit.click(page.get_by_role("button", name="Save"))
        expect(page.get_by_text("Automation saved.")).to_be_visible()
        expect(page.get_by_role("button", name="Save")).to_be_hidden()
        visit.click(page.get_by_role("button", name="Send again"))
        expect(page.get_by_text("delivered")).to_be_visible()

    assert visit.clicks == 4
    page.get_by_role("link", name="an earlier delivery").click()
    expect(page.get_by_role("link", name="sent again")).to_be_visible()


def test_person_sees_why_a_request_was_refused(
    visit: Visit, sandbox: Sandbox, client: Client
) -> None:
    client.send(account={"domian": "acme.example"}, contact=...)
    page = visit.page
    page.goto(sandbox.origin)
    visit.click(page.get_by_role("link", name="See why the request was refused"))

    expect(page.locator("#requests-rows li")).to_have_count(1)
    expect(page.get_by_text("account.domian", exact=True)).to_be_visible()
    page.locator("#requests-rows li").get_by_role("link").click()
    expect(page.get_by_text('"domian": "acme.example"')).to_be_visible()
    client.send()
    page.goto(sandbox.origin)
    page.get_by_role("link", name="1 refused").click()
    expect(page.locator("#requests-rows li")).to_have_count(1)
    assert visit.clicks == 1


def test_person_finds_one_signal_among_many(visit: Visit) -> None:
    with Sandbox() as sandbox, Client(sandbox) as client:
        for number in range(120):
            client.send(account={"domain": f"company{number}.example"})
        page = visit.page
        page.goto(sandbox.origin)
        visit.click(page.get_by_role("link", name="All signals"))
        field = page.get_by_label("Search")
        field.fill("COMPANY7.")
        field.press("Enter")
        rows = page.locator("#signals-rows li")
        expect(rows).to_have_count(1)
        visit.click(rows.get_by_role("link"))

        expect(page.get_by_text("company7.example").first).to_be_visible()
        assert visit.clicks == 2
        page.go_back()
        expect(page.get_by_label("Search")).to_have_value("COMPANY7.")
        expect(rows).to_have_count(1)
        page.goto(f"{sandbox.origin}/signals")
        page.get_by_role("link", name="Older").click()
        expect(rows.first).to_contain_text("company69.example")


def test_person_looks_at_an_event_and_sees_the_lag_of_a_tap(
    browser: Browser, tmp_path: Path
) -> None:
    page = browser.new_page(http_credentials={"username": "any", "password": TOKEN})
    visit = Visit(page)
    with a_receiver(
        f"sqlite:///{tmp_path}/webhooks.db", secrets=["s"], admin_port=0, token=TOKEN
    ) as receiver:
        others = [a_delivery(a_body(f"evt_{n}", data={})) for n in range(80)]
        receiver.store.append([a_delivery(an_action_body()), *others])
        acknowledge(receiver.store, "warehouse", {"*": 1})
        page.goto(str(receiver.admin_url))
        expect(page.get_by_text("80 behind")).to_be_visible()
        field = page.get_by_label("Text in the body")
        field.fill(EMAIL)
        field.press("Enter")
        rows = page.locator("#event-rows tr")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("notify sales · trial · Acme")
        visit.click(rows.get_by_role("link"))
        expect(page.get_by_text(f'"email": "{EMAIL}"').last).to_be_visible()

    assert visit.clicks == 1
    page.close()


def test_person_sees_the_end_of_last_night_and_the_next_steps(
    visit: Visit, sandbox: Sandbox, tmp_path: Path
) -> None:
    target = TargetUnderTest(tmp_path, sandbox.url, requests_per_minute=60)
    target.run(a_schema(), a_record(1), a_record(2, email="x"))
    target.run(a_schema(), a_record(3), api_key="sk_wrong")
    path = tmp_path / "report.html"
    path.write_text(signals(target, "report", "--format", "html").stdout)
    page = visit.page
    page.goto(path.as_uri())

    status = page.get_by_role("region", name="Last run")
    for text in (
        "Run 2 of",
        "failed, exit 1: Stairoids refuses the request: 401",
        "check --config",
        "1 dead letter waits for a person.",
        "dead-letters list --with-key",
    ):
        expect(status).to_contain_text(text)
    quota = page.get_by_text("Today (UTC): 2 of 10,000")
    expect(quota).to_be_in_viewport()
    reasons = page.get_by_role("table", name="Why signals were not accepted")
    expect(reasons).to_contain_text("neither account.domain nor contact.email is known")
    assert visit.clicks == 0
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.click(status.get_by_role("button", name="Copy the command").first)
    expect(page.get_by_role("status")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("stairoids-signals check --config")
