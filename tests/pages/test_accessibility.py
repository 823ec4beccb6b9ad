"""axe finds nothing on any page, in any state, light and dark, wide and narrow."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from stairoids_common.time import timestamp
from stairoids_sandbox import Fault, Sandbox
from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.schema import RefusalCount
from tests.support.commands import signals
from tests.support.sandbox_client import Client, wait_until
from tests.support.sandbox_receiver import SECRET as RIGHT
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
    from pathlib import Path
    from typing import Literal

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
TOKEN = "a-token-of-the-tests"  # noqa: S105 -- opens nothing else
LOOKS: tuple[tuple[Literal["light", "dark"], int], ...] = (
    ("light", 1440),
    ("dark", 1440),
    ("dark", 360),
)
#: All rules, without the elements that keep them, which would be most of the result.
VIOLATIONS = """
() => axe.run({resultTypes: ["violations"]}).then(found => found.violations)
"""
#: The starts of the boxes whose content is not all on the printed page.
CUT = """
() => [...document.querySelectorAll("main :is(.rows, .scroll, .scroll > table)")]
    .filter(e => (getComputedStyle(e).overflowY !== "visible"
            && e.scrollHeight > e.clientHeight + 1)
        || e.getBoundingClientRect().right > innerWidth)
    .map(e => e.textContent.trim().slice(0, 60))"""


def check(page: Page) -> None:
    """Run axe on the open page in each look, with all folds open and no reload."""
    page.locator("h1").first.wait_for(state="attached")
    page.evaluate(
        "() => { document.querySelectorAll('details').forEach(d => { d.open = true });"
        " for (let i = setTimeout(() => {}); i > 0; i--) clearTimeout(i); }"
    )
    page.evaluate(AXE_SCRIPT)
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate(VIOLATIONS)
        assert found == [], (
            f"{page.url} {scheme} {width}\n{json.dumps(found, indent=1)}"
        )
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.emulate_media(media="print", color_scheme="light")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 with margins
    assert page.evaluate(CUT) == []
    page.emulate_media(media="screen")


def check_paths(page: Page, origin: str, *paths: str) -> None:
    for path in paths:
        page.goto(origin + path)
        check(page)


def test_sandbox_without_signals_is_accessible(page: Page) -> None:
    with Sandbox() as sandbox, Client(sandbox) as client:
        check_paths(page, sandbox.origin, "/", "/signals", "/deliveries", "/requests")
        client.send(account={"domian": "a.example"}, contact=...)
        sandbox.automations.add(type="*", url="http://127.0.0.1:9/")
        check_paths(page, sandbox.origin, "/", "/signals/sig_0")


def test_sandbox_with_deliveries_is_accessible(page: Page) -> None:
    with (
        Endpoint() as endpoint,
        Sandbox(retry_base_seconds=0.01) as sandbox,
        Client(sandbox) as client,
    ):
        endpoint.responses = [401] * 5 + [500, 204, 0, 0, 0, 0, 0]
        endpoint.body = [b"signature_mismatch"]
        sandbox.automations.add(type="*", url=endpoint.url, secret=RIGHT, name="Sales")
        for number in range(3):
            client.send(type=f"type_{number}", properties={"n": number})
            wait_until(lambda: all(d.status != "retrying" for d in sandbox.deliveries))
        client.send(source=..., account=..., contact={"email": "ann@gmail.com"})
        client.send(type=7)
        wait_until(lambda: len(sandbox.deliveries) == 4)
        wait_until(lambda: sandbox.deliveries[-1].status == "success")
        client.session.headers["Authorization"] = "Bearer sk_wrong"
        client.send()
        sandbox.faults.add(Fault(kind="status", status=503, probability=0.5))
        ids = [f"/deliveries/{delivery.id}" for delivery in sandbox.deliveries]
        page.goto(sandbox.origin + ids[0])
        page.get_by_role("button", name="Send again").click()
        page.get_by_role("link", name="an earlier delivery").wait_for()
        check(page)
        page.goto(sandbox.origin)
        page.get_by_role("button", name="Send a test").click()
        page.get_by_text("Test event sent.").wait_for()
        check(page)
        signal = f"/signals/{sandbox.deliveries[0].signal.id}"
        lists = ("/signals?q=type", "/deliveries", "/deliveries?status=failed")
        more = ("/requests?status=refused", "/signals?q=nowhere&before=2")
        requested = ("/requests/1", "/requests/5", "/requests/6")
        check_paths(page, sandbox.origin, *ids, signal, *lists, *more, *requested)
        page.goto(sandbox.origin)
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("button", name="Undo").wait_for()
        check(page)
        check_paths(page, sandbox.origin, *ids[:1])


def test_sandbox_with_a_wrong_form_and_a_waiting_delivery_is_accessible(
    page: Page,
) -> None:
    with Sandbox(retry_base_seconds=600) as sandbox, Client(sandbox) as client:
        sandbox.automations.add(type="*", url="http://127.0.0.1:9/")
        client.send()
        wait_until(lambda: sandbox.deliveries[0].next_at is not None)
        waiting = f"/deliveries/{sandbox.deliveries[0].id}"
        check_paths(page, sandbox.origin, waiting, "/deliveries?status=waiting")
        page.goto(sandbox.origin)
        page.get_by_text("Create an automation").last.click()
        form = page.locator("#automation-form")
        form.get_by_label("Call this URL").fill("http://elsewhere.example/hook")
        form.get_by_role("button", name="Create").click()
        form.get_by_role("alert").wait_for()
        check(page)


def test_receiver_is_accessible(browser: Browser, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/webhooks.db"
    page = browser.new_page(http_credentials={"username": "any", "password": TOKEN})
    with a_receiver(url, admin_port=0, token=TOKEN) as receiver:
        store, origin = receiver.store, str(receiver.admin_url)
        check_paths(page, origin, "/", "/events/1", "/nowhere")
        for body in (an_action_body(), a_body("evt_1"), a_body("evt_1", x=1), b"[1]"):
            store.append([a_delivery(body, secret="old")])  # noqa: S106 -- of a test
        store.append([a_delivery(a_body("evt_9", data={"email": EMAIL}))])
        acknowledge(store, "warehouse", {"*": 4})
        acknowledge(store, "crm", {"*": 5})
        at = timestamp(datetime.now(UTC))
        refused = RefusalCount(number=7_000, last_at=at)
        store.add_refusals({"signature_mismatch": refused, "other": refused})
        erase(url, Person(email=EMAIL))
        with closing(sqlite3.connect(tmp_path / "webhooks.db")) as database, database:
            database.execute(
                "INSERT INTO webhook_forwarders VALUES ('crm', NULL, ?)", [at]
            )
            database.execute(
                "INSERT INTO webhook_forwards VALUES ('crm', 1, 'a', 8, 0, '500', ?)",
                [at],
            )
        paths = [f"/events/{sequence}" for sequence in range(1, 6)]
        check_paths(page, origin, "/", "/?text=nowhere", "/?before=3", *paths)
        assert page.goto(origin) is not None
        assert "forward failures --name crm --store-url" in page.inner_text("main")
        assert key_id_of("old") in page.content()
    full = a_receiver(url, min_free=10**18, admin_port=0, token=TOKEN)
    with full as receiver:
        page.goto(str(receiver.admin_url))
        page.get_by_text("The disk is nearly full").wait_for()
        check(page)
        with closing(sqlite3.connect(tmp_path / "webhooks.db")) as database, database:
            database.execute("ALTER TABLE webhook_events RENAME TO lost")
        response = page.goto(str(receiver.admin_url))
        assert response is not None
        assert response.status == 503
        check(page)
    page.close()


def test_report_is_accessible(page: Page, tmp_path: Path) -> None:
    with Sandbox() as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)
        target.run(a_schema("empty"))
        check_report(page, target)
        bad = a_record(3, email="x")
        target.run(a_schema(), a_record(1), a_record(2), bad)
        check_report(page, target)
        target.run(a_schema(), a_record(4), api_key="sk_wrong")
        check_report(page, target)
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger, ledger:
            ledger.executemany(
                "INSERT INTO stairoids_runs (scope, source, started_at, sequence)"
                " SELECT scope, source, datetime('now', '-1 days'), ?"
                " FROM stairoids_runs LIMIT 1",
                [(number,) for number in range(20, 45)],
            )
        check_report(page, target)


def check_report(page: Page, target: TargetUnderTest) -> None:
    path = target.folder / "report.html"
    path.write_text(signals(target, "report", "--format", "html").stdout)
    check_paths(page, path.as_uri(), "")
