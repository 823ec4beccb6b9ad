"""A real Meltano runs `meltano.yml` with a sandbox.

The commands of the plugins are those of the page, which test_meltano_page.py runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from stairoids_sandbox import Sandbox
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.store.statistics import statistics_of
from tests.support.page_shell import without_meltano
from tests.support.paths import ROOT
from tests.support.webhook_builders import a_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SECRET = "whsec_meltano"  # noqa: S105 - it signs for this test only
SHIPPED = (
    "LICENSE",
    "README.md",
    "meltano.yml",
    "pyproject.toml",
    "sample_configs",
    *(path.name for path in ROOT.glob("*stairoids*/")),
)


class Project:
    """A copy of this project, and Meltano in it."""

    def __init__(self, meltano: Path, folder: Path, api_url: str) -> None:
        self._meltano = meltano
        self.folder = folder
        self._environment = without_meltano(os.environ) | {
            "TARGET_STAIROIDS_API_URL": api_url
        }

    def meltano(self, *arguments: str) -> str:
        """Run Meltano and return its output."""
        done = subprocess.run(
            [self._meltano, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            cwd=self.folder,
            env=self._environment,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def events(self) -> list[str]:
        """Return the digest of each event in the file of target-jsonl."""
        lines = (self.folder / "output/events.jsonl").read_text().splitlines()
        return [json.loads(line)["body_sha256"] for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def receiver(folder: Path) -> Iterator[Receiver]:
    store_url = f"sqlite:///{folder}/.stairoids/webhooks.db"
    with a_receiver(store_url, secrets=[SECRET]) as receiver:
        yield receiver


@pytest.fixture
def sandbox(receiver: Receiver) -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.automations.add(
            type="product_trial_started", url=receiver.url, secret=SECRET
        )
        yield sandbox


def test_second_round_trip_with_meltano_sends_nothing(
    meltano: Path, folder: Path, sandbox: Sandbox, receiver: Receiver
) -> None:
    project = Project(meltano, folder, sandbox.url)

    project.meltano("install")
    first = project.meltano("run", "round-trip")
    assert "20 signals = 19 accepted + 1 invalid" in first
    assert len(sandbox.signals) == 19
    wait_for_events(receiver, 19)
    requests = len(sandbox.requests)

    second = project.meltano("run", "round-trip")
    assert "Run completed" in second
    assert len(sandbox.requests) == requests
    assert len(project.events()) == len(set(project.events())) == 19

    config = "--environment=sandbox", "config", "print", "target-stairoids"
    printed = project.meltano(*config)
    assert '"api_key": "*****"' in printed
    assert "sk_test_sandbox" not in first + second + printed


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("extractor", "tap-stairoids-signals"),
        ("extractor", "tap-stairoids-webhooks"),
        ("loader", "target-stairoids"),
    ],
)
def test_meltano_adds_the_plugins_from_their_hub_definitions(
    meltano: Path, tmp_path: Path, kind: str, name: str
) -> None:
    (tmp_path / "meltano.yml").write_text(
        "send_anonymous_usage_stats: false\nrequires_meltano: '>=4,<5'\n"
    )
    definition = ROOT / f"hub/{kind}s/{name}.yml"
    project = Project(meltano, tmp_path, "http://127.0.0.1:1/v1")

    project.meltano("add", "--no-install", "--from-ref", str(definition), name)
    listed = project.meltano("config", "list", "--all", name)

    for setting in yaml.safe_load(definition.read_text())["settings"]:
        assert setting["name"] in listed


def wait_for_events(receiver: Receiver, expected: int) -> None:
    """Poll until the receiver has stored so many events."""
    deadline = time.monotonic() + 30
    while statistics_of(receiver.store).total < expected:
        assert time.monotonic() < deadline, "the webhooks did not arrive"
        time.sleep(0.05)  # between two polls
