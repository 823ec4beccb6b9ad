"""`stairoids-signals report` as a table, as JSON and as an HTML page."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from target_stairoids.reporting.html import axis_end
from target_stairoids.reporting.run_status import (
    quota_of,
    state_of,
    statuses_of,
    words_of,
)
from target_stairoids.reporting.runs import PastRun
from tests.support.commands import signals
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from stairoids_sandbox import Sandbox

HOSTILE = "<b>trials</b>"


@pytest.fixture
def past(target: TargetUnderTest) -> TargetUnderTest:
    """A target that ran twice and was killed once, two days ago."""
    schema = a_schema(plan="string"), a_schema(HOSTILE, plan="string")
    mapping = {"stream": HOSTILE, "type": "paid"}
    settings = {"signals": [mapping, {"stream": "*"}], "requests_per_minute": 60}
    one = [a_record(n, plan="a") for n in range(3)]
    target.run(*schema, *one, a_record(9, HOSTILE, plan="b"), **settings)
    target.run(*schema, *one, a_record(10, HOSTILE, email="x"), **settings)
    with closing(sqlite3.connect(target.folder / "ledger.db")) as database, database:
        database.execute(
            "INSERT INTO stairoids_runs (scope, source, started_at, sequence)"
            " SELECT scope, source, datetime('now', '-2 days'), 9"
            " FROM stairoids_runs LIMIT 1"
        )
    return target


def report(target: TargetUnderTest, *options: str) -> str:
    done = signals(target, "report", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_report_counts_runs_outcomes_types_and_reasons(past: TargetUnderTest) -> None:
    found: dict[str, Any] = json.loads(report(past, "--format", "json", "--days", "7"))

    assert found["outcomes"] == {"accepted": 4, "duplicate": 3, "invalid": 1}
    assert [run["ending"] for run in found["runs"]] == [
        "exit 0",
        "exit 0",
        "was killed",
    ]
    assert [day["runs"] for day in found["days"]] == [0, 0, 0, 0, 1, 0, 2]
    assert found["days"][-1]["types"] == {"trials": 3, "paid": 1}
    assert found["reasons"][0]["outcome"] == "invalid"
    assert found["dead_letters"] == 1
    assert found["days"][-1]["quota_minutes"] == pytest.approx(4 / 60)


def test_report_has_only_the_days_of_the_option(past: TargetUnderTest) -> None:
    found = json.loads(report(past, "--format", "json", "--days", "1"))

    assert len(found["runs"]) == 2
    assert len(found["days"]) == 1


def test_table_has_outcomes_types_reasons_and_dead_letters(
    past: TargetUnderTest,
) -> None:
    found = report(past)

    assert re.search(r"^accepted +4$", found, re.MULTILINE)
    assert re.search(r"^trials +3$", found, re.MULTILINE)
    assert "A record that is read again is counted again" in found
    assert "neither account.domain nor contact.email is known" in found
    assert "Dead letters now: 1, the oldest since" in found
    assert "dead-letters list --with-key --config config.json\n" in found


@pytest.mark.slow
def test_killed_run_and_the_next_count_each_signal_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(400))]
    sandbox.faults.add(Fault(kind="slow", delay_ms=100))
    with target.start(text_of(messages)) as process:
        wait_until(lambda: len(sandbox.signals) > 30)
        process.kill()
    sandbox.faults.set([])

    target.run(*messages, request_timeout_seconds=2)

    found = json.loads(report(target, "--format", "json"))
    killed, last = found["runs"]
    assert killed["ending"] == "was killed"
    assert killed["outcomes"]["accepted"] > 0
    assert killed["read"] is killed["requests"] is killed["seconds"] is None
    assert last["outcomes"]["duplicate"] == 400 - last["outcomes"]["accepted"]
    assert found["outcomes"]["accepted"] == len(sandbox.signals) == 400
    assert found["status"][0]["state"] == "ok"
    assert found["days"][-1]["types"] == {sandbox.signals[0].type: 400}
    rows = report(target).splitlines()
    killed_row, last_row = [r for r in rows if re.match(r" *\d+ +\d{4}-", r)]
    assert re.search(r"was killed +\? +\d+ +\? +\? +\?$", killed_row)
    assert "?" not in last_row
    assert "a run that has not ended wrote no report" in report(target)
    assert "was killed" in report(target, "--format", "html")


def test_report_adds_up_requests_without_a_clear_response(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    for number in range(2):
        sandbox.faults.set([Fault(kind="drop_after_accept", count=1)])
        target.run(a_schema(), a_record(number))

    table = report(target)
    page = report(target, "--format", "html")

    assert "2 requests got no clear response: 2 found at Stairoids.\n" in table
    assert 'Requests without a clear response</dt><dd class="number">2<' in page


def test_report_has_a_command_for_each_decision_that_a_check_needs(
    target: TargetUnderTest,
) -> None:
    settings = {"source": "crm", "first_run": "guard"}
    target.run(a_schema(), a_record(1), **settings)
    for path in target.folder.glob("ledger.db*"):  # as on a new machine
        path.unlink()
    target.run(a_schema(), a_record(1), **settings)

    (status,) = json.loads(report(target, "--format", "json"))["status"]
    table = report(target)

    assert "source `crm` that the ledger does not know" in status["text"]
    assert status["text"].endswith("[E018]")
    assert status["text"].count("ledger allow") == 1
    assert [step["command"] for step in status["next"]] == [
        "stairoids-signals ledger rebuild MESSAGES --config config.json",
        "stairoids-signals ledger allow --source crm --config config.json",
    ]
    assert "\nRun 1: " not in table
    for step in status["next"]:
        assert step["text"] in table


def test_command_of_a_decision_quotes_odd_names(target: TargetUnderTest) -> None:
    source = "St. Louis; true"
    settings = {"source": source, "first_run": "guard"}
    target.run(a_schema(), a_record(1), **settings)
    for path in target.folder.glob("ledger.db*"):
        path.unlink()
    target.run(a_schema(), a_record(1), **settings)

    (status,) = json.loads(report(target, "--format", "json"))["status"]

    *_, allow = [step["command"] for step in status["next"]]
    words = ["ledger", "allow", "--source", source, "--config", "config.json"]
    assert shlex.split(allow) == ["stairoids-signals", *words]


def test_pending_signals_of_several_runs_are_counted_once(
    target: TargetUnderTest,
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(5))]
    for _ in range(3):
        target.run(*messages, max_signals_per_run=1)
    target.run(a_schema("leads"), a_record(9, stream="leads"))

    found = json.loads(report(target, "--format", "json"))
    page = report(target, "--format", "html")

    assert list(found["outcomes"].items()) == [
        ("accepted", 4),
        ("duplicate", 3),
        ("pending", 2),
    ]
    assert found["days"][-1]["outcomes"]["pending"] == 2
    assert [entry["count"] for entry in found["reasons"]] == [2]
    grey = re.search(r'class="c(\d)" width="10"[^>]*></svg> pending', page)
    green = re.search(r'class="c(\d)" width="10"[^>]*></svg> accepted', page)
    assert grey
    assert green
    assert (grey[1], green[1]) == ("7", "1")


def test_report_of_an_empty_ledger(target: TargetUnderTest) -> None:
    target.run(a_schema("empty"))  # creates the ledger

    assert "No dead letters." in report(target)
    assert "Nothing in these days." in report(target, "--format", "html")


def test_report_begins_with_the_last_run_and_the_next_commands(
    past: TargetUnderTest,
) -> None:
    table, page = report(past), report(past, "--format", "html")
    (status,) = json.loads(report(past, "--format", "json"))["status"]

    # The killed run of `past` has the highest number.
    assert status["state"] == "failed"
    assert "was killed." in status["text"]
    assert "The last run without a problem was run 1," in status["text"]
    command = "stairoids-signals dead-letters list --with-key --config config.json"
    assert [step["command"] for step in status["next"]] == [None, command]
    for text in (status["text"], *(step["text"] for step in status["next"]), command):
        assert text in table
        assert text in page
    assert "completed, 1 dead letter" in table
    assert "completed, 1 dead letter" in page
    assert "60 requests per minute (plan Starter). Today (UTC): 4 of 10,000" in table
    assert "60 requests per minute (plan Starter). Today (UTC): 4 of 10,000" in page


def test_report_has_the_reason_of_a_stopped_and_of_a_failed_run(
    target: TargetUnderTest,
) -> None:
    messages = [a_schema(), *(a_record(n) for n in range(3))]
    target.run(*messages, max_signals_per_run=1)
    stopped = json.loads(report(target, "--format", "json"))
    target.run(*messages, api_key="sk_wrong")
    failed = json.loads(report(target, "--format", "json"))

    reason = "`max_signals_per_run` (1) is reached"
    assert stopped["status"][0]["state"] == "attention"
    assert f"stopped, exit 75: {reason}" in stopped["status"][0]["text"]
    assert stopped["runs"][0]["reason"].startswith(reason)
    assert "The next run resumes" in stopped["status"][0]["next"][0]["text"]
    assert failed["status"][0]["state"] == "failed"
    assert "failed, exit 1: " in failed["status"][0]["text"]
    assert (
        "stairoids-signals check --config" in failed["status"][0]["next"][0]["command"]
    )
    table = report(target)
    assert f"Run 1: {reason}" in table
    assert "stopped, exit 75" in table
    assert table.count(failed["runs"][1]["reason"]) == 1
    assert "<code>max_signals_per_run</code>" in report(target, "--format", "html")


def test_many_runs_are_grouped_by_day(past: TargetUnderTest) -> None:
    with closing(sqlite3.connect(past.folder / "ledger.db")) as database, database:
        for number in range(20):
            database.execute(
                "INSERT INTO stairoids_runs (scope, source, started_at, sequence)"
                " SELECT scope, source, datetime('now', '-1 days'), ?"
                " FROM stairoids_runs LIMIT 1",
                (number + 20,),
            )
    page = report(past, "--format", "html")

    assert page.count('<details class="day"') == 3
    assert ": 20 runs, 0 accepted" in page
    assert "20 failed</span>" in page


def a_run(**fields: Any) -> PastRun:
    code = fields.setdefault("exit_code", 0)
    given: dict[str, Any] = {
        "run": 7,
        "started_at": "2026-01-31T03:00:00Z",
        "source": "crm",
        "ending": "is running" if code is None else f"exit {code}",
    }
    return PastRun(**given | fields)


@pytest.mark.parametrize(
    ("fields", "state", "words"),
    [
        ({}, "ok", "completed."),
        ({"dead_letters": 3}, "attention", "3 dead letters."),
        ({"outcomes": {"rejected": 2, "invalid": 1}}, "ok", "completed."),  # closed
        ({"outcomes": {"pending": 2}}, "attention", "completed."),
        (
            {"reason": "A limit."},
            "attention",
            "completed, signals left: A limit.",
        ),
        (
            {"exit_code": 75, "reason": "Spent."},
            "attention",
            "stopped, exit 75: Spent.",
        ),
        ({"exit_code": 143, "reason": "SIGTERM."}, "attention", "143: SIGTERM."),
        ({"exit_code": 1, "reason": "A key."}, "failed", "failed, exit 1: A key."),
        ({"exit_code": 1}, "failed", "failed, exit 1."),
        ({"exit_code": None}, "running", "is running."),
        ({"exit_code": None, "ending": "was killed"}, "failed", "was killed."),
    ],
)
def test_end_of_a_run_is_described_in_words(
    fields: dict[str, Any], state: str, words: str
) -> None:
    run = a_run(**fields)

    assert (state_of(run), words_of(run)[-len(words) :]) == (state, words)


def test_each_pipeline_has_its_own_status() -> None:
    runs = [a_run(exit_code=1), a_run(source="billing"), a_run(exit_code=None)]
    statuses = statuses_of(runs, 0)

    assert [(s.source, s.state) for s in statuses] == [
        ("crm", "failed"),
        ("billing", "ok"),
    ]
    assert "Run 7 before it failed, exit 1." in statuses[0].text
    assert statuses_of([], 0)[0].text == "No run began in these days."


def test_signals_that_no_later_run_has_read_are_pending_still() -> None:
    reason = "Stream `deals`: odd. Run `stairoids-signals ledger allow deals`."
    deals = {"outcomes": {"pending": 2}, "streams": {"deals": {"pending": 2}}}
    set_aside = a_run(run=7, exit_code=1, reason=reason, **deals)
    empty, read = a_run(run=8, streams={}), a_run(run=8, streams={"deals": {}})

    (open_one,) = statuses_of([set_aside, empty], 0)
    (done,) = statuses_of([set_aside, read], 0)

    assert (open_one.state, done.state, done.next) == ("attention", "ok", [])
    assert "Run 7 before it failed, exit 1: Stream `deals`: odd." in open_one.text
    assert "ledger allow deals" in (open_one.next[0].command or "")


def test_signals_that_send_left_are_read_by_a_run_of_their_pipeline() -> None:
    left = {"outcomes": {"pending": 2}, "streams": {"deals": {"pending": 2}}}
    sent = a_run(run=7, source="", exit_code=75, **left)
    pipeline = a_run(run=8, streams={"deals": {"accepted": 2}})
    again = a_run(run=9, source="", streams={"other": {"accepted": 1}})

    of_send, of_pipeline = statuses_of([sent, pipeline, again], 0)
    open_one, _ = statuses_of([sent, a_run(run=8, streams={}), again], 0)

    assert (of_send.state, of_pipeline.state) == ("ok", "ok")
    assert (open_one.state, "Run 7 before it" in open_one.text) == ("attention", True)


def test_run_that_learns_no_rate_limit_names_none(target: TargetUnderTest) -> None:
    target.config["requests_per_minute"] = None
    first, again = (target.run(a_schema(), a_record()) for _ in range(2))

    assert first.outcomes == {"accepted": 1}
    assert again.outcomes == {"duplicate": 1}
    assert again.report["requests_per_minute"] is None


@pytest.mark.parametrize(
    ("limit", "used", "left"),
    [(60, 6_000, 4_000), (60, 0, 10_000), (1_000, 6_000, None), (77, 6_000, None)],
)
def test_quota_has_the_part_that_is_left(
    limit: int, used: int, left: int | None
) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    old = a_run(started_at="2026-01-30T03:00:00Z", requests=9, requests_per_minute=9)
    quota = quota_of([old, a_run(requests=used, requests_per_minute=limit)], now)

    assert quota is not None
    assert (quota.requests_today, quota.left) == (used, left)
    assert quota_of([a_run()], now) is None


def test_page_runs_only_its_copy_buttons_and_loads_no_file(
    past: TargetUnderTest,
) -> None:
    page = report(past, "--format", "html")

    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'\">"
    assert policy in html.unescape(page)
    assert page.count("<script") == 1
    assert not re.search(r"(src|href)=(?!\"data:)|url\(|@import", page)
    assert HOSTILE not in page
    assert "&lt;b&gt;trials" in page


@pytest.mark.parametrize(
    ("top", "end"),
    [(0, 0), (1, 1), (3, 4), (60, 60), (63, 80), (81, 100), (0.03, 0.04), (9.5, 10)],
)
def test_axis_ends_with_a_round_number(top: float, end: float) -> None:
    assert axis_end(top) == pytest.approx(end)


@pytest.mark.slow
def test_page_shows_a_bar_for_each_day_that_had_signals(
    past: TargetUnderTest, page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(report(past, "--format", "html"))

    page.goto(path.as_uri())

    assert page.get_by_role("heading", level=1).inner_text().startswith("Signals")
    plot = page.get_by_role("img", name="Accepted signals by type")
    heights = plot.locator("rect.t0").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().height)"
    )
    assert sum(height > 1 for height in heights) == 1
    assert plot.locator("..").locator(".scale span").all_inner_texts() == [
        "4",
        "2",
        "0",
    ]
    page.set_viewport_size({"width": 375, "height": 700})
    runs = page.get_by_role("group", name="Runs")
    runs.press("ArrowRight")
    page.wait_for_function("runs => runs.scrollLeft > 0", arg=runs.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.get_by_role("row").count() > 4
