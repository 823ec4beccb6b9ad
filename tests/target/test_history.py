"""`stairoids-signals report`: what runs did, as a table, as JSON and as a page."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.singer_io import BIN, TargetUnderTest, a_record, a_schema

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

HOSTILE = "<b>trials</b>"


@pytest.fixture
def past(target: TargetUnderTest) -> TargetUnderTest:
    """A target that has run twice, and was killed once two days ago."""
    schema = a_schema(plan="string"), a_schema(HOSTILE, plan="string")
    mapping = {"stream": HOSTILE, "type": "paid"}
    settings = {"signals": [mapping, {"stream": "*"}], "requests_per_minute": 60}
    one = [a_record(n, plan="a") for n in range(3)]
    target.run(*schema, *one, a_record(9, HOSTILE, plan="b"), **settings)
    target.run(*schema, *one, a_record(10, HOSTILE, email="x"), **settings)
    with closing(sqlite3.connect(target.folder / "ledger.db")) as database, database:
        database.execute(
            "INSERT INTO stairoids_runs (scope, started_at)"
            " SELECT scope, datetime('now', '-2 days') FROM stairoids_runs LIMIT 1"
        )
    (target.folder / "config.json").write_text(json.dumps(target.config))
    return target


def report(target: TargetUnderTest, *options: str) -> str:
    command = [str(BIN / "stairoids-signals"), "report", "--config", "config.json"]
    done = subprocess.run(
        [*command, *options],
        cwd=target.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_report_counts_runs_outcomes_types_and_reasons(past: TargetUnderTest) -> None:
    said: dict[str, Any] = json.loads(report(past, "--format", "json", "--days", "7"))

    assert said["outcomes"] == {"accepted": 4, "duplicate": 3, "invalid": 1}
    assert [run["ending"] for run in said["runs"]] == ["exit 0", "exit 0", "was killed"]
    assert [day["runs"] for day in said["days"]] == [0, 0, 0, 0, 1, 0, 2]
    assert said["days"][-1]["types"] == {"trials": 3, "paid": 1}
    assert said["reasons"][0]["outcome"] == "invalid"
    assert said["dead_letters"] == 1
    assert said["days"][-1]["quota_minutes"] == pytest.approx(4 / 60)


def test_days_that_are_not_asked_for_are_left_out(past: TargetUnderTest) -> None:
    said = json.loads(report(past, "--format", "json", "--days", "1"))

    assert len(said["runs"]) == 2
    assert len(said["days"]) == 1


def test_table_is_for_people(past: TargetUnderTest) -> None:
    said = report(past)

    assert re.search(r"^accepted +4$", said, re.MULTILINE)
    assert "neither account.domain nor contact.email is known" in said
    assert "Dead letters now: 1, the oldest since" in said


def test_new_ledger_has_nothing_to_tell(target: TargetUnderTest) -> None:
    target.run()
    with closing(sqlite3.connect(target.folder / "ledger.db")) as database, database:
        database.execute("DELETE FROM stairoids_runs")
    (target.folder / "config.json").write_text(json.dumps(target.config))

    assert "No dead letters." in report(target)
    assert "Nothing in these days." in report(target, "--format", "html")


def test_page_is_one_file_that_runs_nothing(past: TargetUnderTest) -> None:
    page = report(past, "--format", "html")

    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert HOSTILE not in page
    assert "&lt;b&gt;trials" in page


@pytest.mark.slow
def test_page_shows_a_bar_for_each_day_that_had_signals(
    past: TargetUnderTest, page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(report(past, "--format", "html"))

    page.goto(path.as_uri())

    assert page.get_by_role("heading", level=1).inner_text().startswith("Signals")
    plot = page.get_by_role("img", name="Accepted signals by type")
    heights = plot.locator("rect.c0").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().height)"
    )
    assert sum(height > 1 for height in heights) == 1
    assert page.get_by_role("row").count() > 4
