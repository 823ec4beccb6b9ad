"""Each program takes odd bytes and closed standard streams without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stairoids_sandbox.cli import main as sandbox
from tap_stairoids_webhooks.cli.main import main as webhooks
from tap_stairoids_webhooks.store.store import EventStore
from target_stairoids.cli.main import main as signals
from tests.support.singer_io import BIN

if TYPE_CHECKING:
    import click

TEXT = "a\udcff"  # the byte 0xff of a command line


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (webhooks, ["forward", "http://127.0.0.1:1/", "--name", TEXT]),
        (webhooks, ["forward", "http://127.0.0.1:1/", "--event-type", TEXT]),
        (webhooks, ["forward", "failures", "--name", TEXT]),
        (webhooks, ["forget", TEXT, "--yes"]),
        (webhooks, ["erase", "--email", f"{TEXT}@example.com", "--yes"]),
        (webhooks, ["stats", "--store-url", f"postgresql://{TEXT}@localhost/x"]),
        (webhooks, ["delete", TEXT, "--yes"]),
        (signals, ["find", "--email", f"{TEXT}@example.com"]),
        (signals, ["ledger", "allow", TEXT]),
        (signals, ["dead-letters", "list", "--stream", TEXT]),
        (sandbox, ["serve", "--key", f"{TEXT}:read"]),
        (sandbox, ["serve", "--host", TEXT]),
    ],
    ids=lambda value: " ".join(value[:-1]) if isinstance(value, list) else "",
)
def test_text_that_is_not_utf_8_is_refused(
    program: click.Command, words: list[str]
) -> None:
    done = CliRunner().invoke(program, words)

    assert done.exit_code == 2
    assert "has bytes that are not UTF-8." in done.stderr


def test_variable_that_is_not_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAIROIDS_WEBHOOKS_STORE_URL", f"postgresql://localhost/{TEXT}")

    done = CliRunner().invoke(webhooks, ["stats"])

    assert done.exit_code == 2
    assert "STAIROIDS_WEBHOOKS_STORE_URL" in done.stderr
    assert "has bytes that are not UTF-8." in done.stderr


def test_path_may_have_any_bytes(tmp_path: Path) -> None:
    lines = tmp_path / TEXT
    lines.touch()
    url = f"sqlite:///{tmp_path}/webhooks.db"

    done = CliRunner().invoke(
        webhooks,
        ["import", str(lines), "--store-url", url],
        env={"STAIROIDS_WEBHOOK_SECRET": "secret"},
    )
    found = CliRunner().invoke(signals, ["check", "--config", f"{lines}.json"])

    assert done.exit_code == 0
    with EventStore.open_read_only(url) as store:
        assert store.last_sequence() == 0
    assert "no such file" in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("stairoids-webhooks stats >&-", 0),
        ("stairoids-webhooks forget x <&-", 2),
        ("stairoids-webhooks import - <&-", 0),
        ("stairoids-signals preview --config config.json <&-", 0),
        ("target-stairoids --config config.json <&-", 0),
        ("tap-stairoids-webhooks --config tap.json >&-", 0),
        ("destination-stairoids check --config config.json >&-", 0),
        ("stairoids-webhooks stats <&- >&- 2>&-", 0),
    ],
)
def test_closed_standard_stream_is_the_null_device(
    tmp_path: Path, command: str, code: int
) -> None:
    url = f"sqlite:///{tmp_path}/webhooks.db"
    EventStore.create(url).close()
    config = {"api_key": "sk", "api_url": "http://127.0.0.1:1/v1", "source": "crm"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tap.json").write_text(json.dumps({"store_url": url}))
    names = {"STAIROIDS_WEBHOOKS_STORE_URL": url, "STAIROIDS_WEBHOOK_SECRET": "secret"}

    done = subprocess.run(
        ["sh", "-c", f"{BIN}/{command}"],
        cwd=tmp_path,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
