"""The commands that a check prints can be copied into a shell, with any name."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stairoids_common.error_ids import with_id
from stairoids_sandbox import Fault
from tests.support.commands import Done, command, signals, target_main
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    BIN,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, Run, TargetUnderTest

NAMES = [
    'it\'s a "b" $HOME',
    "a`b",
    "-x",
    "a -- b",
    "x`stairoids-signals ledger forget --stream y --yes`z",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("my trials", "`", "--", "--config", "St. Louis. Trials")
    ),
]
ALLOW = "stairoids-signals ledger allow"


def commands_in(text: str) -> list[str]:
    """Return the commands in a text, as Markdown marks them."""
    codes = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", text, re.DOTALL)
    return [code for _, code in codes if code.startswith("stairoids-signals ")]


def paste(line: str) -> Done:
    """Run a copied command as a shell splits it."""
    program, *words = shlex.split(line)
    assert program == "stairoids-signals"
    return command(*words)


@pytest.fixture(autouse=True)
def folder(target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the folder of the config."""
    monkeypatch.chdir(target.folder)
    return target.folder


def write_config(target: TargetUnderTest) -> None:
    (target.folder / "config.json").write_text(json.dumps(target.config))


def messages_of(stream: str, count: int = 1) -> list[Message]:
    rows = [a_record(n, stream) for n in range(count)]
    return [a_schema(stream), *rows, a_state()]


@on_both_connectors
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [0, -1], ids=["rename", "allow"])
def test_command_decides_for_a_stream_and_a_source_of_any_name(
    target: TargetUnderTest, name: str, way: int
) -> None:
    target.run(*messages_of(name), source=name)
    write_config(target)

    stopped = target.run(*messages_of(name), source=f"{name}2")
    done = paste(commands_in(stopped.error)[way])
    passed = target.run(*messages_of(name), source=f"{name}2")

    assert (stopped.exit_code, stopped.states) == (1, [])
    assert done.returncode == 0, done.stderr
    assert (passed.exit_code, passed.states) == (0, [{"at": 1}])


@pytest.mark.parametrize("name", NAMES)
def test_command_renames_a_stream_and_a_mapping_of_any_name(
    target: TargetUnderTest, name: str
) -> None:
    def run(stream: str, mapping: str) -> Run:
        items = [{"stream": "*", "name": mapping, "type": "joined"}]
        return target.run(*messages_of(stream, 3), signals=items)

    run("old", "m")
    write_config(target)
    for stream, mapping in [(name, "m"), (name, f"{name}2")]:
        stopped = run(stream, mapping)
        assert stopped.exit_code == 1
        done = paste(commands_in(stopped.error)[0])
        assert done.returncode == 0, done.stderr
        assert run(stream, mapping).outcomes == {"duplicate": 3}


@pytest.mark.parametrize("name", NAMES)
def test_report_repeats_the_reason_and_the_commands_of_a_stream_of_any_name(
    target: TargetUnderTest, name: str
) -> None:
    target.run(*messages_of(name), source=name)
    stopped = target.run(*messages_of(name), source=f"{name}2")

    done = signals(target, "report", "--format", "json")
    (status,) = [
        s for s in json.loads(done.stdout)["status"] if s["source"] == f"{name}2"
    ]

    commands = [step["command"] for step in status["next"]]
    assert commands == commands_in(stopped.error)
    assert commands_in(status["text"]) == commands
    assert "its signals had the source" in status["text"]


@pytest.mark.parametrize("name", NAMES)
def test_error_about_a_stream_of_any_name_has_its_id(
    target: TargetUnderTest, name: str
) -> None:
    target.run(*messages_of(name), source="eu")

    stopped = target.run(*messages_of(name), source="us")

    assert with_id(stopped.error).endswith("[E082]")


@pytest.mark.parametrize("name", ["my source", "-x", "--key", "a`b"])
def test_command_allows_a_source_of_any_name(
    target: TargetUnderTest, name: str
) -> None:
    target.run(*messages_of("trials"), source=name)
    target.run(*messages_of("deals"), source=name, namespace="other")
    for path in target.folder.glob("ledger.db*"):
        path.unlink()
    target.config |= {"source": name, "first_run": "guard"}
    write_config(target)

    stopped = target.run(*messages_of("trials"))
    done = paste(commands_in(stopped.error)[-1])

    assert stopped.outcomes == {"pending": 1}
    assert done.returncode == 0, done.stderr
    assert target.run(*messages_of("trials")).outcomes == {"accepted": 1}


