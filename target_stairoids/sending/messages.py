"""Messages: a tap's lines, as bytes that arrive when they arrive.

Reading never blocks longer than the caller allows: between two reads the caller gets
to work, so that responses are settled and STATE passes while the tap is slow.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import msgspec

from target_stairoids.exceptions import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK = 1 << 20
_AT_ONCE = 256  # lines between two chances to work, where the input has no descriptor
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def message_from(line: bytes | str, number: int) -> dict[str, Any]:
    """Return one message; numbers keep all their digits.

    Args:
        number: The line's number, for the error.

    Raises:
        MessageError: The line is no JSON object with a `type`. It is not quoted,
            because it may hold personal data.
    """
    try:
        message = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError):
        message = _lenient(line, number)
    except RecursionError as error:
        msg = f"Line {number} of the input is nested too deeply."
        raise MessageError(msg) from error
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    msg = f"Line {number} of the input is not a Singer message with a `type`."
    raise MessageError(msg)


def _lenient(line: bytes | str, number: int) -> object:
    """Read what Python's `json` writes and JSON forbids: NaN, lone surrogates."""
    try:
        return json.loads(line, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        msg = (
            f"Line {number} of the input is not JSON. Does the tap print something "
            "else to stdout?"
        )
        raise MessageError(msg) from error


def messages_of(
    source: IO[Any], attend: Callable[[int | None], bool]
) -> Iterator[dict[str, Any]]:
    """Yield the input's messages; empty lines are left out.

    The `record` of a RECORD message is an object, or its JSON text as `msgspec.Raw`:
    most records need not be decoded.

    Args:
        source: A file, a pipe or anything else that yields lines.
        attend: Called before each read, with the descriptor that will be read if there
            is one; reading ends when it returns False.

    Raises:
        MessageError: A line is no message; all before it were yielded.
    """
    descriptor = _descriptor_of(source)
    if descriptor is None:
        yield from _by_line(source, attend)
        return
    number = 1
    for lines in _chunks(descriptor, attend):
        yield from _messages(lines, number)
        number += lines.count(b"\n")


def _by_line(
    source: IO[Any], attend: Callable[[int | None], bool]
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(source, start=1):
        if number % _AT_ONCE == 1 and not attend(None):
            return
        if not line.isspace():
            yield message_from(line, number)


def _chunks(descriptor: int, attend: Callable[[int | None], bool]) -> Iterator[bytes]:
    """Yield the bytes of an input, so many whole lines at a time as were there."""
    rest: list[bytes] = []
    while attend(descriptor):
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


def _messages(lines: bytes, number: int) -> Iterable[dict[str, Any]]:
    """Return the messages of whole lines.

    They are decoded at once, records not at all; if anything is odd about one of them,
    one by one.

    Args:
        number: That of the first line.
    """
    return _at_once(lines) or (
        message_from(line, n)
        for n, line in enumerate(lines.split(b"\n"), start=number)
        if line and not line.isspace()
    )


class _Line(msgspec.Struct, gc=False):
    """What is looked at in each line; a RECORD message holds no more."""

    type: str
    stream: str = ""
    record: msgspec.Raw = msgspec.Raw()


_lines_decoder = msgspec.json.Decoder(_Line)


def _at_once(lines: bytes) -> list[dict[str, Any]]:
    """Return the messages of whole lines, their records as JSON text.

    Returns:
        Nothing where lines have to be decoded one by one: one is no message, or has
        Singer's own columns, which are looked at and do not belong to a row.
    """
    if b'"_sdc_' in lines or not _is_utf_8(lines):
        return []
    try:
        found = _lines_decoder.decode_lines(lines)
        if {line.type for line in found} == {"RECORD"}:
            return [_record(line) for line in found]
        texts = _texts_of(lines, len(found))
        return [
            _record(line) if line.type == "RECORD" else message_from(text, n)
            for n, (line, text) in enumerate(zip(found, texts, strict=True))
        ]
    except (msgspec.DecodeError, RecursionError, MessageError):
        return []


def _record(line: _Line) -> dict[str, Any]:
    return {"type": "RECORD", "stream": line.stream, "record": line.record}


def _texts_of(lines: bytes, count: int) -> list[bytes]:
    """Return the lines that hold something.

    Raises:
        MessageError: They are not as many as there should be.
    """
    texts = [text for text in lines.split(b"\n") if text and not text.isspace()]
    if len(texts) != count:
        msg = "A line holds more than one message."
        raise MessageError(msg)
    return texts


def _is_utf_8(lines: bytes) -> bool:
    """Say whether bytes are text; what is not decoded is not looked at closely."""
    if lines.isascii():
        return True
    try:
        lines.decode()
    except UnicodeDecodeError:
        return False
    return True


def discard(source: IO[Any]) -> None:
    """Read an input to its end, so that the tap is not told off by a broken pipe."""
    descriptor = _descriptor_of(source)
    if descriptor is None:
        return
    while os.read(descriptor, _CHUNK):
        pass


def _descriptor_of(source: IO[Any]) -> int | None:
    """Return the descriptor of an input of which nothing was read yet."""
    try:
        return source.fileno()
    except (AttributeError, OSError, ValueError):
        return None
