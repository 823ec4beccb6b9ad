"""Takes the pictures in docs/images.

    make screenshots

The target sends sample_configs/trials.jsonl to a sandbox, whose automations call a
receiver. Chromium opens the pages of both. It needs the fonts Inter and JetBrains Mono.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from PIL import Image
from playwright.sync_api import expect
from rich.console import Console
from rich.text import Text

from stairoids_common.time import timestamp
from stairoids_sandbox import Fault, Sandbox
from tap_stairoids_webhooks.environment import ReceiverSettings
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.schema import RefusalCount
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.browser import a_browser, chromium
from tests.support.sandbox_client import Client, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, FloatRect, Page, ViewportSize

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
IMAGES = ROOT / "docs/images"
COLUMNS = 140
FRAMES = 40  # of the animated picture, at most
#: The number of new people in the run of each day.
NEW_PEOPLE = (31, 44, 38, 12, 9, 52, 47, 35, 61, 40, 8, 14, 58, 43)
SECRET = "whsec_of_the_pictures"  # noqa: S105 -- signs for the pictures only
OLD_SECRET = "whsec_that_was_before"  # noqa: S105 -- signs for the pictures only
TOKEN = "a-token-for-the-pictures"  # noqa: S105 -- opens the pages of the pictures only
TYPES = ("product_trial_started", "meeting_booked", "seat_limit_reached")
MIX = (0, 2, 0, 1, 0, 0, 2, 0)
SIZE: ViewportSize = {"width": 1320, "height": 1400}
PAUSE = 47  # seconds between two signals, as the pages show them
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
REFUSALS = {
    "signature_mismatch": (0, 0, 1, 0, 0, 14, 31, 2, 0, 0, 0, 1, 0, 0),
    "signature_missing": (2, 1, 0, 3, 1, 0, 2, 1, 4, 0, 1, 0, 2, 1),
    "not_found": (5, 3, 8, 2, 6, 4, 9, 3, 5, 7, 2, 6, 4, 3),
}


def take_pictures() -> None:
    """Take all pictures, the pages in light and in dark."""
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
                ReceiverSettings(store_url=store_url, admin_port=8881),
                secrets=[SECRET, OLD_SECRET],
                token=TOKEN,
            )
        )
        sandbox = opened.enter_context(
            Sandbox(plan="starter", port=8900, retry_base_seconds=0.5)
        )
        send_signals(sandbox, receiver, store_url)
        browser = opened.enter_context(a_browser(path))
        for scheme in SCHEMES:
            page = browser.new_page(
                color_scheme=scheme,
                viewport=SIZE,
                device_scale_factor=1.5,
                http_credentials={"username": "admin", "password": TOKEN},
            )
            picture_sandbox(page, sandbox, scheme)
            picture_receiver(page, str(receiver.admin_url), scheme)
        pipeline = Pipeline(Path(folder))
        picture_report(browser, pipeline)
        picture_terminal(pipeline)


def send_signals(sandbox: Sandbox, receiver: Receiver, store_url: str) -> None:
    """Send signals with deliveries, some of which fail, and write a past."""
    sandbox.automations.add(
        type=TYPES[0], url=receiver.url, secret=SECRET, name="Welcome a trial"
    )
    sandbox.automations.add(
        type=TYPES[1],
        url="http://127.0.0.1:8880/calendar",
        secret=SECRET,
        name="Tell the calendar",
    )
    lines = (ROOT / "sample_configs/trials.jsonl").read_text().splitlines()
    with Client(sandbox) as client:
        trials = [trial for trial in map(json.loads, lines) if trial["user_email"]]
        for number, trial in enumerate(trials[:8]):
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
            if number == 5:
                sandbox.webhooks.add(
                    url=receiver.url, events=("signal.created",), secret=OLD_SECRET
                )
                sandbox.faults.add(
                    Fault(kind="status_after_accept", probability=0.2, seed=2)
                )
        client.send(type=TYPES[1], source="calendar")
    wait_until(
        lambda: all(d.status in ("success", "failed") for d in sandbox.deliveries), 60
    )
    spread(sandbox, store_url)
    write_past_refusals(store_url)


def spread(sandbox: Sandbox, store_url: str) -> None:
    """Move signals, deliveries and events back, so that their times differ."""
    last = len(sandbox.signals)
    for signal in sandbox.signals:
        at = signal.created_at - timedelta(seconds=PAUSE * (last - signal.sequence))
        for field in ("created_at", "occurred_at"):
            object.__setattr__(signal, field, at)
    for delivery in sandbox.deliveries:
        ago = PAUSE * (last - delivery.signal.sequence)
        delivery.created -= ago
        delivery.attempts = tuple(
            replace(attempt, began=attempt.began - ago, ended=attempt.ended - ago)
            for attempt in delivery.attempts
        )
    with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as store, store:
        store.execute(
            "UPDATE webhook_events SET received_at = strftime('%Y-%m-%dT%H:%M:%f000Z',"
            " received_at, ((sequence - (SELECT max(sequence) FROM webhook_events))"
            " * ?) || ' seconds')",
            (PAUSE,),
        )


def write_past_refusals(store_url: str) -> None:
    """Write the refusals of a fortnight, and the progress of two taps."""
    today = datetime.now(UTC)
    with EventStore.open(store_url) as store:
        for reason, numbers in REFUSALS.items():
            for ago, number in enumerate(reversed(numbers)):
                at = timestamp(today - timedelta(days=ago, minutes=41))
                store.add_refusals({reason: RefusalCount(number=number, last_at=at)})
        acknowledge(store, "warehouse", {"*": store.last_sequence()})
        acknowledge(store, "crm", {"*": store.last_sequence() - 9})


def picture_sandbox(page: Page, sandbox: Sandbox, scheme: str) -> None:
    """Take the sandbox's overview and a delivery that failed."""
    page.goto(sandbox.origin)
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    picture(page, f"sandbox-{scheme}", end="#faults")
    if scheme == "light":
        failed = next(d for d in sandbox.deliveries if d.status == "failed")
        page.goto(f"{sandbox.origin}/deliveries/{failed.id}")
        picture(page, "sandbox-delivery", end="#attempts")


