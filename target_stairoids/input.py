"""Read the input: messages as bytes that arrive when they arrive.

Reading never blocks longer than the run allows. Between two reads the run works, so
that signals are sent and STATE is emitted while the tap is slow.
"""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from operator import attrgetter, length_hint
from typing import IO, TYPE_CHECKING, Any

import msgspec
from upath import UPath

from target_stairoids.dedup.record import json_value
from target_stairoids.exceptions import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from target_stairoids.sending.run import Run

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
#: Lines between two calls of `work`, in files and in inputs without a descriptor.
AT_ONCE = 256
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_JSON_HINT = " Rows in JSON need a tap, such as `tap-jsonl`."
_CSV_HINT = " A CSV file needs a tap, such as `tap-csv`."


def message_from(line: bytes | str, number: int) -> dict[str, Any]:
    """Return one message, or raise `MessageError`. Numbers keep all their digits.

    The error does not quote the line, because it may hold personal data.
    """
    message = _decoded(line, f"Line {number} of the input")
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    msg = f"Line {number} of the input is not a Singer message with a `type`."
    raise MessageError(msg + _JSON_HINT)


def _decoded(line: bytes | str, place: str) -> object:
    """Return a line's value, also with NaN and lone surrogates, as `json` does."""
    try:
        return _decoder.decode(line)
    except RecursionError as error:
        raise MessageError(f"{place} is nested too deeply.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError) as problem:
        is_cut = str(problem) == "Input data was truncated"
    try:
        return json_value(line)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise MessageError(
            f"{place} has only a part of a message. Did the tap end within it?"
            if is_cut
            else f"{place} is not JSON. Does the tap print something else to stdout?"
            f"{_CSV_HINT if place.startswith('Line 1 ') else ''}"
        ) from error


def batch_records(url: str, stream: str, *, is_gzip: bool) -> Iterator[dict[str, Any]]:
    """Yield the records of a BATCH file: JSON objects, one per line.

    `MessageError` if the file or a line cannot be read, after all before it were
    yielded.
    """
    place = f"the BATCH file `{url.partition('?')[0].rpartition('/')[2]}`"
    for number, line in enumerate(_lines_of_file(url, place, is_gzip=is_gzip), start=1):
        if not line.isspace():
            record = _decoded(line, f"Line {number} of {place} of stream `{stream}`")
            if not isinstance(record, dict):
                raise MessageError(
                    f"Line {number} of {place} of stream `{stream}` is not an object."
                )
            yield record


_DAMAGE: dict[type[Exception], str] = {
    gzip.BadGzipFile: "it is not in gzip",
    EOFError: "it was cut off",
    zlib.error: "it is damaged",
}


def _lines_of_file(url: str, place: str, *, is_gzip: bool) -> Iterator[bytes]:
    try:
        with UPath(url).open("rb") as file:
            yield from gzip.GzipFile(fileobj=file) if is_gzip else file
    except Exception as error:  # each storage has errors of its own
        kind = type(error)
        why = getattr(error, "strerror", None) or _DAMAGE.get(kind) or kind.__name__
        raise MessageError(
            f"{place[0].upper()}{place[1:]} cannot be read: {why}."
        ) from error


def messages_of(
    source: IO[Any], work: Callable[[int | None], bool]
) -> Iterator[dict[str, Any]]:
    """Yield the input's messages, without empty lines. `MessageError` for other lines.

    The `record` of a RECORD message is an object. Or it is an iterator of all records
    that follow in the same stream, as JSON texts, because most are not decoded.

    `work` is called before each read, with the descriptor to be read if there is one.
    Reading ends when it returns False.
    """
    descriptor = _descriptor_of(source)
    if descriptor is not None:
        number = 1
        for lines in _chunks(descriptor, work):
            yield from _at_once(lines) or (
                message_from(line, n)
                for n, line in enumerate(lines.split(b"\n"), start=number)
                if line and not line.isspace()
            )
            number += lines.count(b"\n")
        return
    for number, line in enumerate(source, start=1):
        if number % AT_ONCE == 1 and not work(None):
            return
        if not line.isspace():
            yield message_from(line, number)


def _chunks(descriptor: int, work: Callable[[int | None], bool]) -> Iterator[bytes]:
    """Yield the bytes of an input, as many whole lines at a time as have arrived."""
    rest: list[bytes] = []
    while work(descriptor):
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            break
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, chunk[:end]])
            rest.clear()
        rest.append(chunk[end:])
    else:
        return
    if any(rest):
        yield b"".join(rest)


