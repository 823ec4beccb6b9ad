"""`target-stairoids` as a command: exit codes, stderr, SIGTERM and SIGINT."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from tests.support.commands import command, target_command, target_main
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    BIN,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox.server import Sandbox

pytestmark = pytest.mark.slow


def test_interrupted_baseline_asks_for_the_whole_input_again(
    target: TargetUnderTest,
) -> None:
    words = [str(BIN / "stairoids-signals"), "ledger", "baseline"]
    with subprocess.Popen(
        [*words, *target.command(target.config)[1:]],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(text_of([a_schema(), a_record(1)]))
        process.stdin.flush()
        wait_until(lambda: target.has_begun(1))
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGINT
    assert "SIGINT. Repeat the baseline with the whole output of the tap" in log


def test_sigint_while_modules_are_imported_prints_no_traceback(
    target: TargetUnderTest,
) -> None:
    with subprocess.Popen(
        target.command(target.config),
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "singer_sdk" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        log = process.stderr.read()

    assert process.returncode in {-signal.SIGINT, 128 + signal.SIGINT}
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"api_key": ["sk_live_canary"]}, "`api_key` must be of type string"),
        ({"api_keey": "sk_live_canary"}, "is not a setting; did you mean `api_key`?"),
        ({"api_url": "http://example.com/v1"}, "`api_url` must be https"),
        ({"ledger_url": "mysql://u:canary@h/d"}, "`ledger_url` must name SQLite"),
        ({"api_key": "*****"}, "printed by `meltano config` without `--unsafe`"),
        ({"ledger_url": "(redacted)"}, "`ledger_url` is masked"),
        ({"max_in_flight": 0}, "`max_in_flight` must be at least 1"),
        (
            {"first_run": "canary"},
            "`first_run` must be one of baseline, guard or send",
        ),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_wrong_config_is_one_sentence_without_values(
    target: TargetUnderTest, wrong: dict[str, Any], error: str
) -> None:
    done = target_command(target, text_of([a_schema(), a_record()]), **wrong)

    assert done.returncode == 1
    assert error in done.stderr
    assert "canary" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("canary {", "Line 3 of the input is not JSON"),
        (json.dumps(a_record(stream="strange")), "stream 'strange'"),
        (
            '{"type":"RECORD","stream":"trials","record":{"email":"canary@x.example"}}',
            "lacks the key `id`",
        ),
    ],
    ids=["malformed", "before schema", "without key"],
)
def test_wrong_input_is_one_sentence_without_values(
    sandbox: Sandbox, target: TargetUnderTest, bad: str, error: str
) -> None:
    done = target_command(target, text_of([a_schema(), a_record(1), bad]))

    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "| ERROR" in last
    assert error in last
    assert ("Stopped at message 3" in done.stderr) is bad.startswith("{")
    assert "canary" not in done.stderr
    assert len(sandbox.signals) == 1


def test_refused_key_is_one_sentence(target: TargetUnderTest) -> None:
    done = target.shell(text_of([a_schema(), a_record()]), api_key="sk_canary")

    assert done.returncode == 1
    assert "`api_key`" in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_are_read_from_the_environment(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path
) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "TARGET_STAIROIDS_API_URL": sandbox.url,
        "TARGET_STAIROIDS_API_KEY": "sk_test_sandbox",
        "TARGET_STAIROIDS_MAX_IN_FLIGHT": "2",
        "TARGET_STAIROIDS_SIGNALS": '[{"stream": "*", "type": "from_env"}]',
    }

    done = subprocess.run(
        [BIN / "target-stairoids", "--config", "ENV"],
        input=text_of([a_schema(), a_record()]),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=env,
    )

    assert done.returncode == 0, done.stderr
    assert [s.body["type"] for s in sandbox.signals] == ["from_env"]
    assert (tmp_path / ".stairoids" / "ledger.db").exists()
    assert target.folder == tmp_path


def test_state_is_emitted_while_the_tap_waits(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    with target.start() as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(text_of([a_schema(), a_record(), a_state()]).encode())
        process.stdin.flush()

        line = process.stdout.readline()

        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert json.loads(line) == {"at": 1}
    assert len(sandbox.signals) == 1


@on_both_connectors
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_end_the_run_and_lose_nothing(
    sandbox: Sandbox, target: TargetUnderTest, number: int
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=50))
    messages = [a_schema()]
    for n in range(1, 201):
        messages += [a_record(n), a_state(n)]
    text = text_of(messages)
    with target.start(text) as process:
        assert process.stdin
        assert process.stdout
        wait_until(lambda: len(sandbox.signals) > 10)

        process.send_signal(number)

        assert process.wait(timeout=60) == 128 + number
        states = target.states_in(process.stdout.read().decode())
        process.stdin.close()
    sandbox.faults.set([])
    accepted = len(sandbox.signals)
    passed = states[-1]["at"] if states else 0
    assert passed <= accepted < 200
    assert target.report()["outcomes"]["accepted"] == accepted

    resumed = target.run_text(text)

    assert resumed.exit_code == 0
    numbers = sorted(s.body["properties"]["id"] for s in sandbox.signals)
    assert numbers == list(range(1, 201))


def test_log_config_of_meltano_gives_structured_log_lines(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The log config of Meltano uses the JSON formatter of the SDK."""
    formatter = {"()": "singer_sdk.logging.StructuredFormatter"}
    handler = {"class": "logging.StreamHandler", "formatter": "structured"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
        "handlers": {"stderr": handler},
        "root": {"level": "INFO", "handlers": ["stderr"]},
    }
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("SINGER_SDK_LOG_CONFIG", str(path))

    done = target.shell(text_of([a_schema(), a_record()]))

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0
    assert any("1 signal = 1 accepted" in line["message"] for line in lines)