@pytest.mark.parametrize("name", NAMES)
def test_replay_names_commands_for_mappings_of_any_name(
    sandbox: Sandbox, target: TargetUnderTest, name: str
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    item = {"stream": "*", "name": name, "type": "joined"}
    target.run(*messages_of(name), signals=[item])
    target.config["signals"] = [{**item, "name": "n", "stream": "new"}]

    stopped = signals(target, "dead-letters", "replay")
    stream, _ = commands_in(stopped.stderr)
    done = paste(stream.replace("NEW", "new"))
    still = signals(target, "dead-letters", "replay")
    _, mapping = commands_in(still.stderr)
    also_done = paste(mapping.replace("NEW", "n"))
    sent = signals(target, "dead-letters", "replay")

    assert (stopped.returncode, still.returncode) == (1, 1)
    assert done.returncode == also_done.returncode == 0, done.stderr + also_done.stderr
    assert (sent.returncode, "1 accepted" in sent.stderr) == (0, True), sent.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-`x` it's $HOME"])
def test_shell_runs_the_command(target: TargetUnderTest, name: str) -> None:
    target.run(*messages_of(name), source="eu")
    write_config(target)
    stopped = target.run(*messages_of(name), source="us")

    path = f"{BIN}:{os.environ['PATH']}"
    line = commands_in(stopped.error)[-1]
    subprocess.run(["bash", "-c", line], check=True, env={**os.environ, "PATH": path})

    assert target.run(*messages_of(name), source="us").exit_code == 0


# Configs


def programs_that_print(config: str) -> dict[str, list[str]]:
    """Return each command that prints a command of a check."""
    return {
        "run": ["target-stairoids", *config.split(), "--input", "messages.jsonl"],
        "preview": [
            "stairoids-signals", "preview", "messages.jsonl", *config.split()
        ],
        "preview as JSON": [
            "stairoids-signals", "preview", "messages.jsonl", "--format", "json",
            *config.split(),
        ],
        "check": [
            "stairoids-signals", "check", "--catalog", "messages.jsonl",
            *config.split(),
        ],
        "report": ["stairoids-signals", "report", *config.split()],
        "allow": ["stairoids-signals", "ledger", "allow", "trials", *config.split()],
    }  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        "--config conf/prod.json",
        "--config=conf/prod.json",
        "--config conf/base.json --config conf/us.json",
        "",
    ],
)
def test_each_program_prints_the_command_of_a_check_with_its_config(
    target: TargetUnderTest, folder: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    target.run(*messages_of("trials"), source="eu")
    (folder / "conf").mkdir()
    prod = json.dumps({**target.config, "source": "us"})
    (folder / "conf/prod.json").write_text(prod)
    (folder / "conf/base.json").write_text(json.dumps(target.config))
    (folder / "conf/us.json").write_text(json.dumps({"source": "us"}))
    (folder / "messages.jsonl").write_text(text_of(messages_of("trials")))
    if not config:
        monkeypatch.setenv("STAIROIDS_CONFIG", "conf/prod.json")
    wanted = " ".join(config.replace("=", " ").split()) or "--config conf/prod.json"

    for program, words in programs_that_print(config).items():
        monkeypatch.setattr(sys, "argv", words)
        run = target_main if words[0] == "target-stairoids" else command
        done = run(*words[1:])
        commands = commands_in(done.stdout + done.stderr)
        assert commands, (program, done)
        assert [c for c in commands if not c.endswith(wanted)] == [], program
        assert f"{ALLOW} trials {wanted}" in commands


def test_report_prints_the_commands_of_earlier_runs_with_a_config(
    target: TargetUnderTest,
) -> None:
    target.run(*messages_of("trials"), source="eu")
    target.run(*messages_of("trials"), source="us")
    target.run(*messages_of("trials"), source="eu")

    table = signals(target, "report").stdout
    page = signals(target, "report", "--format", "html").stdout

    line = f"{ALLOW} trials --config config.json"
    assert line in commands_in(table)
    assert table.count(line) == 2  # in the reason, and to copy
    assert f"<code>{line}</code>" in page


def test_online_comparison_prints_the_command_with_its_config(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "source": "web"}]
    target.run(*messages_of("trials"))
    for path in target.folder.glob("ledger.db*"):
        path.unlink()
    text = text_of(messages_of("trials"))

    for words in (["preview", "--online"], ["check", "--online"]):
        done = signals(target, *words, text=text, first_run="guard")
        assert f"{ALLOW} --source web --config config.json" in commands_in(done.stdout)


def test_meltano_gets_a_name_that_begins_with_a_dash(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", "/project")
    target.run(*messages_of("-x"), source="eu")

    stopped = target.run(*messages_of("-x"), source="us")

    line = "meltano invoke target-stairoids:ledger-allow -- -x"
    assert f"`{line}`" in stopped.error
