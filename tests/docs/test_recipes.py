"""The recipes of the cookbook pass their tests. The tables of options are complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from target_stairoids.cli.main import main
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.mapping.expressions.filters import FILTERS
from target_stairoids.settings import config_schema
from tests.support.documents import page, page_names
from tests.support.paths import DATA

TEXT = "\n".join(page(name) for name in page_names() if "cookbook/" in name)
RECIPES = re.findall(
    r"^# ([^\n]+)\n(?:(?!^# ).)*?<!-- recipe -->\n"
    r"```yaml\n(.*?)```\n\n```yaml\n(.*?)```",
    TEXT,
    re.DOTALL | re.MULTILINE,
)

#: Start of a recipe's title -> the output of its tap.
REAL = {
    "PostgreSQL": "meltanolabs-tap-postgres_full.jsonl",
    "Files": "tap-spreadsheets.jsonl",
    "CSV": "sdk-tap-csv.jsonl",
    "Product events": "tap-jsonl.jsonl",
}


@pytest.mark.slow
def test_recipes_pass_their_tests(tmp_path: Path) -> None:
    assert len(RECIPES) == TEXT.count("<!-- recipe -->") > 7
    config, file = tmp_path / "config.json", tmp_path / "mapping_tests.yml"
    failed = {}
    for title, mapping, tests in RECIPES:
        config.write_text(json.dumps(yaml.safe_load(mapping)))
        file.write_text(tests)
        done = CliRunner().invoke(main, ["test", str(file), "--config", str(config)])
        if done.exit_code != 0:
            failed[title] = done.output

    assert failed == {}


@pytest.mark.parametrize("file", REAL.values(), ids=REAL)
def test_recipe_fits_the_output_of_the_real_tap(
    request: pytest.FixtureRequest, tmp_path: Path, file: str
) -> None:
    title = request.node.callspec.id
    mapping = next(m for name, m, _ in RECIPES if name.startswith(title))
    signals = yaml.safe_load(mapping)["signals"]
    config = tmp_path / "config.json"
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    config.write_text(json.dumps({"signals": signals, "ledger_url": ledger}))
    words = ["preview", str(DATA / file), "--config", str(config), "--format", "json"]

    done = CliRunner().invoke(main, words)

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    streams = {signal["stream"] for signal in signals}
    outcomes = [o for o in found["outcomes"] if o["stream"] in streams]
    assert "would_send" in {o["outcome"] for o in outcomes}
    # Some rows of these files have no address.
    reasons = {o["reason"] for o in outcomes if o["outcome"] == "invalid"}
    assert reasons <= {"neither account.domain nor contact.email is known"}
    assert "no record had" not in done.stderr
    for mapped in (m for name in streams for m in found["streams"][name]):
        assert mapped["coverage"]["contact.email"] > 0.8


@pytest.mark.slow
def test_tap_spreadsheets_writes_the_columns_of_its_recipe(tmp_path: Path) -> None:
    table = {"path": "customers.csv", "format": "csv", "table_name": "customers"}
    config = {"files": [{**table, "primary_keys": ["E-Mail"]}]}
    (tmp_path / "tap.json").write_text(json.dumps(config))
    (tmp_path / "customers.csv").write_text(
        'E-Mail,Full name,Signed up,Plan,Seats\n" Ada@Acme.com ","Lovelace, Ada",'
        "31/12/2025,pro,12\nbob@birch.co.uk,Bob Birch,05/11/2025,free,\n"
    )
    uv = Path(sys.executable).with_name("uv")
    package = next(re.finditer(r"tap-spreadsheets==[\d.]+", page("start/meltano.md")))[
        0
    ]

    done = subprocess.run(
        [uv, "tool", "run", "--from", package, "tap-spreadsheets", "--config=tap.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    kept = (DATA / "tap-spreadsheets.jsonl").read_text(encoding="utf-8")
    schema, *records = map(json.loads, done.stdout.splitlines()[:3])
    kept_schema, *kept_records = map(json.loads, kept.splitlines()[:3])
    assert schema == kept_schema
    changing = {"_sdc_last_modified", "_sdc_filename"}
    for record, other in zip(records, kept_records, strict=True):
        assert without(record["record"], changing) == without(other["record"], changing)


def without(record: dict[str, object], names: set[str]) -> dict[str, object]:
    return {name: value for name, value in record.items() if name not in names}


def test_tables_describe_each_filter_and_option() -> None:
    expressions, mapping = (
        page("reference/expressions.md"),
        page("reference/mapping.md"),
    )
    filters = expressions.partition("| filter |")[2].partition("\n\n")[0]
    options = mapping.partition("| option |")[2].partition("\n\n")[0]
    items = config_schema()["properties"]["signals"]["items"]

    assert named_in(filters) == set(FILTERS) - {"d"}
    assert named_in(options) == set(items["properties"])


def test_each_outcome_is_defined() -> None:
    assert named_in(page("concepts/outcomes.md").partition("\n\n`")[0]) >= set(Outcome)


def named_in(table: str) -> set[str]:
    """Return the names in the first column of a table."""
    first = "".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE))
    return set(re.findall(r"`(\w+)`", first))
