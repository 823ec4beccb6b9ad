"""The examples for schedulers: a script, a cron line, a pod."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stairoids_sandbox import Sandbox
from tests.support.documents import blocks, page
from tests.support.singer_io import a_record, a_schema, a_state, text_of, wait_until

BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


CRON = page("deploy/cron-and-systemd.md")


def a_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("left", [0, 1])
def test_script_for_a_scheduler_keeps_state_and_exit_code(
    left: int, tmp_path: Path
) -> None:
    """The tap of this test prints a file."""
    (script,) = blocks(CRON, "bash")
    (tmp_path / "signals.sh").write_text(script)
    a_program(tmp_path / "tap-x", '#!/bin/sh\ncat "$(dirname "$0")/printed"\n')
    printed = [a_schema(), a_record(1), a_state(1), a_record(2), a_state(2)]
    (tmp_path / "printed").write_text(text_of(printed))
    with Sandbox() as sandbox:
        config = {
            "api_url": sandbox.url,
            "api_key": "sk_test_sandbox",
            "max_signals_per_run": 2 - left,
        }
        (tmp_path / "config.json").write_text(json.dumps(config))

        done = subprocess.run(
            ["bash", "signals.sh"],
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tmp_path}:{BIN}:{os.environ['PATH']}"},
            timeout=60,
        )

    assert done.returncode == (75 if left else 0)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state == {"at": 1 if left else 2}


@pytest.mark.skipif(not shutil.which("flock"), reason="no flock on this machine")
@pytest.mark.parametrize(
    ("code", "mail"),
    [(0, ""), (75, ""), (143, ""), (1, "the error\n"), (137, "the error\n")],
)
def test_cron_mails_only_errors_that_need_a_person(
    code: int, mail: str, tmp_path: Path
) -> None:
    (line,) = re.findall(r"^7 \* \* \* \* (.*)$", CRON, re.MULTILINE)
    script = f"#!/bin/sh\necho the error\nexit {code}\n"
    a_program(tmp_path / "signals.sh", script)

    done = subprocess.run(
        ["sh", "-c", line.replace("/opt/pipelines", str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout == mail
    assert done.returncode == (code if mail else 0)


@pytest.mark.skipif(not shutil.which("flock"), reason="no flock on this machine")
def test_cron_keeps_the_log_of_the_run_that_is_active(tmp_path: Path) -> None:
    (line,) = re.findall(r"^7 \* \* \* \* (.*)$", CRON, re.MULTILINE)
    a_program(tmp_path / "signals.sh", "#!/bin/sh\necho another run\n")
    (tmp_path / "run.log").write_text("the active run\n")
    inner = line.replace("/opt/pipelines", str(tmp_path))

    subprocess.run(
        ["flock", tmp_path / "signals.lock", "sh", "-c", inner], check=True, timeout=60
    )

    assert (tmp_path / "run.log").read_text() == "the active run\n"


def test_pod_waits_after_sigterm_until_the_target_has_finished(tmp_path: Path) -> None:
    (job,) = (
        b
        for block in blocks(page("deploy/kubernetes.md"), "yaml")
        if isinstance(b := yaml.safe_load(block), dict) and b.get("kind") == "CronJob"
    )
    pod: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    *shell, command = pod["containers"][0]["command"]
    (script,) = blocks(CRON, "bash")
    a_program(tmp_path / "signals.sh", script)
    a_program(tmp_path / "tap-x", "#!/bin/sh\nexec sleep 60\n")
    a_program(
        tmp_path / "target-stairoids",
        "#!/bin/bash\n"
        "trap 'sleep 0.5; echo 17; exit 143' TERM\n"
        f"touch {tmp_path}/started\n"
        "while true; do sleep 0.05; done\n",
    )
    process = subprocess.Popen(
        [*shell, command.replace("/pipeline", str(tmp_path))],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        wait_until((tmp_path / "started").exists)
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=30) == 143
        assert (tmp_path / "state.json").read_text() == "17\n"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
