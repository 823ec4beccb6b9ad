"""Runs the Airbyte connectors, and runs tests of the target with both protocols.

`on_both_connectors` runs a test twice: with the Singer target, and with the Airbyte
destination, whose input is converted from Singer messages.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec
import pytest
from airbyte_protocol_dataclasses.models import AirbyteMessage
from typing_extensions import override

from stairoids_airbyte.destination_command import main as destination_command
from tests.support.singer_io import BIN, Run, TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import click

Message = dict[str, Any]


def run_connector(
    command: click.Command, words: Sequence[str], text: str = ""
) -> tuple[int, str]:
    """Run a connector in this process; return its exit code and its output."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with TemporaryFile("w+", encoding="utf-8") as stdin, _handlers_kept():
        stdin.write(text)
        stdin.seek(0)
        with redirect_stdout(printed), patch.object(sys, "stdin", stdin):
            try:
                command.main(words)
            except SystemExit as end:
                code = int(end.code or 0)
    printed.flush()
    text = printed.buffer.getvalue().decode()
    for line in text.splitlines():
        if line.startswith("{"):  # each message loads in Airbyte's own classes
            msgspec.json.decode(line, type=AirbyteMessage)
    return code, text


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Undo the connector's handlers of signals and log lines."""
    root = logging.getLogger()
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in numbers]
    log_handlers = list(root.handlers)
    try:
        yield
    finally:
        root.handlers[:] = log_handlers
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


class AirbyteUnderTest(TargetUnderTest):
    """`destination-stairoids` with the output of a Singer tap."""

    def _words(self, config: Mapping[str, object]) -> list[str]:
        path = self.folder / "destination.json"
        path.write_text(json.dumps({"source": "singer", **config}))
        catalog = str(self.folder / "catalog.json")
        return ["write", "--config", str(path), "--catalog", catalog]

    @override
    def command(self, config: Mapping[str, object]) -> list[str]:
        return [str(BIN / "destination-stairoids"), *self._words(config)]

    @override
    def input_of(self, text: str) -> str:
        catalog, lines = as_airbyte(text.splitlines())
        (self.folder / "catalog.json").write_text(json.dumps(catalog))
        return "".join(f"{line}\n" for line in lines)

    @override
    def states_in(self, printed: str) -> list[Any]:
        return [
            message["state"]["stream"]["stream_state"]
            for message in messages_in(printed, "STATE")
        ]

    @override
    def run_text(self, text: str, **config: object) -> Run:
        (self.folder / "report.json").unlink(missing_ok=True)
        words = self._words({**self.config, **config})
        code, printed = run_connector(destination_command, words, self.input_of(text))
        errors = errors_in(printed)
        assert bool(errors) == (code != 0)
        return Run(
            exit_code=code,
            states=self.states_in(printed),
            error=" ".join(error["message"] for error in errors),
            report=self.report(),
            failure=errors[0]["failure_type"] if errors else "",
        )


def messages_in(printed: str, kind: str) -> list[Message]:
    """Return the messages of one type. Every line must be a message."""
    messages = [json.loads(line) for line in printed.splitlines()]
    return [message for message in messages if message["type"] == kind]


def errors_in(printed: str) -> list[Message]:
    """Return the errors in the TRACE messages."""
    traces = [message["trace"] for message in messages_in(printed, "TRACE")]
    return [trace["error"] for trace in traces if trace["type"] == "ERROR"]


def as_airbyte(lines: Iterable[str]) -> tuple[Message, list[str]]:
    """Convert Singer messages to a configured catalog and messages of Airbyte.

    Lines that are not JSON stay as they are.
    """
    streams: dict[str, Message] = {}
    messages: list[str] = []
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            messages.append(line)
            continue
        match message["type"]:
            case "SCHEMA":
                streams[message["stream"]] = message
            case "RECORD":
                # As text, because a float would change the digits of decimals.
                record = line[line.index('"record":') + len('"record":') :].strip()
                stream = json.dumps(message["stream"])
                messages.append(
                    f'{{"type":"RECORD","state":null,"record":{{"stream":{stream},'
                    f'"namespace":null,"emitted_at":1,"data":{record}}}'
                )
            case "STATE":
                state = {
                    "type": "STREAM",
                    "stream": {
                        "stream_descriptor": {"name": next(reversed(streams))},
                        "stream_state": message["value"],
                    },
                }
                messages.append(json.dumps({"type": "STATE", "state": state}))
    return {"streams": [_configured(schema) for schema in streams.values()]}, messages


def _configured(schema: Message) -> Message:
    bookmark = schema.get("bookmark_properties") or []
    return {
        "stream": {
            "name": schema["stream"],
            "json_schema": schema["schema"],
            "supported_sync_modes": ["full_refresh", "incremental"],
        },
        "sync_mode": "incremental" if bookmark else "full_refresh",
        "destination_sync_mode": "append_dedup",
        "cursor_field": bookmark,
        "primary_key": [[name] for name in schema["key_properties"]],
    }


on_both_connectors = pytest.mark.parametrize(
    "target",
    [
        pytest.param(TargetUnderTest, id="singer"),
        pytest.param(AirbyteUnderTest, id="airbyte", marks=pytest.mark.slow),
    ],
    indirect=True,
)