class _Line(msgspec.Struct, gc=False):
    """The part of a message that all types share; a RECORD message has no more."""

    type: str
    stream: str = ""
    record: msgspec.Raw = msgspec.Raw()


_lines_decoder = msgspec.json.Decoder(_Line)
_kind_and_stream = attrgetter("type", "stream")


def _at_once(lines: bytes) -> list[dict[str, Any]]:
    """Return the messages of whole lines, with records as JSON text.

    None of them if one is no message, or has `_sdc_*` columns: decode one by one.
    """
    if b'"_sdc_' in lines:
        return []
    try:
        if not lines.isascii():
            lines.decode()  # must be UTF-8; records are not decoded below
        found = _lines_decoder.decode_lines(lines)
        texts: list[bytes] = []
        if {line.type for line in found} != {"RECORD"}:
            texts = [line for line in lines.split(b"\n") if line and not line.isspace()]
            if len(texts) != len(found):  # not a message per line
                return []
        messages: list[dict[str, Any]] = []
        number = 0
        for (kind, stream), group in groupby(found, _kind_and_stream):
            records = [line.record for line in group]
            if kind == "RECORD":
                all_of_them = iter(records)
                messages.append({"type": kind, "stream": stream, "record": all_of_them})
            else:
                its = texts[number : number + len(records)]
                messages += [message_from(text, 0) for text in its]
            number += len(records)
    except (ValueError, RecursionError, MessageError):
        return []
    return messages


def discard(source: IO[Any], work: Callable[[int], bool]) -> None:
    """Read an input to its end, so that the tap gets no broken pipe.

    `work` is called before each read. Reading ends when it returns False.
    """
    descriptor = _descriptor_of(source)
    while descriptor is not None and work(descriptor) and os.read(descriptor, _CHUNK):
        pass


def _descriptor_of(source: IO[Any]) -> int | None:
    try:
        return source.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def read_messages(
    source: IO[Any],
    run: Run,
    handlers: Mapping[str, Callable[[dict[str, Any]], None]],
    *,
    otherwise: Callable[[dict[str, Any]], None],
    begin: Callable[[], None] | None = None,
) -> Counter[str]:
    """Open a run and read to the end of the input, or until the run stops.

    An error of a message or its handler is raised after everything before it is settled
    and the run has ended. `otherwise` handles messages of other types. `begin` is
    called once the run is open. Returns type -> number of messages. The caller calls
    `run.finish`.
    """
    counts: Counter[str] = Counter()
    try:
        run.open()
        if begin is not None:
            begin()
        for message in messages_of(source, run.work):
            kind, record = message["type"], message.get("record")
            if kind not in handlers:
                kind = kind.upper()
            size = length_hint(record) if isinstance(record, Iterator) else 1
            try:
                handlers.get(kind, otherwise)(message)
            except Exception:
                left = length_hint(record) if isinstance(record, Iterator) else 0
                number = counts.total() + max(1, size - left)
                logger.warning("Stopped at message %d of the input.", number)
                raise
            counts[kind] += size
        if run.is_forgiven(run.stop.reason):
            discard(source, run.work_off)  # the next run reads it
    except Exception as error:
        run.finish(error)
        raise
    if run.stop.reason is None and not counts:
        logger.warning(
            "The input was empty. Did the tap fail? Or is no stream selected in its "
            "catalog?"
        )
    return counts
