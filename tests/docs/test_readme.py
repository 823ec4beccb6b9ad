"""The commands of the README run: the servers first, then the others.

The ports are free ones, so that tests can run in parallel.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.documents import blocks, expected_code, page
from tests.support.page_shell import a_free_port
from tests.support.paths import ROOT
from tests.support.singer_io import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
#: Programs of others. They run in environments of their own.
OTHERS = {"tap-jsonl": "tap-jsonl==0.3.1", "target-jsonl": "target-jsonl==0.1.4"}
#: Settings that lead to the sandbox.
SANDBOX = ("api_url", "api_key")
#: Commands that install, or that need the published package.
SET_UP = ("make ", "pip install ", "pipx ", "export ")

pytestmark = pytest.mark.slow


def commands() -> list[str]:
    lines = "".join(blocks(page("README.md"), "sh")).splitlines()
    return [line for line in lines if not line.startswith(SET_UP)]


def prompts() -> list[tuple[str, str]]:
    """Return the commands that are shown with their output."""
    (shown,) = blocks(page("README.md"), "console")
    return re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", shown, re.MULTILINE)


@contextmanager
def served(line: str, folder: Path, env: dict[str, str]) -> Iterator[None]:
    """Run a server, which prints a line when it is ready."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=env,
    ) as process:
        try:
            assert process.stdout
            assert json.loads(process.stdout.readline())["event"] == "ready"
            yield
        finally:
            process.terminate()
        assert process.wait(timeout=60) == 0


def test_every_command_of_the_readme_runs(tmp_path: Path, programs: str) -> None:
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, package in OTHERS.items():
        shim = shims / name
        shim.write_text(
            f'#!/bin/sh\nexec "{BIN}/uv" tool run --from {package} {name} "$@"\n'
        )
        shim.chmod(0o755)
    shutil.copytree(ROOT / "sample_configs", tmp_path / "sample_configs")
    ports = {"8900": str(a_free_port()), "8880": str(a_free_port())}
    sample = tmp_path / "sample_configs" / "target-stairoids.json"
    sample.write_text(sample.read_text().replace("8900", ports["8900"]))
    (shown,) = map(json.loads, blocks(page("README.md"), "json"))
    reached = {name: json.loads(sample.read_text())[name] for name in SANDBOX}
    # The shown config sends the same rows as the sample, so it is another pipeline.
    shown["ledger_url"] = f"sqlite:///{tmp_path}/shown.db"
    text = json.dumps(shown | reached).replace('"billing"', '"shown"')
    (tmp_path / "config.json").write_text(text)
    env = {
        **os.environ,
        "PATH": f"{shims}:{programs}",
        "STAIROIDS_WEBHOOK_SECRET": "whsec_of_the_readme",
    }
    lines = commands()
    lines.remove("stairoids-sandbox serve --port 8900 &")
    of_sandbox, *_ = blocks(page("start/sandbox.md"), "sh")
    lines.append(of_sandbox.splitlines()[-1])
    servers = [line for line in lines if " serve " in line]
    others = [line for line in lines if " serve " not in line]
    assert len(servers) == 2
    assert others

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=env,
        )

    with ExitStack() as running:
        for line in servers:
            for documented, port in ports.items():
                line = line.replace(documented, port)  # noqa: PLW2901 - only the port
            running.enter_context(served(line, tmp_path, env))
        for line, printed in prompts():
            done = run(line.replace("tap.json", "sample_configs/tap-jsonl.json"))
            for sentence in printed.splitlines():
                assert sentence.split(", ")[0] in done.stderr
        # The pipeline that fires the webhooks first, the one that reads them last.
        others.sort(key=lambda line: ("webhooks " in line, "tap-" not in line))
        for line in others:
            if line.startswith("tap-stairoids-webhooks"):
                wait_until(lambda: "38" in _stored(tmp_path, env))
            done = run(line)
            expected = expected_code(line, done.stderr)
            assert done.returncode == expected, f"{line}\n{done.stderr[-2000:]}"

    written = next(tmp_path.glob("automation_action_triggered*.jsonl"))
    assert len(written.read_text().splitlines()) == 38


def _stored(folder: Path, env: dict[str, str]) -> str:
    store = f"sqlite:///{folder}/.stairoids/webhooks.db"
    command = ["stairoids-webhooks", "stats", "--store-url", store]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout
