"""The commands of docs/start/meltano.md run in one shell, in their order.

The ports are free ones, so that tests can run in parallel. The package comes from a
wheel of this folder and not from the package index.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from stairoids_sandbox import Sandbox
from tests.support.page_shell import PageShell, a_free_port, is_served, without_meltano
from tests.support.paths import ROOT
from tests.support.singer_io import TargetUnderTest, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

UV = Path(sys.executable).with_name("uv")
PAGE = (ROOT / "docs/start/meltano.md").read_text(encoding="utf-8")
#: Any fenced block: its language and its text.
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NEW_ROW = {"trial_id": "t4", "user_email": "dee@delta.example.com", "plan": "pro"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel of the package."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [str(UV), "build", "--quiet", "--wheel", "--out-dir", str(folder)]
    subprocess.run(
        [*build, "--python", sys.executable, str(ROOT)], check=True, timeout=300
    )
    return folder


@pytest.fixture
def ports() -> dict[str, str]:
    """Return the ports of the page -> the ports of this test."""
    return {"8900": str(a_free_port()), "8880": str(a_free_port())}


@pytest.fixture
def shell(
    tmp_path: Path, wheels: Path, ports: dict[str, str], meltano: Path
) -> Iterator[PageShell]:
    """Return a shell in an empty folder, with Meltano on its path."""
    venv, here = tmp_path / "venv", tmp_path / "here"
    here.mkdir()
    make = [str(UV), "venv", "--quiet", "--seed", "--python", sys.executable]
    subprocess.run([*make, str(venv)], check=True, timeout=120)
    (venv / "bin/meltano").symlink_to(meltano)
    env = without_meltano(os.environ) | {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "PIP_COMPILE": "0",  # most modules are never imported here
        "PIP_FIND_LINKS": f"{os.environ.get('PIP_FIND_LINKS', '')} {wheels}".strip(),
        "STAIROIDS_WEBHOOKS_PORT": ports["8880"],
        "UV_FIND_LINKS": str(wheels),
    }
    with PageShell(here, env) as typed:
        yield typed


def with_ports(text: str, ports: dict[str, str]) -> str:
    for documented, port in ports.items():
        text = text.replace(documented, port)
    return text


def test_every_command_of_the_meltano_page_runs_as_printed(
    tmp_path: Path, shell: PageShell, ports: dict[str, str]
) -> None:
    project = tmp_path / "here/signals"
    printed: dict[str, list[str]] = {}

    for language, text in BLOCK.findall(with_ports(PAGE, ports)):
        if language == "json":
            (project / "trials.jsonl").write_text(text)
        elif language == "yaml":
            with (project / "meltano.yml").open("a") as file:
                file.write(text)
        elif language == "sh":
            for line in text.splitlines():
                printed.setdefault(line, []).append(shell.run(line))
                prepare_what_follows(line, project, ports)

    first, second, third = printed["meltano run tap-jsonl target-stairoids"]
    assert "3 signals = 2 accepted + 1 invalid" in first
    assert "3 signals = 2 duplicate + 1 invalid" in second
    assert "4 signals = 1 accepted + 2 duplicate + 1 invalid" in third
    check, preview = (
        printed[f"meltano invoke target-stairoids:{words} messages.jsonl"][0]
        for words in ("check --catalog", "preview")
    )
    assert "can be written" in check
    assert "2 signals would be sent" in preview
    (dead_letters,) = printed["meltano invoke target-stairoids:dead-letters --with-key"]
    assert "trial_id=t3" in dead_letters
    assert "neither account.domain nor contact.email" in dead_letters
    (stats,) = printed["meltano invoke tap-stairoids-webhooks:stats"]
    assert re.search(r"automation\.action_triggered +1\n", stats)
    events = (project / "output/events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in events] == [
        "automation.action_triggered"
    ]


def test_csv_example_of_the_page_sends_signals(tmp_path: Path) -> None:
    (text,) = (text for language, text in BLOCK.findall(PAGE) if language == "yml")
    (plugin,) = yaml.safe_load(text)
    (tmp_path / "tap.json").write_text(json.dumps(plugin["config"]))
    (tmp_path / "trials.csv").write_text(
        "trial_id,user_email,seats\nt1,ada@acme.example,3\nt2,,1\n"
    )
    tap = [str(UV), "tool", "run", "--python", sys.executable]
    tap += ["--from", plugin["pip_url"], plugin["executable"]]
    printed = subprocess.run(
        [*tap, "--config", "tap.json"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    with Sandbox() as sandbox:
        item = {"stream": "trials", "properties": {"seats": "{{ seats | int }}"}}
        target = TargetUnderTest(tmp_path, sandbox.url, signals=[item])

        run = target.run_text(printed.stdout)

        assert run.outcomes == {"accepted": 1, "invalid": 1}
        assert sandbox.signals[0].body["properties"] == {"seats": 3}


def prepare_what_follows(line: str, project: Path, ports: dict[str, str]) -> None:
    """Do the steps between two commands of the page, and wait for servers."""
    if line.startswith("meltano config set"):
        wait_until(lambda: is_served(ports["8900"]))
    if "--automation" in line:
        wait_until(lambda: all(map(is_served, ports.values())))
        with (project / "trials.jsonl").open("a") as rows:
            rows.write(json.dumps(NEW_ROW) + "\n")
    store = project / ".stairoids/webhooks.db"
    if line == "meltano run tap-jsonl target-stairoids" and store.exists():
        wait_until(lambda: b"automation.action_triggered" in stored(store))


def stored(store: Path) -> bytes:
    """Return the bytes of the store's files, with the write-ahead log."""
    return b"".join(file.read_bytes() for file in store.parent.glob(f"{store.name}*"))
