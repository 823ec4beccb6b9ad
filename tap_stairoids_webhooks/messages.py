"""Messages: Singer messages as lines on stdout.

Records are buffered, a STATE message is flushed: a target can act on nothing
less, and a flush for each record costs more than the record.
"""

from __future__ import annotations

import sys

import msgspec
from singer_sdk.contrib.msgspec import enc_hook
from singer_sdk.io_base import GenericSingerWriter
from singer_sdk.singerlib import Message, StateMessage
from typing_extensions import override

# Each message gets bytes of its own. The SDK's msgspec writer shares one buffer,
# which a STATE message written by a signal handler finds in use.
_ENCODER = msgspec.json.Encoder(enc_hook=enc_hook, decimal_format="number")


class MessageWriter(GenericSingerWriter[bytes, Message]):
    """Writes messages with exact decimals."""

    @override
    def serialize_message(self, message: Message) -> bytes:
        return _ENCODER.encode(message.to_dict())

    @override
    def write_message(self, message: Message) -> None:
        sys.stdout.buffer.write(self.serialize_message(message) + b"\n")
        if isinstance(message, StateMessage):
            sys.stdout.flush()
