"""Each program refuses options and arguments that are not UTF-8 in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stairoids_sandbox.cli import main as sandbox
from tap_stairoids_webhooks.cli.main import main as webhooks
from tap_stairoids_webhooks.store.store import EventStore
from target_stairoids.cli.main import main as signals

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
