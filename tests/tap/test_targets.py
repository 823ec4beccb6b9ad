"""The tap with targets of other authors, from the package index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.store.store import EventStore
from tests.support.running_tap import TYPES, fill
from tests.support.webhook_builders import a_body, a_delivery, an_action_body
from tests.tap.test_tap import TAP

pytestmark = pytest.mark.slow

_UV = Path(sys.executable).with_name("uv")


def piped(config: dict[str, object], folder: Path, package: str) -> None:
    """Run the tap with the state of the last run into a target."""
    target = package.partition("=")[0].removeprefix("meltanolabs-")
    (folder / "target.json").write_text(json.dumps(config))
    state = folder / "state.json"
    arguments = ["--config", str(folder / "tap.json")]
    if state.exists():
        arguments += ["--state", str(state)]
    printed = subprocess.run(
        [str(TAP), *arguments], capture_output=True, check=True
    ).stdout
    isolated = ["--isolated", "--python", sys.executable, "--from", package]
    options = ["--config", str(folder / "target.json")]
    done = subprocess.run(
        [str(_UV), "tool", "run", *isolated, target, *options],
        input=printed,
        capture_output=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    state.write_bytes(done.stdout.splitlines()[-1])


def prepare(folder: Path, url: str) -> None:
    fill(url)
    (folder / "tap.json").write_text(json.dumps({"store_url": url}))


def add_two(url: str) -> None:
    with EventStore.create(url) as store:
        store.append([a_delivery(a_body("evt_late")), a_delivery(an_action_body("z"))])


def test_events_arrive_in_target_jsonl(tmp_path: Path, store_url: str) -> None:
    prepare(tmp_path, store_url)
    output = tmp_path / "output"
    output.mkdir()
    config: dict[str, object] = {
        "destination_path": str(output),
        "do_timestamp_file": False,
    }

    piped(config, tmp_path, "target-jsonl==0.1.4")
    add_two(store_url)
    piped(config, tmp_path, "target-jsonl==0.1.4")

    lines = (output / "events.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["sequence"] for record in records] == list(range(1, 13))
    assert records[0]["payload"] == json.loads(a_body("evt_0", TYPES[0]))


def test_events_arrive_in_target_postgres(
    tmp_path: Path, store_url: str, postgres_url: str
) -> None:
    prepare(tmp_path, store_url)
    socket_folder = parse_qs(urlsplit(postgres_url).query)["host"][0]
    url = f"postgresql://postgres:@/postgres?host={socket_folder}"
    config: dict[str, object] = {
        "sqlalchemy_url": url.replace("postgresql:", "postgresql+psycopg:"),
        "default_target_schema": "hooks",
    }

    piped(config, tmp_path, "meltanolabs-target-postgres")
    add_two(store_url)
    piped(config, tmp_path, "meltanolabs-target-postgres")

    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT sequence, event, payload FROM hooks.events ORDER BY sequence"
        ).all()
        runs = connection.exec_driver_sql(
            "SELECT signal ->> 'id' FROM hooks.automation_action_triggered ORDER BY 1"
        )
        assert runs.scalars().all() == ["sig_1", "z", None]
        connection.exec_driver_sql("DROP SCHEMA hooks CASCADE")
    engine.dispose()
    assert [row.sequence for row in rows] == list(range(1, 13))
    assert rows[0].payload == json.loads(a_body("evt_0", TYPES[0]))
    assert rows[8].payload is None
