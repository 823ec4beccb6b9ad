"""Takes the pictures of the pages in docs/images.

    make screenshots

Everything in them is real: signals of sample_configs/trials.jsonl go to a sandbox, its
automations call a receiver, and Chromium looks at both. It wants the fonts Inter and
JetBrains Mono.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playwright.sync_api import expect

from stairoids_sandbox.faults import Fault
from stairoids_sandbox.server import Sandbox
from tap_stairoids_webhooks.consumers import acknowledge
from tap_stairoids_webhooks.serve import Admin, Receiver
from tap_stairoids_webhooks.store import EventStore
from tap_stairoids_webhooks.timestamps import stamp
from tests.browser import a_browser, chromium
from tests.sandbox.client import Client, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
SECRET = "whsec_of_the_pictures"  # noqa: S105 -- signs for the pictures only
OLD_SECRET = "whsec_that_was_before"  # noqa: S105 -- same
TOKEN = "a-token-for-the-pictures"  # noqa: S105 -- same
TYPES = ("product_trial_started", "meeting_booked", "seat_limit_reached")
MIX = (0, 2, 0, 1, 0, 0, 2, 0)
SIZE: ViewportSize = {"width": 1320, "height": 840}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
REFUSALS = {
    "signature_mismatch": (0, 0, 1, 0, 0, 14, 31, 2, 0, 0, 0, 1, 0, 0),
    "signature_missing": (2, 1, 0, 3, 1, 0, 2, 1, 4, 0, 1, 0, 2, 1),
    "not_found": (5, 3, 8, 2, 6, 4, 9, 3, 5, 7, 2, 6, 4, 3),
}


def take_pictures() -> None:
    """Take them all, in light and in dark."""
    path = chromium()
    if path is None:
        msg = "no Chromium here: apt-get install chromium, or set CHROMIUM"
        raise SystemExit(msg)
    IMAGES.mkdir(exist_ok=True)
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        store_url = f"sqlite:///{folder}/webhooks.db"
        receiver = opened.enter_context(
            Receiver(
                store_url=store_url,
                secrets=[SECRET, OLD_SECRET],
                port=8880,
                admin=Admin(port=8881, token=TOKEN),
            )
        )
        sandbox = opened.enter_context(Sandbox(plan="starter", port=8900))
        happen(sandbox, receiver, store_url)
        browser = opened.enter_context(a_browser(path))
        for scheme in SCHEMES:
            page = browser.new_page(
                color_scheme=scheme, viewport=SIZE, device_scale_factor=1.5
            )
            picture_sandbox(page, sandbox, scheme)
            picture_receiver(page, str(receiver.admin_url), scheme)


def happen(sandbox: Sandbox, receiver: Receiver, store_url: str) -> None:
    """Let a morning's signals come in, an endpoint fail, and taps read."""
    sandbox.automations.add(
        type=TYPES[0], url=receiver.url, secret=SECRET, name="Welcome a trial"
    )
    sandbox.automations.add(
        type=TYPES[1],
        url="http://127.0.0.1:8880/calendar",
        secret=SECRET,
        name="Tell the calendar",
    )
    sandbox.webhooks.add(
        url=receiver.url, events=("account.score_changed",), secret=OLD_SECRET
    )
    lines = (ROOT / "sample_configs/trials.jsonl").read_text().splitlines()
    with Client(sandbox) as client:
        trials = [trial for trial in map(json.loads, lines) if trial["user_email"]]
        for number, trial in enumerate(trials):
            client.send(
                type=TYPES[MIX[number % len(MIX)]],
                source="billing",
                account={
                    "domain": trial["user_email"].rpartition("@")[2].lower(),
                    "name": trial["company_name"],
                },
                contact={"email": trial["user_email"]},
                properties={"plan": trial["plan"], "seats": trial["seats"]},
            )
            if number == 12:
                sandbox.faults.add(
                    Fault(kind="status_after_accept", probability=0.2, seed=2)
                )
        client.send(type=TYPES[1], source="calendar")
    taken = [d for d in sandbox.deliveries if "calendar" not in d.endpoint.url]
    wait_until(lambda: all(d.status == "success" for d in taken))
    refused_in_days_gone_by(store_url)


def refused_in_days_gone_by(store_url: str) -> None:
    """Write what a fortnight leaves behind, and how far two taps are."""
    today = datetime.now(UTC)
    with EventStore.open_to_change(store_url) as store:
        for reason, numbers in REFUSALS.items():
            for ago, number in enumerate(reversed(numbers)):
                at = stamp(today - timedelta(days=ago))
                store.note_refusals({reason: number}, at=at)
        acknowledge(store, "warehouse", {"*": store.last_sequence()})
        acknowledge(store, "crm", {"*": store.last_sequence() - 9})


def picture_sandbox(page: Page, sandbox: Sandbox, scheme: str) -> None:
    """Show the overview and a delivery that went wrong."""
    page.goto(sandbox.origin)
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    page.screenshot(path=IMAGES / f"sandbox-{scheme}.png")
    if scheme == "light":
        wait_until(lambda: any(len(d.attempts) > 2 for d in sandbox.deliveries), 10)
        failed = next(d for d in sandbox.deliveries if len(d.attempts) > 2)
        page.goto(f"{sandbox.origin}/deliveries/{failed.id}")
        page.screenshot(path=IMAGES / "sandbox-delivery.png")


def picture_receiver(page: Page, url: str, scheme: str) -> None:
    """Show the token's form being passed, the overview and an event."""
    page.goto(url)
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
    page.screenshot(path=IMAGES / f"receiver-{scheme}.png")
    if scheme == "light":
        page.get_by_role("link", name="automation.action_triggered").first.click()
        expect(page.get_by_role("heading", name="Body")).to_be_visible()
        page.screenshot(path=IMAGES / "receiver-event.png")


if __name__ == "__main__":
    take_pictures()
