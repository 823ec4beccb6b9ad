"""States: each goes back as it came, with the number of records it stands for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from stairoids_airbyte.protocol import Descriptor

Json = Any  # what JSON can hold; narrowed where it is read

_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


class States:
    """Counts the records between states, by stream."""

    def __init__(self) -> None:
        self._since: Counter[Descriptor] = Counter()

    def record(self, stream: Descriptor) -> None:
        """Count a record that was read."""
        self._since[stream] += 1

    def line(self, message: dict[str, Json]) -> str:
        """Return a STATE as it is to go back once all before it is settled.

        A stream's state stands for that stream's records since its last one, a global
        or a legacy state for those of all streams.

        Raises:
            KeyError: It holds no state, or a stream's state that names none.
            TypeError: Same.
        """
        state = message["state"]
        if state.get("type") == "STREAM":
            told = state["stream"]["stream_descriptor"]
            count = self._since.pop(Descriptor(told["name"], told.get("namespace")), 0)
        else:
            count = self._since.total()
            self._since.clear()
        stats = {**(state.get("destinationStats") or {}), "recordCount": float(count)}
        siblings = {name: value for name, value in message.items() if value is not None}
        echo = {**siblings, "state": {**state, "destinationStats": stats}}
        return _ENCODER.encode(echo).decode()
