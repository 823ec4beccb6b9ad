"""Singer messages to feed a target with, and a target to feed them to."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from target_stairoids.exceptions import StairoidsError
from target_stairoids.target import TargetStairoids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Message = dict[str, Any]
BIN = Path(sys.executable).parent


def a_schema(
    stream: str = "trials",
    *,
    key: Iterable[str] = ("id",),
    bookmark: str | None = None,
    **types: object,
) -> Message:
    """Return the SCHEMA of a stream with `id`, `email` and what is named."""
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
    """Return a RECORD whose e-mail tells its number."""
    record = {"id": number, "email": f"u{number}@example.com", **fields}
    return {"type": "RECORD", "stream": stream, "record": record}


def a_state(value: object = 1) -> Message:
    """Return a STATE message."""
    return {"type": "STATE", "value": {"at": value}}


def text_of(messages: Iterable[Message | str]) -> str:
    """Return messages as a tap prints them; a text is a line as it is."""
    return "".join(
        (m if isinstance(m, str) else json.dumps(m)) + "\n" for m in messages
    )


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until something holds; fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)  # a poll's pause, not a guess at how long things take


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of the target left behind."""

    exit_code: int
    states: list[Any]
    error: str
    report: dict[str, Any]

    @property
    def outcomes(self) -> dict[str, int]:
        """The outcomes that happened."""
        return {name: n for name, n in self.report["outcomes"].items() if n}


class TargetUnderTest:
    """The target with a config and a folder of its own.

    Args:
        folder: Holds ledger and report.
        config: Settings over the defaults of a test: no waiting, no learning.
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
        """Run in this process, over messages."""
        return self.run_text(text_of(messages), **config)

    def run_text(self, text: str, **config: object) -> Run:
        """Run in this process, over what a tap printed."""
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
        """Write a config; return the command that takes it."""
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        return [str(BIN / "target-stairoids"), "--config", str(path)]

    def input_of(self, text: str) -> str:
        """Return what the command is to read, to take in what a tap printed."""
        return text

    def states_in(self, printed: str) -> list[Any]:
        """Return the values of the STATEs in what the command printed."""
        return [json.loads(line) for line in printed.splitlines()]

    def start(self, text: str = "", /, **config: object) -> subprocess.Popen[bytes]:
        """Start the command as a shell does, with an input that goes on.

        Args:
            text: What a tap has printed so far.
        """
        given = self.input_of(text)
        process = subprocess.Popen(
            self.command({**self.config, **config}),
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
        **config: object,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command as a shell does, to its end."""
        given = self.input_of(text)
        return subprocess.run(
            self.command({**self.config, **config}),
            input=given,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=self.folder,
            env=env,
            timeout=60,
        )
