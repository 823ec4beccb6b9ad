"""A real PyAirbyte runs both connectors.

PyAirbyte reports a success also if no record arrived, so the tests count the signals
in the sandbox. Its environments are installed once a session from the package index.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from stairoids_sandbox import Fault, Sandbox
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.documents import blocks, page
from tests.support.forks import Forked, forking, programs
from tests.support.running_tap import fill
from tests.support.singer_io import BIN, wait_until
from tests.support.webhook_builders import a_body, a_delivery, an_action_body

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

PAGE = page("start/airbyte.md")
PYAIRBYTE = "airbyte-venv/bin/python"
FAKER = "faker-venv/bin/source-faker"
PYTHON_OF_FAKER = "faker-venv/bin/python"

SEND = """
import json, sys, airbyte as ab
config, faker, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
users = ab.get_source(
    "source-faker", streams=["users"], local_executable=faker,
    config={"count": count, "seed": 1, "parallelism": 1, "records_per_slice": 10},
)
stairoids = ab.get_destination(
    "destination-stairoids", config=config, local_executable=sys.argv[4],
)
stairoids.check()
stairoids.write(users, cache=False, state_cache=False)
"""
READ = """
import sys, airbyte as ab
webhooks = ab.get_source(
    "source-stairoids-webhooks", config={"store_url": sys.argv[1]},
    local_executable=sys.argv[2], streams="*",
)
webhooks.check()
result = webhooks.read(cache=ab.DuckDBCache(db_path=sys.argv[3]))
print("new:", result.processed_records, "events:", len(list(result["events"])))
"""
#: Runs a program as Python does, in a fork of a process that has imported PyAirbyte.
RUN = """
import os, sys, traceback
del sys.argv[0]
text = sys.argv.pop(1) if sys.argv[0] == "-c" else open(sys.argv[0]).read()
code = 0
try:
    exec(text, {"__name__": "__main__"})
except BaseException:
    code = 1
    traceback.print_exc()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # without the end of C++ threads, which a fork does not have
"""
FAKE = "import sys; from source_faker.run import run; sys.exit(run())"


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return kept | {
        "AIRBYTE_OFFLINE_MODE": "1",
        "PATH": f"{programs()}:{BIN}:{os.environ['PATH']}",
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }


def commands() -> list[str]:
    """Return the page's shell commands without those of the platform."""
    lines = "".join(blocks(PAGE, "sh")).splitlines()
    return [line for line in lines if not line.startswith(("docker", "stairoids-"))]


