"""Singer messages are whole lines, and STATE is written at once."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from singer_sdk.singerlib import RecordMessage, StateMessage
from typing_extensions import override

from tap_stairoids_webhooks.messages import MessageWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer


class ShortWrites(io.RawIOBase):
    """An output without a buffer, of which each write may be cut short."""

    def __init__(self) -> None:
        self.text = b""

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Buffer, /) -> int:
        written = bytes(data)[:1000]
        self.text += written
        return len(written)


def a_record(number: int) -> RecordMessage:
    return RecordMessage(stream="events", record={"id": number, "text": "x" * 100})


@contextmanager
def an_output() -> Iterator[ShortWrites]:
    raw = ShortWrites()
    stdout = io.TextIOWrapper(raw, write_through=True)  # type: ignore[type-var]  # as `python -u` has it
    with redirect_stdout(stdout):
        yield raw


def test_short_writes_lose_no_bytes() -> None:
    writer = MessageWriter()

    with an_output() as output:
        for number in range(3000):
            writer.write_message(a_record(number))
        writer.write_message(StateMessage(value={"at": 3000}))

    *records, state = map(json.loads, output.text.splitlines())
    assert [record["record"]["id"] for record in records] == list(range(3000))
    assert state == {"type": "STATE", "value": {"at": 3000}}


def test_state_is_written_at_once_and_records_in_batches() -> None:
    writer, lines = MessageWriter(), []

    with an_output() as output:
        writer.write_message(a_record(1))
        lines.append(output.text.count(b"\n"))
        writer.write_message(StateMessage(value={}))
        lines.append(output.text.count(b"\n"))
        for number in range(600):
            writer.write_message(a_record(number))
        lines.append(output.text.count(b"\n"))

    assert lines[:2] == [0, 2]
    assert 200 < lines[2] < 602
