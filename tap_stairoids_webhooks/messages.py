"""Messages: Singer messages as lines on stdout.

Records are buffered up to the next message of another kind: a target can act on
nothing less than a STATE, and to write each record costs more than to make it.
The buffer is our own, because containers often tell Python to have none
(`PYTHONUNBUFFERED`). What a run that fails has not written is of no STATE.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from singer_sdk.contrib.msgspec import enc_hook
from singer_sdk.io_base import GenericSingerWriter
from singer_sdk.singerlib import Message, RecordMessage
from typing_extensions import override

# Each message gets bytes of its own. The SDK's msgspec writer shares one buffer,
# which a STATE message written by a signal handler finds in use.
_ENCODER = msgspec.json.Encoder(enc_hook=enc_hook, decimal_format="number")


_ENOUGH = 1 << 16  # bytes, which is what a pipe takes at once


class MessageWriter(GenericSingerWriter[bytes, Message]):
    """Writes messages with exact decimals."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffer = bytearray()

    @override
    def serialize_message(self, message: Message) -> bytes:
        return _ENCODER.encode(message.to_dict())

    @override
    def write_message(self, message: Message) -> None:
        self._buffer += self.serialize_message(message)
        self._buffer += b"\n"
        is_record = isinstance(message, RecordMessage)
        if not is_record or len(self._buffer) >= _ENOUGH:
            _write(bytes(self._buffer))
            self._buffer.clear()
        if not is_record:
            sys.stdout.flush()


def _write(data: bytes) -> None:
    """Write all of it; without a buffer, a signal may cut a write short."""
    while data:
        data = data[sys.stdout.buffer.write(data) :]
