"""One query in a warehouse says which row of a database led to which action."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Sandbox
from tap_stairoids_webhooks.store.statistics import statistics_of
from tests.support.documents import blocks, page
from tests.support.singer_io import (
    BIN,
    TargetUnderTest,
    a_schema,
    text_of,
    wait_until,
)
from tests.support.webhook_builders import a_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SECRET = "whsec_warehouse"  # noqa: S105 - signs in this test only
WAREHOUSE = "target-duckdb==0.8.0"
_READ = """
import duckdb, json, sys
warehouse = duckdb.connect("warehouse.duckdb")
found = warehouse.execute(sys.stdin.read()).fetchall()
print(json.dumps(found, default=str))
"""


def in_warehouse(folder: Path, text: str, *words: str) -> str:
    """Run a program of the target's environment."""
    isolated = ["--isolated", "--python", sys.executable, "--from", WAREHOUSE]
    isolated += ["--with", "duckdb==1.1.3"]  # a later one takes rows for headers
    done = subprocess.run(
        [str(BIN / "uv"), "tool", "run", *isolated, *words],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def load(folder: Path, text: str) -> None:
    """Load messages of a tap into the warehouse."""
    in_warehouse(folder, text, "target-duckdb", "--config", "warehouse.json")


def tapped(folder: Path, tap: str, **config: object) -> str:
    """Return the messages of a tap."""
    path = folder / f"{tap}.json"
    path.write_text(json.dumps(config))
    words = [str(BIN / tap), "--config", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def customers(database: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a database as a tap does."""
    yield a_schema("customers", company="string")
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        for row in connection.execute("SELECT * FROM customers ORDER BY id"):
            yield {"type": "RECORD", "stream": "customers", "record": dict(row)}


def test_query_of_the_page_joins_rows_signals_and_actions(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.executescript(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, company TEXT, email TEXT);"
            "INSERT INTO customers VALUES (1, 'Acme', 'ada@acme.example'),"
            " (2, 'Birch', 'bob@birch.example'), (3, 'Cedar', 'nobody')"
        )
    rows = text_of(customers(tmp_path / "shop.db"))
    (tmp_path / "warehouse.json").write_text(
        json.dumps({"filepath": "warehouse.duckdb", "default_target_schema": "main"})
    )
    store_url = f"sqlite:///{tmp_path}/webhooks.db"
    mapping = {"stream": "customers", "type": "trial"}

    with (
        a_receiver(store_url, secrets=[SECRET]) as receiver,
        Sandbox() as sandbox,
    ):
        sandbox.automations.add(type="trial", url=receiver.url, secret=SECRET)
        target = TargetUnderTest(tmp_path, sandbox.url, signals=[mapping])
        for _ in range(2):  # the second run sends nothing, and the log has nothing more
            assert target.run_text(rows).exit_code == 0
        wait_until(lambda: statistics_of(receiver.store).total == 2)
    load(tmp_path, rows)
    ledger_url = target.config["ledger_url"]
    load(tmp_path, tapped(tmp_path, "tap-stairoids-signals", ledger_url=ledger_url))
    load(tmp_path, tapped(tmp_path, "tap-stairoids-webhooks", store_url=store_url))

    query = blocks(page("guides/sync-log.md"), "sql")[0]
    found = json.loads(in_warehouse(tmp_path, query, "python", "-c", _READ))
    assert [row[:3] for row in found] == [
        [1, "Acme", "trial"],
        [2, "Birch", "trial"],
        [3, "Cedar", None],
    ]
    assert [row[4] for row in found] == ["trial → webhook", "trial → webhook", None]
    assert all(row[3] and row[5] for row in found[:2])
    digest = "SELECT count(*) FROM signals WHERE key_digest = sha256('[2]')"
    assert json.loads(in_warehouse(tmp_path, digest, "python", "-c", _READ)) == [[1]]
