"""The Dockerfile, .env.example and the workflows fit the project."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tap_stairoids_webhooks.cli.main import main
from tap_stairoids_webhooks.environment import PREFIX, ReceiverSettings
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from target_stairoids.sync_log.tap import TapStairoidsSignals
from target_stairoids.target import TargetStairoids
from tests.support.paths import ROOT
from tests.support.webhook_builders import a_receiver
from tests.tap.receiver.test_app import until

if TYPE_CHECKING:
    from singer_sdk.plugin_base import PluginBase

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
VARIABLES = re.findall(
    r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE
)
PLUGINS: dict[str, type[PluginBase]] = {
    "TARGET_STAIROIDS_": TargetStairoids,
    "TAP_STAIROIDS_WEBHOOKS_": TapStairoidsWebhooks,
    "TAP_STAIROIDS_SIGNALS_": TapStairoidsSignals,
}


def copied() -> list[str]:
    """Return the files and folders that the Dockerfile copies."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


def test_image_has_every_package() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert set(packages) < set(copied())


def test_dockerignore_lets_through_the_copied_files_only() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()

    assert {f"!{name}" for name in copied()} == {
        line for line in allowed if line.startswith("!")
    }


def test_image_does_not_run_as_root() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)

    assert int(user) > 0
    assert f"--uid {user}" in DOCKERFILE


@pytest.mark.slow
def test_steps_of_the_image_install_every_command(tmp_path: Path) -> None:
    """Run the Dockerfile's uv commands on the files it copies, without Docker."""
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    for name in copied():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    environment = {
        **os.environ,
        "UV_PROJECT_ENVIRONMENT": str(made),
        "UV_PYTHON": sys.executable,
    }
    environment.pop("VIRTUAL_ENV", None)
    uv = str(Path(sys.executable).with_name("uv"))

    steps = re.findall(r"^RUN uv (.*)$", DOCKERFILE, re.MULTILINE)
    for step in steps:
        command = [uv, *shlex.split(step), "--quiet"]
        subprocess.run(command, cwd=source, env=environment, check=True)
    shutil.rmtree(source)

    assert len(steps) == 2
    assert not (made / "bin/pytest").exists()
    for name in PROJECT["project"]["scripts"]:
        command = [str(made / "bin" / name), "--version"]
        printed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert PROJECT["project"]["version"] in printed.stdout.decode()


@pytest.mark.parametrize(
    "connector", ["destination-stairoids", "source-stairoids-webhooks"]
)
def test_connector_has_an_image_and_metadata_of_its_own(connector: str) -> None:
    (stage,) = re.findall(
        rf"^FROM commands AS {connector}\n(.*?)(?=^FROM |\Z)",
        DOCKERFILE,
        re.DOTALL | re.MULTILINE,
    )
    metadata = yaml.safe_load((ROOT / f"airbyte/{connector}/metadata.yaml").read_text())
    data, version = metadata["data"], PROJECT["project"]["version"]

    assert connector in PROJECT["project"]["scripts"]
    assert f'ENV AIRBYTE_ENTRYPOINT="{connector}"' in stage
    assert f'ENTRYPOINT ["{connector}"]' in stage
    assert f"io.airbyte.name={data['dockerRepository']}" in stage
    assert f"io.airbyte.version={version}" in stage
    assert data["dockerImageTag"] == version
    assert data["connectorType"] == connector.partition("-")[0]
    assert uuid.UUID(data["definitionId"]).version == 4
    assert data["remoteRegistries"]["pypi"]["packageName"] == PROJECT["project"]["name"]
    assert data["allowedHosts"]["hosts"]
    assert data["license"] == PROJECT["project"]["license"]
    icon = ROOT / f"airbyte/{connector}" / data["icon"]
    assert icon.read_text().startswith("<svg ")


def test_image_without_a_target_is_the_one_for_every_command() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]

    assert last.startswith("\nFROM commands\n")
    assert "ENTRYPOINT" not in last


def test_variables_of_env_example_are_read() -> None:
    source = (ROOT / "tap_stairoids_webhooks/environment.py").read_text("utf-8")
    known = {name for name in VARIABLES if f'"{name}"' in source}
    known |= {f"{PREFIX}{name.upper()}" for name in ReceiverSettings.__struct_fields__}
    for prefix, plugin in PLUGINS.items():
        known |= {
            f"{prefix}{s.upper()}" for s in plugin.config_jsonschema["properties"]
        }

    assert VARIABLES
    assert set(VARIABLES) - known == set()


def test_env_example_has_no_secrets() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()

    filled = [line for line in lines if not line.startswith("#") and "=" in line]
    assert filled
    assert all(line.endswith("=") for line in filled)


def test_workflow_tests_each_declared_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    declared = re.findall(
        r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"])
    )

    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == declared
    assert PROJECT["project"]["requires-python"] == f">={declared[0]}"


def test_only_the_publishing_job_gets_an_identity_token() -> None:
    """All other jobs may only read the code."""
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {}
        for name, job in workflow["jobs"].items():
            publishing = (path.stem, name) == ("release", "publish")
            expected = {"id-token": "write"} if publishing else {"contents": "read"}
            assert job["permissions"] == expected
            assert "secrets." not in str(job)


PROBE = re.compile(r"127\.0\.0\.1:\d+")
TOKEN = "a-token-of-the-tests"  # noqa: S105 -- opens nothing else


def answers(command: list[str], url: str) -> bool:
    """Run a probe's command against a receiver at another address."""
    address = url.removeprefix("http://").partition("/")[0]
    words = [sys.executable, *(PROBE.sub(address, word) for word in command[1:])]
    done = subprocess.run(
        words,
        env=os.environ | {"STAIROIDS_WEBHOOKS_ADMIN_TOKEN": TOKEN},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.slow
def test_probes_follow_the_receiver(tmp_path: Path) -> None:
    (check,) = re.findall(r"HEALTHCHECK .*?CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    manifests = list(
        yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text("utf-8"))
    )
    (deployment,) = [m for m in manifests if m["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    readiness = container["readinessProbe"]["exec"]["command"]
    (tmp_path / "folder").mkdir()
    with a_receiver(
        f"sqlite:///{tmp_path}/folder/webhooks.db",
        secrets=["secret"],
        min_free=0,
        admin_port=0,
        token=TOKEN,
    ) as receiver:
        assert answers(json.loads(check), receiver.url)
        assert answers(readiness, str(receiver.admin_url))
        shutil.rmtree(tmp_path / "folder")
        until(lambda: not answers(readiness, str(receiver.admin_url)), seconds=20)
        assert answers(json.loads(check), receiver.url)

    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": 8880}
    assert pod["terminationGracePeriodSeconds"] > 15


def test_unit_of_systemd_runs_the_receiver() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's names have upper case
    unit.read(ROOT / "deploy/stairoids-webhooks.service")
    service = unit["Service"]

    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "stairoids-webhooks"
    serve = main.commands["serve"]
    with (
        main.make_context(program, arguments[:1]) as parent,
        serve.make_context("serve", arguments[1:], parent=parent) as context,
    ):
        assert context.params["host"] == "127.0.0.1"
    assert int(service["TimeoutStopSec"]) > 15
    assert service["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
