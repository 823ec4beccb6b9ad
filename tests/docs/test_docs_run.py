"""The commands of each page run, in their order.

Commands that install, serve or need another database are left out. The pages in
`RUN_ELSEWHERE` have their own tests.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stairoids_sandbox import Sandbox
from tap_stairoids_webhooks.store.consumers import acknowledge
from tests.support.documents import RUN_ELSEWHERE, blocks, expected_code, page_names
from tests.support.documents import page as page_text
from tests.support.page_shell import PageShell, a_free_port, is_served
from tests.support.paths import ROOT
from tests.support.singer_io import a_record, a_schema, text_of, wait_until
from tests.support.webhook_builders import a_receiver

SECRET = "whsec_of_the_documents"  # noqa: S105 - signs in these tests only
#: Commands that are not run here.
LEFT_OUT = re.compile(
    r"^(\(umask \d+ && )?(pip|export|make|docker|uv|sqlite3|airbyte-venv/)"
    r"|postgresql://| serve\b"
)
MAPPING_TESTS = """
tests:
- name: a person becomes a signal
  stream: trials
  record: {id: 1, email: ada@acme.example, plan: pro}
  signals:
  - {type: trials, source: singer, contact: {email: ada@acme.example},
     properties: {id: 1, plan: pro}}
"""

pytestmark = pytest.mark.slow


def lines_of(page: str) -> list[str]:
    lines = "".join(blocks(page_text(page), "sh")).splitlines()
    return [line for line in lines if line and not LEFT_OUT.search(line)]


PAGES = [name for name in page_names() if name not in RUN_ELSEWHERE and lines_of(name)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page: str, tmp_path: Path, programs: str) -> None:
    store_url = f"sqlite:///{tmp_path}/.stairoids/webhooks.db"
    (tmp_path / ".stairoids").mkdir()
    with (
        Sandbox() as sandbox,
        a_receiver(store_url, secrets=[SECRET]) as receiver,
    ):
        set_up(tmp_path, sandbox.url, programs)
        acknowledge(receiver.store, "warehouse", {"*": 0})
        env = {
            **os.environ,
            "PATH": f"{tmp_path}:{programs}",
            "STAIROIDS_WEBHOOK_SECRET": SECRET,
            "STAIROIDS_API_KEY": "sk_test_sandbox",
            "STAIROIDS_API_URL": sandbox.url,
        }
        lines = lines_of(page)
        assert lines
        for line in lines:
            here = line.replace(
                "http://127.0.0.1:8880/webhooks/stairoids", receiver.url
            ).replace("http://127.0.0.1:8900/v1", sandbox.url)
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", here],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
                cwd=tmp_path,
                env=env,
                timeout=120,
            )
            expected = expected_code(line, done.stderr)
            assert done.returncode == expected, f"{line}\n{done.stderr[-2000:]}"


def test_first_steps_of_the_receiver_page_read_events(
    tmp_path: Path, programs: str
) -> None:
    """One shell runs all commands. The receiver runs in the background."""
    first_steps = page_text("start/first-webhook.md")
    ports = {name: str(a_free_port()) for name in ("8880", "8881", "8900")}
    with Sandbox() as sandbox:
        env = {
            **os.environ,
            "PATH": programs,
            "STAIROIDS_API_URL": sandbox.url,
            "STAIROIDS_WEBHOOKS_PORT": ports["8880"],
        }
        with PageShell(tmp_path, env) as shell:
            for line in "".join(blocks(first_steps, "sh")).splitlines():
                if line.startswith("pip install"):
                    continue
                here = line.replace("sk_live_…", "sk_test_sandbox")
                for documented, port in ports.items():
                    here = here.replace(documented, port)
                if " serve " not in line:
                    shell.run(here)
                    continue
                served = ports["8900" if "sandbox" in line else "8880"]
                shell.run(here.removesuffix(" &") + " &")
                wait_until(functools.partial(is_served, served))

    first, second = (
        [json.loads(m)["stream"] for m in text.splitlines() if '"RECORD"' in m]
        for text in (
            (tmp_path / name).read_text()
            for name in ("events.jsonl", "new_events.jsonl")
        )
    )
    assert len(first) == 12
    assert first.count("events") == 6
    assert second == []


def set_up(folder: Path, api_url: str, programs: str) -> None:
    """Do a first run. One record is sent and one becomes a dead letter."""
    config = {"api_url": api_url, "api_key": "sk_test_sandbox", "first_run": "send"}
    (folder / "config.json").write_text(json.dumps(config))
    messages = text_of(
        [
            a_schema(plan="string"),
            a_record(1, plan="pro"),
            a_record(2, plan="pro", email="not an address"),
        ]
    )
    (folder / "messages.jsonl").write_text(messages)
    (folder / "printed").write_text(messages)  # commands overwrite messages.jsonl
    for tap in ("tap-x", "tap-postgres"):
        discovers = """case "$*" in *--discover*) echo '{"streams": []}'; exit; esac"""
        (folder / tap).write_text(f"#!/bin/sh\n{discovers}\ncat '{folder}/printed'\n")
        (folder / tap).chmod(0o755)
    (folder / "mapping_tests.yml").write_text(MAPPING_TESTS)
    (folder / "deliveries.jsonl").write_text("")
    shutil.copy(
        ROOT / "sample_configs/tap-stairoids-webhooks.json", folder / "tap.json"
    )
    subprocess.run(
        ["target-stairoids", "--config", "config.json", "--input", "messages.jsonl"],
        check=True,
        env={**os.environ, "PATH": programs},
        cwd=folder,
        capture_output=True,
    )