def picture(page: Page, name: str, end: str = "main") -> None:
    """Take the page from its top to the end of an element, in 256 colours."""
    path = IMAGES / f"{name}.png"
    bottom = page.locator(end).evaluate("it => it.getBoundingClientRect().bottom")
    area: FloatRect = {"x": 0, "y": 0, "width": SIZE["width"], "height": bottom + 16}
    page.screenshot(path=path, full_page=True, clip=area)
    with Image.open(path) as taken:
        small = taken.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def picture_receiver(page: Page, url: str, scheme: str) -> None:
    """Show the newest deliveries and an event."""
    page.goto(url)
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    picture(page, f"receiver-{scheme}", end=".plan")
    if scheme == "light":
        page.get_by_role("link", name="automation.action_triggered").first.click()
        expect(page.get_by_role("heading", name="Body")).to_be_visible()
        picture(page, "receiver-event")


class Pipeline:
    """A target that sends trials and invoices, with its own ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"

    def run(
        self, sandbox: Sandbox, people: range, *, in_terminal: bool = False
    ) -> list[tuple[float, str]]:
        """Send the people's new records. Return stderr if it is a terminal."""
        settings = {
            "api_url": sandbox.url,
            "api_key": "sk_test_sandbox",
            "ledger_url": "sqlite:///ledger.db",
            "first_run": "send",
            "requests_per_minute": 1_000,
        }
        self.config.write_text(json.dumps(settings))
        messages = self.folder / "messages.jsonl"
        messages.write_text("".join(map(_line_of, messages_of(people))))
        command = [str(BIN / "target-stairoids"), "--config", "config.json"]
        with messages.open() as source:
            if not in_terminal:
                subprocess.run(
                    command,
                    stdin=source,
                    check=True,
                    capture_output=True,
                    cwd=self.folder,
                )
                return []
            return _stderr_of_terminal(command, source, self.folder)

    def spread(self) -> None:
        """Let the runs begin one day after the other, at 03:00."""
        with closing(sqlite3.connect(self.folder / "ledger.db")) as ledger, ledger:
            ledger.execute(
                "UPDATE stairoids_runs SET started_at ="
                " strftime('%Y-%m-%dT03:00:%fZ', started_at,"
                " (run - (SELECT max(run) FROM stairoids_runs)) || ' days')"
            )


def messages_of(people: range) -> Iterator[dict[str, object]]:
    """Yield messages of a tap: trials, invoices, and some without an address."""
    for stream in ("trials", "invoices"):
        yield {
            "type": "SCHEMA",
            "stream": stream,
            "schema": {"properties": {"id": {}, "email": {}, "plan": {}}},
            "key_properties": ["id"],
        }
    for n in people:
        stream = "invoices" if n % 5 == 0 else "trials"
        email = "unknown" if n % 97 == 0 else f"u{n}@company{n % 31}.example"
        record = {"id": n, "email": email, "plan": ("free", "pro")[n % 2]}
        yield {"type": "RECORD", "stream": stream, "record": record}


def _line_of(message: dict[str, object]) -> str:
    return json.dumps(message) + "\n"


