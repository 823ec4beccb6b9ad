"""The faces of the target: Singer's and Airbyte's, for tests of what both promise.

`on_both_faces` runs a test twice; what a tap printed is put into Airbyte's words.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from tests.support.singer_io import BIN, Run, TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Message = dict[str, Any]


class AirbyteUnderTest(TargetUnderTest):
    """`destination-stairoids`, fed with what a Singer tap printed."""

    @override
    def command(self, config: Mapping[str, object]) -> list[str]:
        path = self.folder / "destination.json"
        path.write_text(json.dumps({"source": "singer", **config}))
        catalog = str(self.folder / "catalog.json")
        files = ["--config", str(path), "--catalog", catalog]
        return [str(BIN / "destination-stairoids"), "write", *files]

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
        done = self.shell(text, None, subprocess.PIPE, **config)
        errors = [
            trace["trace"]["error"]["message"]
            for trace in messages_in(done.stdout, "TRACE")
            if trace["trace"]["type"] == "ERROR"
        ]
        assert bool(errors) == (done.returncode != 0)
        return Run(
            exit_code=done.returncode,
            states=self.states_in(done.stdout),
            error=" ".join(errors),
            report=self.report(),
        )


def messages_in(printed: str, kind: str) -> list[Message]:
    """Return the messages of one type; every line must be a message."""
    messages = [json.loads(line) for line in printed.splitlines()]
    return [message for message in messages if message["type"] == kind]


def as_airbyte(lines: Iterable[str]) -> tuple[Message, list[str]]:
    """Return the configured catalog and the messages that say what a tap said.

    A line that is no message stays as it is.
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
                # As text, because a float would cost decimals their digits.
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


on_both_faces = pytest.mark.parametrize(
    "target", [TargetUnderTest, AirbyteUnderTest], ids=["singer", "airbyte"],
    indirect=True,
)  # fmt: skip
