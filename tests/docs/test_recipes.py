"""The recipes of docs/mapping.md pass their own tests, and its tables are complete."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import yaml
from click.testing import CliRunner

from target_stairoids.cli.main import main
from target_stairoids.mapping.expressions.filters import FILTERS
from target_stairoids.settings import config_schema
from tests.support.documents import page

if TYPE_CHECKING:
    from pathlib import Path

TEXT = page("mapping.md")
RECIPES = re.findall(
    r"^##+ ([^\n]+)\n(?:(?!^##).)*?<!-- recipe -->\n"
    r"```yaml\n(.*?)```\n\n```yaml\n(.*?)```",
    TEXT,
    re.DOTALL | re.MULTILINE,
)


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


def test_tables_describe_each_filter_and_option() -> None:
    filters = TEXT[TEXT.index("| filter |") : TEXT.index("A filter that finds nothing")]
    options = TEXT[TEXT.index("| option |") : TEXT.index("`null` switches")]
    items = config_schema()["properties"]["signals"]["items"]

    assert named_in(filters) == set(FILTERS) - {"d"}
    assert named_in(options) == set(items["properties"])


def named_in(table: str) -> set[str]:
    """Return the names in the first column of a table."""
    first = "".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE))
    return set(re.findall(r"`(\w+)`", first))
