"""Reading messages: whole lines are decoded together, odd lines one by one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from target_stairoids import input as messages
from target_stairoids.exceptions import MessageError
from target_stairoids.input import discard, messages_of
from target_stairoids.sending import queue
from target_stairoids.sending.queue import SendQueue
from tests.support import singer_io

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stairoids_sandbox import Sandbox
    from target_stairoids.sending.queue import QueuedSignal
    from tests.support.singer_io import TargetUnderTest

GOOD = b'{"type": "STATE", "value": 1}\n'
LAST = b'{"type": "STATE", "value": 2}'


def go_on(_descriptor: int | None) -> bool:
    return True


@contextmanager
def a_pipe(text: bytes) -> Iterator[IO[bytes]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source:
        with os.fdopen(writing, "wb") as tap:
            tap.write(text)
        yield source


def read(text: bytes) -> list[dict[str, Any]]:
    with a_pipe(text) as source:
        return list(messages_of(source, go_on))


@pytest.mark.parametrize(
    "text",
    [
        GOOD + LAST,
        GOOD + LAST + b"\n",
        GOOD + b"\n   \r\n" + LAST,
        GOOD.replace(b"\n", b"\r\n") + LAST,
    ],
    ids=["no newline at the end", "newline", "empty lines", "CRLF"],
)
def test_every_line_is_a_message(text: bytes) -> None:
    assert [message["value"] for message in read(text)] == [1, 2]


@pytest.mark.parametrize("size", [1, 7, 29, 30, 31, 10_000])
def test_lines_may_arrive_in_chunks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(messages, "_CHUNK", size)

    assert [message["value"] for message in read(GOOD * 5 + LAST)] == [1] * 5 + [2]


@pytest.mark.parametrize(
    "odd",
    [b"not json", b"[1]", b'{"stream": "a"}', b'{"type": 1}', b"[" * 5000],
    ids=["text", "list", "no type", "type is a number", "too deep"],
)
@pytest.mark.parametrize("before", [b"", b"\n\n"], ids=["", "behind empty lines"])
def test_error_names_the_line_and_messages_before_it_are_read(
    odd: bytes, before: bytes
) -> None:
    seen: list[dict[str, Any]] = []
    number = 3 + before.count(b"\n")
    with a_pipe(before + GOOD + GOOD + odd + b"\n" + GOOD) as source:
        found = messages_of(source, go_on)

        with pytest.raises(MessageError, match=f"Line {number} of"):
            seen.extend(found)

    assert len(seen) == 2


def test_line_number_counts_earlier_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_CHUNK", len(GOOD))

    with pytest.raises(MessageError, match="Line 5 of"):
        read(GOOD * 4 + b"not json\n")


def test_nan_is_read_as_python_prints_it() -> None:
    """`NaN` is not JSON, but taps print it."""
    text = GOOD + b'{"type": "STATE", "value": NaN}\n' + GOOD

    values = [message["value"] for message in read(text)]

    assert values[0] == values[2] == 1
    assert values[1] != values[1]


def a_record(text: bytes) -> bytes:
    return b'{"type": "RECORD", "stream": "s", "record": ' + text + b"}\n"


@pytest.mark.parametrize("others", [b"", GOOD], ids=["alone", "beside a STATE"])
def test_record_is_passed_on_as_its_text(others: bytes) -> None:
    text = b'{"id":  1.50, "name": "\\u00e9\xc3\xa9"}'

    found = read(others + a_record(text) + others)

    (message,) = (m for m in found if m["type"] == "RECORD")
    assert message["stream"] == "s"
    assert [bytes(record) for record in message["record"]] == [text]
    assert [m["value"] for m in found if m["type"] == "STATE"] == [1, 1][
        : 2 * bool(others)
    ]


def test_records_of_a_stream_in_a_row_are_one_message() -> None:
    other = a_record(b"{}").replace(b'"s"', b'"t"')

    found = read(a_record(b"1") + a_record(b"2") + GOOD + a_record(b"3") + other)

    assert [m.get("stream") for m in found] == ["s", None, "s", "t"]
    assert [bytes(r) for r in found[0]["record"]] == [b"1", b"2"]


@pytest.mark.parametrize(
    "odd",
    [b'{"id": NaN}', b'{"_sdc_deleted_at": null}', b'{"a": "\\ud800"}'],
    ids=["NaN", "a column of the SDK", "half a surrogate pair"],
)
def test_odd_record_is_decoded_at_once(odd: bytes) -> None:
    found = read(a_record(odd) + GOOD)

    assert isinstance(found[0]["record"], dict)
    assert len(found) == 2


def test_error_names_the_line_that_is_not_utf_8() -> None:
    with a_pipe(GOOD + a_record(b'{"a": "\xff"}') + GOOD) as source:
        found = messages_of(source, go_on)

        assert next(found)["value"] == 1
        with pytest.raises(MessageError, match="Line 2 of"):
            next(found)


def test_error_names_the_line_with_two_messages() -> None:
    record = a_record(b"{}").strip()

    with pytest.raises(MessageError, match="Line 2 of"):
        read(GOOD + record + record + b"\n" + GOOD)


def test_numbers_keep_all_their_digits() -> None:
    (message,) = read(
        b'{"type": "STATE", "value": 0.1000000000000000055511151231257827}'
    )

    assert message["value"] == Decimal("0.1000000000000000055511151231257827")


def test_reading_ends_when_the_run_stops() -> None:
    with a_pipe(GOOD) as source:
        assert list(messages_of(source, lambda _descriptor: False)) == []


def test_rest_of_the_input_can_be_discarded() -> None:
    with a_pipe(GOOD * 1000) as source:
        discard(source, lambda _descriptor: True)

        assert source.read() == b""


def test_reading_pauses_while_the_queue_is_full(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=10))
    records = [singer_io.a_record(number) for number in range(1, 31)]
    monkeypatch.setattr(queue, "_QUEUE_SIZE", 3)
    monkeypatch.setattr(messages, "_CHUNK", len(singer_io.text_of(records[-1:])))
    add, sizes = SendQueue.add, []

    def noted(queue: SendQueue, signal: QueuedSignal, *, waits: bool) -> None:
        add(queue, signal, waits=waits)
        sizes.append(len(queue.unfinished))

    monkeypatch.setattr(SendQueue, "add", noted)

    done = target.run(singer_io.a_schema(), *records, singer_io.a_state())

    assert done.outcomes == {"accepted": 30}
    assert done.states == [{"at": 1}]
    assert 3 <= max(sizes) <= 5


def test_file_of_another_kind_is_told_that_csv_needs_a_tap() -> None:
    hint = "A CSV file needs a tap, such as `tap-csv`."

    with pytest.raises(MessageError, match=hint):
        messages.message_from("id,email\n", 1)
    with pytest.raises(MessageError) as later:
        messages.message_from("progress 50%\n", 2)
    assert "CSV" not in str(later.value)
