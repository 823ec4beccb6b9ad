"""The recipes of docs/mapping.md, run with their own tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from target_stairoids.mapping.expressions.filters import FILTERS
from target_stairoids.settings import config_schema
from tests.support.paths import ROOT

BIN = Path(sys.executable).parent
TEXT = (ROOT / "docs/mapping.md").read_text(encoding="utf-8")
RECIPES = re.findall(
    r"^##+ ([^\n]+)\n(?:(?!^##).)*?<!-- recipe -->\n"
    r"```yaml\n(.*?)```\n\n```yaml\n(.*?)```",
    TEXT,
    re.DOTALL | re.MULTILINE,
)


def test_every_recipe_is_found() -> None:
    assert len(RECIPES) == TEXT.count("<!-- recipe -->") > 7


@pytest.mark.parametrize(
    ("mapping", "tests"),
    [recipe[1:] for recipe in RECIPES],
    ids=[recipe[0] for recipe in RECIPES],
)
def test_recipe_does_what_it_says(tmp_path: Path, mapping: str, tests: str) -> None:
    config, file = tmp_path / "config.json", tmp_path / "mapping_tests.yml"
    config.write_text(json.dumps(yaml.safe_load(mapping)))
    file.write_text(tests)

    done = subprocess.run(
        [BIN / "stairoids-signals", "test", file, "--config", config],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def named_in(table: str) -> set[str]:
    """Return what the first column of a table names."""
    first = "".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE))
    return set(re.findall(r"`(\w+)`", first))


def test_every_filter_is_described() -> None:
    table = TEXT[TEXT.index("| filter |") : TEXT.index("A filter that finds nothing")]

    described = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE)))
    )
    assert described == set(FILTERS) - {"d"}


def test_every_option_is_described() -> None:
    table = TEXT[TEXT.index("| option |") : TEXT.index("`null` switches")]

    described = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE)))
    )
    item = config_schema()["properties"]["signals"]["items"]
    assert described == set(item["properties"])
