"""The options, errors, tables and texts that all commands share."""

from __future__ import annotations

import errno
import io
import itertools
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from stairoids_common.cli import (
    Program,
    checked_stdout,
    older_than_option,
    print_table,
    table_of,
)
from stairoids_common.error_ids import WrongUsageError
from stairoids_common.text import counted, duration
from tests.support.forks import programs
from tests.support.programs import COMMANDS
from tests.support.singer_io import BIN


class RunError(Exception):
    exit_code = 75


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (RunError("Run again."), 75, "Error: Run again.\n"),
        (ValueError("It is empty."), 1, "Error: It is empty.\n"),
    ],
)
def test_expected_error_is_one_line_with_its_exit_code(
    error: Exception, code: int, stderr: str
) -> None:
    class OneThatFails(Program):
        expected_errors = (RunError, ValueError)

    @click.group(cls=OneThatFails)
    def program() -> None:
        pass

    @program.command()
    def command() -> None:
        raise error

    done = CliRunner().invoke(program, ["command"])

    assert (done.exit_code, done.stderr, done.stdout) == (code, stderr, "")


def test_usage_error_has_exit_code_2() -> None:
    @click.command()
    def command() -> None:
        msg = "--key must look like KEY:SCOPE"
        raise WrongUsageError(msg)

    done = CliRunner().invoke(command)

    assert done.exit_code == 2
    assert "Error: --key must look like KEY:SCOPE" in done.stderr


def older_than(text: str) -> tuple[datetime | None, str]:
    """Return the parsed time and stderr."""
    found = []

    @click.command()
    @older_than_option(help="Only old ones:", min_age=timedelta(days=1))
    def command(older_than: datetime) -> None:
        found.append(older_than)

    done = CliRunner().invoke(command, ["--older-than", text])
    return (found[0] if found else None), done.stderr


@pytest.mark.parametrize(
    ("text", "age"),
    [("90d", {"days": 90}), ("36h", {"hours": 36}), ("1500m", {"minutes": 1500})],
)
def test_age_is_a_time_before_now(text: str, age: dict[str, int]) -> None:
    before = datetime.now(UTC)

    time, _ = older_than(text)

    assert time is not None
    assert before <= time + timedelta(**age) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("text", "hour"),
    [("2026-01-31", 0), ("2026-01-31T12:00Z", 12), ("2026-01-31T12:00+02:00", 10)],
)
def test_time_is_converted_to_utc(text: str, hour: int) -> None:
    time, _ = older_than(text)

    assert time == datetime(2026, 1, 31, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("90", "not an age (90d, 12h, 30m) or a time (2026-01-31)."),
        (f"{'9' * 30}d", "not an age"),
        ("0001-01-01T00:00+14:00", "not an age"),
        ("2999-01-31", "this time is in the future."),
        ("23h", "less than 1 day."),
    ],
)
def test_wrong_age_is_refused(text: str, error: str) -> None:
    time, stderr = older_than(text)

    assert time is None
    assert error in stderr


def test_table_in_a_pipe_has_one_plain_line_per_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows = [("[b]trials[/b]", 1234, 0.25, "x" * 200), ("leads", None, 10.0, ":smile:")]

    print_table(("stream", "signals", "minutes", "reason"), rows)

    assert capsys.readouterr().out.splitlines() == [
        "stream         signals  minutes  reason",
        f"[b]trials[/b]    1,234      0.2  {'x' * 200}",
        "leads                ?     10.0  :smile:",
    ]


def test_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("stream", "signals"), [])

    assert capsys.readouterr().out == "stream  signals\n"


def test_table_on_a_narrow_terminal_loses_no_text() -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, width=30, force_terminal=True, color_system=None)

    console.print(table_of(("stream", "reason"), [("trials", "y" * 100)]))

    assert terminal.getvalue().count("y") == 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (234, "3 min 54 s"),
        (6_000, "1 h 40 min"),
        (183_600, "2 d 3 h"),
    ],
)
def test_duration_has_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_number_has_its_noun() -> None:
    assert counted(1, "signal") == "1 signal"
    assert counted(1_000, "signal") == "1,000 signals"
    assert counted(2, "signal is", "signals are") == "2 signals are"


@pytest.mark.parametrize(
    ("plugin", "hint"),
    [
        (
            "target-stairoids",
            "A command is `stairoids-signals serve`, and a file is `--input serve`. ",
        ),
        ("tap-stairoids-webhooks", "A command is `stairoids-webhooks serve`. "),
        ("tap-stairoids-signals", "A command is `stairoids-signals serve`. "),
    ],
)
def test_plugin_names_the_program_with_commands(plugin: str, hint: str) -> None:
    shown = {
        level: subprocess.run(
            [programs() / plugin, "serve", "--help"],
            env={**os.environ, "LOGLEVEL": level},
            capture_output=True,
            text=True,
            check=False,
        )
        for level in ("", "chatty")
    }

    assert (shown[""].returncode, shown[""].stdout) == (2, "")
    text = f"Error: `{plugin}` takes options only. {hint}[E503]\n"
    assert shown[""].stderr == text
    assert shown["chatty"].returncode == 1
    assert "[E482]" in shown["chatty"].stderr


@pytest.mark.parametrize(
    ("command", "unbuffered", "blocks"),
    [
        *((f"{name} --help", "", 0) for name in COMMANDS),
        *((f"{name} --help", "1", 1) for name in COMMANDS),
        *itertools.product(
            ["stairoids-signals schema", "target-stairoids --about --format=json"],
            ["", "1"],
            [0, 1],
        ),
    ],
)
def test_full_disk_is_one_sentence_of_every_program(
    tmp_path: Path, command: str, unbuffered: str, blocks: int
) -> None:
    is_fork = not command.startswith("stairoids-sandbox")  # one program is started
    folder = programs() if is_fork else BIN

    done = subprocess.run(
        ["sh", "-c", f"ulimit -f {blocks}; {folder}/{command} >full"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "Error: stdout cannot be written: File too large." in done.stderr
    assert "Traceback" not in done.stderr


def test_full_disk_of_another_file_is_not_that_of_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # pytest needs its stdout

    with pytest.raises(SystemExit) as ended, checked_stdout():
        raise OSError(errno.ENOSPC, "No space left on device")

    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: A file cannot be written: No space left on device.")
