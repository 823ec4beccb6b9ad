"""Singer messages, and a target that reads them."""

from __future__ import annotations

import io
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from target_stairoids.exceptions import StairoidsError
from target_stairoids.target import TargetStairoids
from tests.support.forks import Forked, forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Message = dict[str, Any]
BIN = Path(sys.executable).parent


def a_schema(
    stream: str = "trials",
    *,
    key: Iterable[str] = ("id",),
    bookmark: str | None = None,
    **types: object,
) -> Message:
    """Return the SCHEMA of a stream with `id`, `email` and the given columns."""
    properties = {
        "id": {"type": "integer"},
        "email": {"type": ["null", "string"]},
        **{name: {"type": ["null", kind]} for name, kind in types.items()},
    }
    message: Message = {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {"type": "object", "properties": properties},
        "key_properties": list(key),
    }
    if bookmark:
        message["bookmark_properties"] = [bookmark]
    return message


def a_record(number: int = 1, stream: str = "trials", **fields: object) -> Message:
    """Return a RECORD with its number in the email address."""
    record = {"id": number, "email": f"u{number}@example.com", **fields}
    return {"type": "RECORD", "stream": stream, "record": record}


def a_state(value: object = 1) -> Message:
    """Return a STATE message."""
    return {"type": "STATE", "value": {"at": value}}


def text_of(messages: Iterable[Message | str]) -> str:
    """Return messages as lines of JSON. A text is a line already."""
    return "".join(
        (m if isinstance(m, str) else json.dumps(m)) + "\n" for m in messages
    )


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until a condition holds, and fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)  # between two polls


@contextmanager
def interrupted(condition: Callable[[], bool], number: int) -> Iterator[None]:
    """Send SIGTERM or SIGINT to the block's thread once a condition holds."""
    block = threading.get_ident()

    def interrupt() -> None:
        wait_until(condition)
        signal.pthread_kill(block, number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    yield
    thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The result of a run of the target.

    Attributes:
        failure: The type of the error that Airbyte's platform sees; "" for Singer.
    """

    exit_code: int
    states: list[Any]
    error: str
    report: dict[str, Any]
    failure: str = ""

    @property
    def outcomes(self) -> dict[str, int]:
        """The counts of the outcomes, without zeros."""
        return {name: n for name, n in self.report["outcomes"].items() if n}


class TargetUnderTest:
    """The target with its own config and folder.

    Args:
        folder: The folder of ledger and report.
        api_url: The URL of the API.
        config: Settings that replace the defaults for tests.
    """

    def __init__(self, folder: Path, api_url: str, **config: object) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {
            "api_url": api_url,
            "api_key": "sk_test_sandbox",
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "report_path": str(folder / "report.json"),
            "first_run": "send",
            "requests_per_minute": 100_000,
            "verify_delay_seconds": 0,
            "outage_seconds": 5,
            **config,
        }

    def run(self, *messages: Message | str, **config: object) -> Run:
        """Run in this process with messages as input."""
        return self.run_text(text_of(messages), **config)

    def run_text(self, text: str, **config: object) -> Run:
        """Run in this process with a tap's output as input."""
        printed = io.StringIO()
        exit_code, message = 0, ""
        try:
            with redirect_stdout(printed), TemporaryFile("w+", encoding="utf-8") as tap:
                tap.write(text)
                tap.seek(0)
                target = TargetStairoids(config={**self.config, **config})
                target.listen(tap)
        except StairoidsError as error:
            exit_code, message = error.exit_code, str(error)
        return Run(
            exit_code=exit_code,
            states=[json.loads(line) for line in printed.getvalue().splitlines()],
            error=message,
            report=self.report(),
        )

    def report(self) -> dict[str, Any]:
        """Return the last run's report."""
        path = self.folder / "report.json"
        found = json.loads(path.read_text()) if path.exists() else {"outcomes": {}}
        return dict(found)

    def command(self, config: Mapping[str, object]) -> list[str]:
        """Write the config to a file and return the command with it."""
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        return [str(BIN / "target-stairoids"), "--config", str(path)]

    def input_of(self, text: str) -> str:
        """Convert a tap's output to the input of the command."""
        return text

    def states_in(self, printed: str) -> list[Any]:
        """Return the values of the STATE messages in the command's output."""
        return [json.loads(line) for line in printed.splitlines()]

    def has_begun(self, run: int) -> bool:
        """Return whether a run is in the ledger, which is after it took its lease."""
        if not (path := self.folder / "ledger.db").exists():
            return False
        with closing(sqlite3.connect(path)) as ledger, suppress(sqlite3.Error):
            query = "SELECT 1 FROM stairoids_runs WHERE run = ?"
            return ledger.execute(query, (run,)).fetchone() is not None
        return False

    def start(self, text: str = "", /, **config: object) -> subprocess.Popen[bytes]:
        """Start the command as a fork and leave its input open.

        Args:
            text: The tap's output so far.
            config: Settings of this run.
        """
        given = self.input_of(text)
        process: subprocess.Popen[bytes] = Forked(
            forked(self.command({**self.config, **config})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
        )
        assert process.stdin
        process.stdin.write(given.encode())
        process.stdin.flush()
        return process

    def shell(
        self,
        text: str,
        env: Mapping[str, str] | None = None,
        stdout: IO[str] | int = subprocess.PIPE,
        *,
        is_fork: bool = True,
        **config: object,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own.

        Args:
            is_fork: Without, a new interpreter imports the modules of the command.
        """
        given = self.input_of(text)
        words = self.command({**self.config, **config})
        return subprocess.run(
            forked(words) if is_fork else words,
            input=given,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=self.folder,
            env=env,
            timeout=300,
        )