BROKEN_CONFIGS = [
    (None, "config.json: no such file."),
    ("", "config.json, line 1, column 1: not JSON."),
    ('{\n"api_key": canary}', "config.json, line 2, column 12: not JSON."),
    ('["canary"]', "config.json: not a JSON object."),
]


@pytest.mark.parametrize(("text", "error"), BROKEN_CONFIGS)
def test_config_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "config.json").write_text(text)

    for done in (
        target_main("--config", "config.json"),
        command("ledger", "stats", "--config", "config.json"),
    ):
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith(f" {error}\n")


def test_closed_stdout_ends_the_run_and_loses_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """For example, `target-stairoids | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    messages = text_of([a_schema(), a_record(1), a_state(1)])

    ended = target.shell(messages, stdout=writing)
    report = target.report()
    again = target.run(a_schema(), a_record(1), a_state(1))

    assert ended.returncode == 128 + signal.SIGPIPE
    assert report["exit_code"] == ended.returncode
    assert "the reader of stdout is gone" in ended.stderr
    assert len(sandbox.signals) == 1
    assert again.exit_code == 0


def test_log_has_the_lines_of_the_sdk_at_debug_only(target: TargetUnderTest) -> None:
    text = text_of([a_schema(), a_record()])

    usual = target.shell(text, env={"PATH": os.environ["PATH"]})
    debug = target.shell(text, env={"PATH": os.environ["PATH"], "LOGLEVEL": "debug"})

    assert "1 signal = 1 accepted" in usual.stderr
    assert {line.split(" | ")[2].strip() for line in usual.stderr.splitlines()} == {
        "target_stairoids.reporting.progress",
        "target_stairoids.sending.run",
    }
    assert "METRIC" in debug.stderr


@pytest.mark.parametrize("name", ["LOGLEVEL", "TARGET_STAIROIDS_LOGLEVEL"])
def test_unknown_log_level_is_one_sentence(target: TargetUnderTest, name: str) -> None:
    done = target.shell("", env={"PATH": os.environ["PATH"], name: "chatty"})

    text = f"Error: `{name}` must be DEBUG, INFO, WARNING or ERROR. [E482]\n"
    assert (done.returncode, done.stderr) == (1, text)


@pytest.mark.parametrize("name", ["LOGLEVEL", "TARGET_STAIROIDS_LOGLEVEL"])
def test_empty_log_level_is_not_set(target: TargetUnderTest, name: str) -> None:
    done = target.shell("", env={"PATH": os.environ["PATH"], name: ""})

    assert done.returncode == 0, done.stderr


def test_warning_ends_with_its_id(target: TargetUnderTest) -> None:
    done = target.shell("")

    assert "Or is no stream selected in its catalog? [E137]\n" in done.stderr


def test_state_is_utf_8_in_every_locale(target: TargetUnderTest) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    text = text_of([a_schema(), a_record(1), a_state("é")])
    lone = '{"type": "STATE", "value": {"at": "\\ud800", "n": 1.5}}\n'

    states = [
        target.shell(given, env=env, is_fork=False) for given in (text, text + lone)
    ]

    assert [done.returncode for done in states] == [0, 0], states[-1].stderr
    assert states[0].stdout == '{"at":"é"}\n'
    assert states[1].stdout.endswith('{"at":"\\ud800","n":1.5}\n')


def test_missing_package_ends_the_run_and_makes_no_dead_letter(
    target: TargetUnderTest,
) -> None:
    package = target.folder / "publicsuffixlist.py"
    package.write_text("raise ModuleNotFoundError('gone', name='publicsuffixlist')")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(target.folder)}

    text = text_of([a_schema(), a_record(), a_state()])
    done = target.shell(text, env=env, is_fork=False)

    assert done.returncode == 1
    assert "package `publicsuffixlist` is not installed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
def test_wrong_proxy_of_the_environment_is_a_config_error(
    target: TargetUnderTest, name: str
) -> None:
    env = {"PATH": os.environ["PATH"], name: "http://me:canary@127.0.0.1:port"}

    done = target.shell(text_of([a_schema(), a_record()]), env=env)

    assert done.returncode == 1
    assert f"{name} is no URL of a proxy" in done.stderr.splitlines()[-1]
    assert "canary" not in done.stderr


@pytest.mark.parametrize(
    "name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
)
@pytest.mark.parametrize(
    ("text", "error"),
    [(None, "names no file"), ("", "without certificates"), ("x", "without cert")],
    ids=["missing", "empty", "text"],
)
def test_wrong_certificates_of_the_environment_are_a_config_error(
    sandbox: Sandbox, target: TargetUnderTest, name: str, text: str | None, error: str
) -> None:
    path = target.folder / "certificates.pem"
    if text is not None:
        path.write_text(text)
    env = {"PATH": os.environ["PATH"], name: str(path)}
    target.config["api_url"] = sandbox.url.replace("http:", "https:")

    done = target.shell(text_of([a_schema(), a_record()]), env=env)

    assert done.returncode == 1
    assert name in done.stderr.splitlines()[-1]
    assert error in done.stderr.splitlines()[-1]
    assert len(sandbox.requests) == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["target-stairoids", "--config", "config.json"], "Pipe the output of a tap"),
        (["stairoids-signals", "preview", "--config", "config.json"], "no messages"),
        (
            ["destination-stairoids", "write", "--config", "x", "--catalog", "x"],
            "Pipe the output of a source",
        ),
        (["stairoids-signals", "explain", "--config", "config.json"], "no messages"),
        (["stairoids-signals", "suggest"], "no messages"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_command_on_a_terminal_does_not_wait_for_messages(
    target: TargetUnderTest, words: list[str], error: str
) -> None:
    (target.folder / "config.json").write_text(json.dumps(target.config))
    here, there = pty.openpty()

    done = subprocess.run(
        [BIN / words[0], *words[1:]],
        stdin=there,
        capture_output=True,
        text=True,
        check=False,
        cwd=target.folder,
        timeout=60,
    )

    os.close(here)
    os.close(there)
    assert done.returncode == 2
    assert "Usage: " in done.stdout + done.stderr
    assert error in done.stderr.splitlines()[-1]


def test_misspelt_variable_sends_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    env = {"PATH": os.environ["PATH"], "TARGET_STAIROIDS_MAX_SIGNAL_PER_RUN": "1"}

    done = target.shell(text_of([a_schema(), a_record()]), env=env)

    assert done.returncode == 1
    assert "did you mean `TARGET_STAIROIDS_MAX_SIGNALS_PER_RUN`?" in done.stderr
    assert len(sandbox.signals) == 0


def test_null_and_text_in_a_config_are_understood(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    done = target.shell(
        text_of([a_schema(), a_record()]),
        stream_maps=None,
        flattening_enabled=None,
        flattening_max_depth="2",
        max_in_flight="2",
        dry_run="false",
        signals=json.dumps([{"stream": "*", "type": "from_text", "send": None}]),
    )

    assert done.returncode == 0, done.stderr
    assert [s.body["type"] for s in sandbox.signals] == ["from_text"]


def test_run_without_a_config_sends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    """Else a run in the wrong folder sends everything with an inferred mapping."""
    env = {"PATH": os.environ["PATH"], "STAIROIDS_API_KEY": "sk_test_sandbox"}
    (folder := tmp_path / "another").mkdir()

    done = subprocess.run(
        [BIN / "target-stairoids"],
        input=text_of([a_schema(), a_record()]),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=env | {"STAIROIDS_API_URL": sandbox.url},
    )

    assert done.returncode == 2
    assert "There is no config.json here" in done.stderr
    assert sandbox.signals == []
    assert list(folder.iterdir()) == []
