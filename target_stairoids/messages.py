"""Messages: a tap's lines, as bytes that arrive when they arrive.

Reading never blocks longer than the caller allows: between two reads the caller gets
to work, so that answers are settled and STATE passes while the tap is slow.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import msgspec

from target_stairoids.exceptions import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        msg = f"Line {number} of the input is not a Singer message with a `type`."
        raise MessageError(msg)
    return message


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


def lines_of(
    source: IO[Any], attend: Callable[[int | None], bool]
) -> Iterator[bytes | str]:
    """Yield the input's lines, empty ones left out.

    Args:
        source: A file, a pipe or anything else that yields lines.
        attend: Called before each read, with the descriptor that will be read if there
            is one; reading ends when it returns False.
    """
    descriptor = _descriptor_of(source)
    if descriptor is None:
        yield from _by_line(source, attend)
        return
    rest = b""
    while attend(descriptor):
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            if rest.strip():
                yield rest
            return
        *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else [rest + chunk]
        for line in lines:
            if line and not line.isspace():
                yield line


def _by_line(
    source: IO[Any], attend: Callable[[int | None], bool]
) -> Iterator[bytes | str]:
    for number, line in enumerate(source):
        if number % _AT_ONCE == 0 and not attend(None):
            return
        if not line.isspace():
            yield line


def _descriptor_of(source: IO[Any]) -> int | None:
    """Return the descriptor of an input of which nothing was read yet."""
    try:
        return source.fileno()
    except (AttributeError, OSError, ValueError):
        return None
