"""Send records to a local Stairoids, receive its webhooks and read them with our tap.

Run it with `make demo`. The local Stairoids is `stairoids-sandbox`. The tap is
tap-jsonl from PyPI, in its own environment. All output stays in one temporary folder.
Every program is stopped at the end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_configs"
BIN = Path(sys.executable).parent
TAP = "tap-jsonl==0.3.1"
SECRET = "whsec_demo"  # noqa: S105 - it signs webhooks on this machine only
TOKEN = "password-of-the-demo"  # noqa: S105 - same
TIMEOUT = 60.0


class DemoError(Exception):
    """A program of the demo failed."""


class Stage:
    """A folder, and the programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("STAIROIDS_")
        } | {
            "STAIROIDS_WEBHOOK_SECRET": SECRET,
            "UV_PYTHON_DOWNLOADS": "never",
            # A proxy for package downloads cannot reach the ports of this machine.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @contextmanager
    def started(
        self,
        name: str,
        *command: str | Path,
        stdin: Any = subprocess.DEVNULL,  # noqa: ANN401 - any value that Popen accepts
        stdout: Any = subprocess.PIPE,  # noqa: ANN401 - same
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a program, and stop it at the end of the block."""
        with (
            self._log(name).open("ab") as log,
            subprocess.Popen(  # noqa: S603 - the commands are in this file
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
            ) as process,
        ):
            try:
                yield process
            finally:
                stop(process)

    @contextmanager
    def serving(self, name: str, *arguments: str) -> Iterator[str]:
        """Start a server and yield its URL once it listens."""
        command: list[str | Path] = [BIN / name, "serve", "--port", "0", *arguments]
        with self.started(name, *command) as process:
            assert process.stdout is not None
            can_read, _, _ = select.select([process.stdout], [], [], TIMEOUT)
            line = process.stdout.readline() if can_read else b""
            if not line:
                self.fail(name, "did not start")
            yield json.loads(line)["url"]

    def run(self, name: str, *arguments: str | Path) -> str:
        """Run one of the project's commands and return its output."""
        with self.started(name, BIN / name, *arguments) as process:
            printed, _ = process.communicate(timeout=TIMEOUT)
            if process.returncode:
                self.fail(name, f"ended with exit code {process.returncode}")
        return printed.decode()

    def pipeline(self) -> dict[str, Any]:
        """Run `tap-jsonl | target-stairoids` and return the run's report."""
        uv_tool: list[str | Path] = [
            BIN / "uv",
            "tool",
            "run",
            "--python",
            sys.executable,
        ]
        tap_command = [*uv_tool, "--from", TAP, "tap-jsonl"]
        tap_config = SAMPLES / "tap-jsonl.json"
        target_config = self.folder / "target-stairoids.json"
        with (
            (self.folder / "state.jsonl").open("ab") as state,
            self.started("tap-jsonl", *tap_command, "--config", tap_config) as tap,
            self.started(
                "target-stairoids",
                BIN / "target-stairoids",
                "--config",
                target_config,
                stdin=tap.stdout,
                stdout=state,
            ) as target,
        ):
            assert tap.stdout is not None
            tap.stdout.close()  # only the target reads it now
            for name, process in (("target-stairoids", target), ("tap-jsonl", tap)):
                exit_code = process.wait(timeout=TIMEOUT)
                if exit_code:
                    self.fail(name, f"ended with exit code {exit_code}")
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report

    def wait_for_webhooks(self, expected: int) -> int:
        """Wait until the receiver has stored the expected number of events."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            printed = self.run(
                "stairoids-webhooks", "stats", "--format", "json", *self.store()
            )
            stored = int(json.loads(printed)["total"])
            if stored >= expected:
                return stored
            if time.monotonic() > deadline:
                self.fail("stairoids-sandbox", f"sent {stored} of {expected} webhooks")
            time.sleep(0.1)

    def store(self) -> list[str]:
        """Return the option that names the receiver's store."""
        return ["--store-url", f"sqlite:///{self.folder / 'webhooks.db'}"]

    def write(self, name: str, config: dict[str, Any]) -> None:
        """Write a config file into the folder."""
        text = json.dumps(config, indent=2) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8")

    def fail(self, name: str, problem: str) -> NoReturn:
        """Raise an error with the last log lines of a program."""
        lines = self._log(name).read_text(errors="replace").splitlines()[-15:]
        msg = "\n".join([f"{name} {problem}. Its last lines:", *lines])
        raise DemoError(msg)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a program, and kill it after ten seconds."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def run_demo(folder: Path) -> None:
    """Run the demo and print each step."""
    stage = Stage(folder)
    began = time.monotonic()
    with ExitStack() as servers:
        api = set_up(stage, servers)
        sent = send(stage, api)
        stored = receive(stage, sent)
        read_back(stage, stored)
        send_again(stage, api, sent)
    config = folder / "target-stairoids.json"
    page = stage.run(
        "stairoids-signals", "report", "--format", "html", "--config", config
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    took = time.monotonic() - began
    print_step(
        f"Done in {took:.0f} s; every program is stopped. Look next at",
        f"  {folder}/webhooks.jsonl",
        f"  {folder}/report.json",
        f"  {folder}/report.html, in a browser",
        f"  {shown(BIN)}/stairoids-sandbox serve, and open its address in a browser",
        f"  STAIROIDS_WEBHOOK_SECRET={SECRET} STAIROIDS_WEBHOOKS_ADMIN_TOKEN={TOKEN}"
        f" {shown(BIN)}/stairoids-webhooks serve --admin-port 8881"
        f" {' '.join(stage.store())}",
        f"    and open localhost:8881 in a browser, with the password {TOKEN}",
        f"  {shown(BIN)}/stairoids-signals dead-letters list"
        f" --config {folder}/target-stairoids.json",
        f"  {shown(BIN)}/stairoids-webhooks stats {' '.join(stage.store())}",
        "  sample_configs/ and meltano.yml: copy them, put your tap and your key in",
    )


def set_up(stage: Stage, servers: ExitStack) -> str:
    """Start the receiver and the local Stairoids; return the API's URL."""
    receiver = servers.enter_context(
        stage.serving("stairoids-webhooks", *stage.store())
    )
    automation = f"product_trial_started={receiver}"
    arguments = ["--plan", "starter", "--automation", automation]
    api = servers.enter_context(stage.serving("stairoids-sandbox", *arguments))
    print_step(
        f"1. A local Stairoids listens on {api}, plan starter",
        "   (60 requests per minute). Its one automation: each product_trial_started",
        f"   calls the receiver, {receiver}.",
    )
    return api


def send(stage: Stage, api: str) -> int:
    """Run the pipeline; return how many signals were accepted."""
    config = json.loads((SAMPLES / "target-stairoids.json").read_text())
    config["api_url"] = api
    config["ledger_url"] = f"sqlite:///{stage.folder / 'ledger.db'}"
    config["report_path"] = str(stage.folder / "report.json")
    stage.write("target-stairoids.json", config)
    report = stage.pipeline()
    print_step(
        f"2. {TAP} | target-stairoids, over sample_configs/trials.jsonl:",
        f"   {report['read']} records read: {outcomes_of(report)}.",
        *(
            f"   Not sent, kept as a dead letter: {reason['reason']}."
            for reason in report["reasons"]
        ),
    )
    accepted: int = report["outcomes"]["accepted"]
    if not accepted:
        msg = "No signal was accepted."
        raise DemoError(msg)
    return accepted


def receive(stage: Stage, sent: int) -> int:
    """Wait for the webhooks; return how many are stored."""
    stored = stage.wait_for_webhooks(sent)
    print_step(
        f"3. The automation fired for each signal: {stored} signed webhooks came in,",
        "   were verified and stored.",
    )
    return stored


def read_back(stage: Stage, stored: int) -> None:
    """Run our tap and write its output to a file."""
    config = {"store_url": f"sqlite:///{stage.folder / 'webhooks.db'}"}
    stage.write("tap-stairoids-webhooks.json", config)
    config_path = stage.folder / "tap-stairoids-webhooks.json"
    printed = stage.run("tap-stairoids-webhooks", "--config", config_path)
    (stage.folder / "webhooks.jsonl").write_text(printed, encoding="utf-8")
    messages = [json.loads(line) for line in printed.splitlines()]
    streams = Counter(m["stream"] for m in messages if m["type"] == "RECORD")
    print_step(
        "4. tap-stairoids-webhooks read the store and printed, for any Singer target:",
        *(f"   {count} records of `{stream}`." for stream, count in streams.items()),
    )
    if streams["events"] != stored:
        msg = f"{stored} webhooks are stored, but the tap printed {streams['events']}."
        raise DemoError(msg)


def send_again(stage: Stage, api: str, sent: int) -> None:
    """Run the pipeline a second time, which sends nothing."""
    report = stage.pipeline()
    held = signals_at(api)
    if held != sent or report["requests"]:
        msg = f"{sent} signals were sent first, and now Stairoids holds {held}."
        raise DemoError(msg)
    print_step(
        "5. The same pipeline again, over the same records:",
        f"   {report['read']} records read: {outcomes_of(report)}.",
        f"   0 requests made; Stairoids holds {held} signals, as before.",
        "   Nothing was sent twice.",
    )


def outcomes_of(report: dict[str, Any]) -> str:
    """Return the outcomes that occurred, with their counts."""
    counts = report["outcomes"].items()
    return ", ".join(f"{count} {outcome}" for outcome, count in counts if count)


def signals_at(api: str) -> int:
    """Return the number of signals that the sandbox accepted."""
    url = api.removesuffix("/v1") + "/_sandbox/stats"
    with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT) as response:
        return int(json.load(response)["signals"])


def shown(path: Path) -> Path:
    """Return a path relative to the current folder if it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_step(*lines: str) -> None:
    """Print one step."""
    print(*lines, "", sep="\n", flush=True)


def main() -> int:
    """Run the demo and return the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="stairoids-demo-"))
    try:
        run_demo(folder)
    except (DemoError, subprocess.TimeoutExpired) as error:
        print(f"The demo failed: {error}\nAll logs: {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Stopped; every program is stopped. Logs: {folder}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
