"""Run the tap, and read its output."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from tap_stairoids_webhooks.event import EVENT_TYPES
from tap_stairoids_webhooks.store.store import EventStore
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from tests.support.webhook_builders import a_body, a_delivery, an_action_body

if TYPE_CHECKING:
    import pytest

TYPES = list(EVENT_TYPES)


def fill(url: str) -> None:
    """Store an event of each kind."""
    with EventStore.create(url) as store:
        store.append([a_delivery(a_body(f"evt_{n}", t)) for n, t in enumerate(TYPES)])
        store.append([a_delivery(an_action_body())])
        store.append([a_delivery(an_action_body(signal_id=None, contact=None))])
        store.append([a_delivery(a_body("evt_new", "brand.new")), a_delivery(b"[1]")])
        store.append([a_delivery(a_body("evt_0", "signal.created", data={"id": 2}))])


def descriptors_of(url: str) -> list[str]:
    """Return the files of a store that this process has open."""
    opened = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself
            opened.append(str(descriptor.readlink()))
    return [path for path in opened if path.startswith(url.removeprefix("sqlite:///"))]


class Output:
    """The exit code, stdout and log of a run."""

    def __init__(self, exit_code: int, lines: str, log: str) -> None:
        self.exit_code = exit_code
        self.lines = lines
        self.log = log

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.splitlines()]

    @property
    def state(self) -> dict[str, Any]:
        """The last STATE, as Meltano keeps it."""
        states = [m["value"] for m in self.messages if m["type"] == "STATE"]
        return dict(states[-1])

    def records(self, stream: str) -> list[dict[str, Any]]:
        return [
            message["record"]
            for message in self.messages
            if message["type"] == "RECORD" and message["stream"] == stream
        ]

    def sequences(self, stream: str = "events") -> list[int]:
        return [record["sequence"] for record in self.records(stream)]


class Runner:
    """Runs the tap in this process, because a new process takes a second to start."""

    def __init__(
        self, folder: Path, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        self._folder = folder
        self._caplog = caplog
        self.config: dict[str, Any] = {"store_url": url}

    def arguments(self, *more: str, state: object = None) -> list[str]:
        (self._folder / "config.json").write_text(json.dumps(self.config))
        arguments = ["--config", str(self._folder / "config.json"), *more]
        if state is not None:
            (self._folder / "state.json").write_text(json.dumps(state))
            arguments += ["--state", str(self._folder / "state.json")]
        return arguments

    def __call__(self, *more: str, state: object = None, stdin: bytes = b"") -> Output:
        return self.with_arguments(*self.arguments(*more, state=state), stdin=stdin)

    def with_arguments(self, *arguments: str, stdin: bytes = b"") -> Output:
        """Run the tap without the usual config."""
        self._caplog.clear()
        self._caplog.set_level("INFO")
        command = TapStairoidsWebhooks.get_singer_command()  # without a log handler
        result = CliRunner().invoke(command, list(arguments), input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Output(
            result.exit_code, result.stdout, result.stderr + self._caplog.text
        )
