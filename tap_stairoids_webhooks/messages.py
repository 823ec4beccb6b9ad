"""Write Singer messages to stdout.

Records are buffered until the next message of another type, because to write each
record takes longer than to make it. The buffer is our own, because containers often
switch off Python's buffer (`PYTHONUNBUFFERED`). Records that a failed run did not write
are not covered by a STATE message.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from singer_sdk.contrib.msgspec import enc_hook
from singer_sdk.io_base import GenericSingerWriter
from singer_sdk.singerlib import Message, RecordMessage
from typing_extensions import override

# Each message gets its own bytes. The SDK's msgspec writer shares one buffer, which may
# be in use when a signal handler writes a STATE message.
_ENCODER = msgspec.json.Encoder(enc_hook=enc_hook, decimal_format="number")


_BUFFER_BYTES = 1 << 16  # the capacity of a pipe


class MessageWriter(GenericSingerWriter[bytes, Message]):
    """Writes messages in batches, with exact decimals."""

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
        if not isinstance(message, RecordMessage):
            self.flush()
        elif len(self._buffer) >= _BUFFER_BYTES:
            self._write_out()

    def flush(self) -> None:
        """Write the records of the buffer."""
        self._write_out()
        sys.stdout.flush()

    def _write_out(self) -> None:
        _write(bytes(self._buffer))
        self._buffer.clear()


def _write(data: bytes) -> None:
    """Write all bytes, also to a stdout that takes only a part at once."""
    while data:
        data = data[sys.stdout.buffer.write(data) :]
