"""The pages about the receiver agree with the code."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stairoids_sandbox.webhooks.delivery import MAX_ATTEMPTS
from tap_stairoids_webhooks.cli.main import main
from tap_stairoids_webhooks.environment import PREFIX, ReceiverSettings
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.receiver.app import RESPONSE_SECONDS, RESULTS
from tap_stairoids_webhooks.receiver.http_limits import REQUEST_SECONDS
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.documents import blocks, page
from tests.support.paths import ROOT
from tests.support.webhook_builders import SECRET, deliveries
from tests.tap.receiver.test_admin import administered, get

if TYPE_CHECKING:
    from pathlib import Path

PAGES = (
    *("start/first-webhook.md", "guides/event-store.md", "guides/erase.md"),
    "guides/event-store-postgresql.md",
    *("guides/rotate-a-secret.md", "guides/forward-events.md", "deploy/asgi.md"),
    *("deploy/docker.md", "deploy/logs.md", "deploy/monitor-the-receiver.md"),
    *("concepts/security.md", "reference/http-responses.md"),
)
TEXT = "\n".join(map(page, PAGES))
STAIROIDS_WAITS = 10
VARIABLES = sorted(set(re.findall(r"\bSTAIROIDS_[A-Z_]+", TEXT)))


def test_deadlines_are_those_of_the_code() -> None:
    assert f"a head that takes over {REQUEST_SECONDS:g} s" in TEXT
    assert f"not there {RESPONSE_SECONDS:g} s after its head" in TEXT
    assert RESPONSE_SECONDS < STAIROIDS_WAITS


def test_pauses_of_five_attempts_have_the_documented_sum() -> None:
    assert sum(2**pause for pause in range(MAX_ATTEMPTS - 1)) == 15
    assert "the four of them last 15 *p*" in TEXT


def test_log_lines_are_shown_alike_as_text_and_as_json() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", page("deploy/logs.md"), re.DOTALL)
    line = json.loads(shown)
    time, level, _, message = (line.pop(k) for k in list(line)[:4])

    assert f"{time} {level.upper()} {LogLine(message, **line)}\n" in TEXT


def test_every_command_is_documented() -> None:
    for name in main.commands:
        assert re.search(rf"\b{name}\b", TEXT), name


@pytest.mark.parametrize("cited", re.findall(r"`(tests/[\w/.]+::\w+)`", TEXT))
def test_threat_has_its_test(cited: str) -> None:
    path, _, name = cited.partition("::")

    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("variable", VARIABLES)
def test_variable_is_read(variable: str) -> None:
    source = (ROOT / "tap_stairoids_webhooks/environment.py").read_text("utf-8")
    variable = variable.removesuffix("_FILE")  # for each secret
    name = variable.removeprefix(PREFIX).lower()

    is_setting = (
        variable.startswith(PREFIX) and name in ReceiverSettings.__struct_fields__
    )
    assert is_setting or f'"{variable}"' in source


def test_metrics_are_those_of_the_receiver(tmp_path: Path) -> None:
    table = TEXT[TEXT.index("| metric |") : TEXT.index("The metrics of the process")]
    cells = [line.split("|")[1] for line in table.splitlines()[2:] if "|" in line]
    documented = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    with administered(f"sqlite:///{tmp_path}/webhooks.db") as receiver:
        receiver.store.append(deliveries(1))
    with administered(f"sqlite:///{tmp_path}/webhooks.db") as receiver:
        metrics = get(receiver, "/metrics").text

    found = set(re.findall(r"^# TYPE stairoids_webhooks_(\w+) ", metrics, re.MULTILINE))
    assert {name for name in found if not name.endswith("_created")} == documented


def test_every_result_is_in_the_table_of_responses() -> None:
    table = TEXT.partition("## Responses")[2].partition("\n## ")[0]

    assert [name for name in RESULTS if f"`{name}`" not in table] == []


def test_exported_events_of_a_store_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (query,) = blocks(page("guides/event-store-postgresql.md"), "sql")
    monkeypatch.setenv("STAIROIDS_WEBHOOK_SECRET", SECRET)
    with EventStore.create(f"sqlite:///{tmp_path}/old.db") as store:
        store.append(deliveries(3))

    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        lines = "\n".join(line for (line,) in old.execute(query))
    new = ["--store-url", f"sqlite:///{tmp_path}/new.db"]
    done = CliRunner().invoke(main, ["import", "-", *new], input=lines)

    assert json.loads(done.stdout) == {"stored": 3, "refused": {}}