def scripts() -> dict[str, str]:
    """Return the page's Python programs by their file names."""
    return dict(
        re.findall(
            r"^`(\w+\.py)` .*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
        )
    )


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install PyAirbyte and Faker with the commands of the page."""
    folder = tmp_path_factory.mktemp("pyairbyte")
    for line in commands():
        if line.startswith("uv "):
            subprocess.run(
                ["bash", "-c", line], check=True, cwd=folder, env=environment()
            )
    return folder


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="session")
def venvs(environments: Path) -> Iterator[Path]:
    """Return a folder with the programs of both environments, as forks."""
    folder = environments / "forks"
    with (
        forking(environments / PYAIRBYTE, "import airbyte", environment()) as airbyte,
        forking(environments / PYTHON_OF_FAKER, "import source_faker.run") as faker,
    ):
        for forks, name, statement in (
            (airbyte, PYAIRBYTE, RUN),
            (faker, FAKER, FAKE),
        ):
            (folder / name).parent.mkdir(parents=True)
            forks.shim(folder / name, statement)
        yield folder


class Running(NamedTuple):
    """A program that uses PyAirbyte, in a process of its own."""

    process: Forked[bytes]
    output: Path
    errors: Path

    def wait(self) -> Ended:
        code = self.process.wait()
        return Ended(code, self.output.read_text(), self.errors.read_text())


class Ended(NamedTuple):
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str


class PyAirbyte:
    """Runs programs that use PyAirbyte, one at a time, in a folder of their own."""

    def __init__(self, venvs: Path, folder: Path) -> None:
        self._venvs = venvs
        self._folder = folder

    def start(self, program: str, *arguments: str) -> Running:
        output, errors = (self._folder / name for name in ("stdout", "stderr"))
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            process: Forked[bytes] = Forked(
                [self._venvs / PYAIRBYTE, "-c", program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self._folder,
                env=environment(),
            )
        return Running(process, output, errors)

    def start_sending(
        self,
        config: dict[str, Any],
        count: int,
        program: str = SEND,
        *,
        command: Path | None = None,
    ) -> Running:
        """Start to send users with a destination, which is a fork by default."""
        faker = str(self._venvs / FAKER)
        destination = str(command or programs() / "destination-stairoids")
        return self.start(program, json.dumps(config), faker, str(count), destination)

    def send(self, config: dict[str, Any], count: int, program: str = SEND) -> Ended:
        return self.start_sending(config, count, program).wait()


@pytest.fixture
def pyairbyte(venvs: Path, tmp_path: Path) -> PyAirbyte:
    return PyAirbyte(venvs, tmp_path)


def config_for(sandbox: Sandbox, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "api_key": "sk_test_sandbox",
        "api_url": sandbox.url,
        "ledger_url": f"sqlite:///{folder}/ledger.db",
        "first_run": "send",
        "requests_per_minute": 100_000,
        "verify_delay_seconds": 0,
        **more,
    }


def users_in(sandbox: Sandbox) -> Counter[int]:
    return Counter(signal.body["properties"]["id"] for signal in sandbox.signals)


def test_unchanged_users_are_sent_once_with_and_without_a_cache(
    pyairbyte: PyAirbyte, sandbox: Sandbox, tmp_path: Path
) -> None:
    caches = [
        "False",
        "False",
        "ab.DuckDBCache(db_path='1.duckdb')",
        "ab.DuckDBCache(db_path='2.duckdb')",
    ]
    config = config_for(sandbox, tmp_path, report_path=str(tmp_path / "report.json"))
    head, write = SEND.rsplit("stairoids.write", 1)
    writes = [f"stairoids.write{write.replace('False', cache, 1)}" for cache in caches]

    done = pyairbyte.send(config, 12, head + "".join(writes))

    assert done.returncode == 0, done.stderr[-3000:]
    assert users_in(sandbox) == Counter(range(1, 13))
    assert not any(
        name.startswith("_airbyte_")
        for signal in sandbox.signals
        for name in signal.body["properties"]
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outcomes"]["unchanged"] + report["outcomes"]["duplicate"] == 12


def test_failed_check_is_an_error_of_pyairbyte_with_our_reason(
    pyairbyte: PyAirbyte, sandbox: Sandbox, tmp_path: Path
) -> None:
    config = config_for(sandbox, tmp_path, api_key="sk_canary")

    failed = pyairbyte.send(config, 5)

    assert failed.returncode != 0
    assert "AirbyteConnectorCheckFailedError" in failed.stderr
    assert "Check `api_key`" in failed.stderr
    assert len(sandbox.signals) == 0


def test_key_without_write_scope_fails_the_sync(
    pyairbyte: PyAirbyte, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.faults.add(Fault(kind="status", status=403))
    config = config_for(sandbox, tmp_path)

    failed = pyairbyte.send(config, 5)
    sandbox.faults.set([])
    fixed = pyairbyte.send(config, 5)

    assert failed.returncode != 0
    assert fixed.returncode == 0, fixed.stderr[-3000:]
    assert users_in(sandbox) == Counter(range(1, 6))


def test_killed_sync_and_the_next_send_each_signal_once(
    pyairbyte: PyAirbyte, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The last sync has a new user, because lookups need a later signal."""
    sandbox.faults.add(Fault(kind="slow", delay_ms=30))
    config = config_for(sandbox, tmp_path, request_timeout_seconds=2)
    command = BIN / "destination-stairoids"
    running = pyairbyte.start_sending(config, 40, command=command)
    wait_until(lambda: len(sandbox.signals) >= 10, seconds=120)
    kill_destination(running.process.program)
    assert running.wait().returncode != 0

    last = pyairbyte.send(config, 41)

    assert last.returncode == 0, last.stderr[-3000:]
    assert users_in(sandbox) == Counter(range(1, 42))


def kill_destination(parent: int) -> None:
    """Send SIGKILL to the destination that PyAirbyte runs."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            stat = (process / "stat").read_text()
        except OSError:
            continue  # it has ended meanwhile
        is_child = int(stat.rpartition(")")[2].split()[1]) == parent
        if is_child and b"write" in words:
            os.kill(int(process.name), 9)


def test_webhooks_arrive_in_a_cache_and_the_second_read_is_incremental(
    pyairbyte: PyAirbyte, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/webhooks.db"
    fill(url)
    command = str(programs() / "source-stairoids-webhooks")
    words = (READ, url, command, str(tmp_path / "cache.duckdb"))

    first = pyairbyte.start(*words).wait()
    with EventStore.create(url) as store:
        store.append([a_delivery(a_body("evt_late")), a_delivery(an_action_body("z"))])
    second = pyairbyte.start(*words).wait()

    assert "new: 19 events: 10" in first.stdout, first.stderr[-3000:]
    assert "new: 4 events: 12" in second.stdout, second.stderr[-3000:]


def test_commands_of_the_page_send_users_and_read_webhooks(
    venvs: Path, tmp_path: Path
) -> None:
    for name in ("airbyte-venv", "faker-venv"):
        (tmp_path / name).symlink_to(venvs / name)
    (tmp_path / ".stairoids").mkdir()
    fill(f"sqlite:///{tmp_path}/.stairoids/webhooks.db")
    with Sandbox() as sandbox:
        for name, text in scripts().items():
            here = text.replace("http://127.0.0.1:8900/v1", sandbox.url)
            (tmp_path / name).write_text(here)
        lines = [line for line in commands() if not line.startswith("uv ")]
        script = "\n".join(["set -e", *lines])
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment(),
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        types = Counter(signal.body["type"] for signal in sandbox.signals)

    assert types == {"user_signed_up": 50}
    assert re.findall(r"(\d+) signals sent", done.stdout) == ["50", "0"]
    assert "19 new records" in done.stdout
    assert (tmp_path / "webhooks.duckdb").exists()
    assert shutil.which("uv", path=str(BIN))