def _stderr_of_terminal(
    command: list[str], source: IO[str], folder: Path
) -> list[tuple[float, str]]:
    """Run a command whose stderr is a terminal.

    Return its output there: parts with the seconds since the first one.
    """
    reading, writing = pty.openpty()
    output: list[tuple[float, str]] = []
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(
        command,
        stdin=source,
        stdout=subprocess.DEVNULL,
        stderr=writing,
        env=environment,
        cwd=folder,
    ) as process:
        os.close(writing)
        with suppress(OSError):  # Linux reports a closed terminal as an error
            while chunk := os.read(reading, 65_536):
                output.append((time.monotonic(), chunk.decode(errors="replace")))
        assert process.wait() == 0
    os.close(reading)
    return [(at - output[0][0], text) for at, text in output]


def picture_report(browser: Browser, pipeline: Pipeline) -> None:
    """Take the report of a month of runs."""
    last = 1
    with Sandbox(plan="agency") as sandbox:
        for more in NEW_PEOPLE:
            pipeline.run(sandbox, range(1, last + more))
            last += more
    pipeline.spread()
    command = [str(BIN / "stairoids-signals"), "report", "--config", "config.json"]
    options = ["--days", str(len(NEW_PEOPLE)), "--format", "html"]
    page_text = subprocess.check_output([*command, *options], cwd=pipeline.folder)
    page_text = page_text.replace(f"{pipeline.folder}/".encode(), b"")
    path = pipeline.config.with_name("report.html")
    path.write_bytes(page_text)
    for scheme in SCHEMES:
        page = browser.new_page(
            color_scheme=scheme, viewport=SIZE, device_scale_factor=1.5
        )
        page.goto(path.as_uri())
        picture(page, f"report-{scheme}", end="section:has(#plot-2)")


def picture_terminal(pipeline: Pipeline) -> None:
    """Draw a run as an animated picture: its live line, and its last lines."""
    faults = [Fault(kind="slow", delay_ms=100)]
    with Sandbox(plan="agency", faults=faults) as sandbox:
        pipeline.run(sandbox, range(1, 250))
        parts = pipeline.run(sandbox, range(1, 650), in_terminal=True)
    live = [
        (at, Text.from_ansi(line.strip("\r\n")).plain)
        for at, text in parts
        for line in text.split("\x1b[2K")
        if "in the queue" in line
    ]
    live = [frame for n, frame in enumerate(live) if not n % (len(live) // FRAMES + 1)]
    end = "".join(text for _, text in parts).rpartition("\x1b[2K")[2]
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print("$ tap-postgres | target-stairoids --config config.json")
    console.print(Text.from_ansi(end.replace("\r\n", "\n").strip("\n")))
    drawn = console.export_svg(title="target-stairoids", unique_id="terminal")
    # Leave out the fonts, which a browser would load from another server.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (IMAGES / "terminal.svg").write_text(animated(drawn, live), encoding="utf-8")


def animated(drawn: str, live: list[tuple[float, str]]) -> str:
    """Show the live lines one after the other below the command, and then the rest.

    Args:
        drawn: The SVG of the last state. Its first line is the command.
        live: Seconds since the start, and the live line.
    """
    # The title, the command, and the line below the command.
    _, _, second = list(dict.fromkeys(re.findall(r'<text[^>]* y="([0-9.]+)"', drawn)))[
        :3
    ]
    place = re.search(rf'<text class="[^"]*" x="[^"]*" y="{second}"', drawn)
    assert place is not None
    head, rest = drawn[: place.start()], drawn[place.start() :]
    starts = [at + 1 for at, _ in live]  # the command stands alone for a second
    ends = [*starts[1:], starts[-1] + 0.5]
    total = ends[-1] + 8
    moments = [*zip(starts, ends, strict=True), (ends[-1], total)]
    style = "".join(
        f"@keyframes f{n}{{0%{{visibility:hidden}}{100 * start / total:.2f}%"
        f"{{visibility:visible}}{100 * end / total:.2f}%{{visibility:hidden}}}}"
        f".f{n}{{visibility:hidden;animation:f{n} {total:.1f}s step-end infinite}}"
        for n, (start, end) in enumerate(moments)
    )
    still = f"[class^=f]{{animation:none}}.f{len(live)}{{visibility:visible}}"
    frames = "".join(
        f'<text class="f{n} terminal-r1" x="0" y="{second}" xml:space="preserve">'
        f"{escape(line)}</text>"
        for n, (_, line) in enumerate(live)
    )
    style += f"@media(prefers-reduced-motion:reduce){{{still}}}"
    head = head.replace("</style>", f"{style}</style>", 1)
    last, closing_tag, rest = rest.partition("\n    </g>")
    return f'{head}{frames}<g class="f{len(live)}">{last}</g>{closing_tag}{rest}'


if __name__ == "__main__":
    take_pictures()
