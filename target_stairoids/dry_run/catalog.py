"""Catalogs: the SCHEMA messages in what a tap discovered or printed."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from target_stairoids.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = Any  # what JSON can hold; narrowed where it is read


def schema_messages(file: IO[str]) -> list[dict[str, Json]]:
    """Return the SCHEMA messages of a file.

    Args:
        file: A catalog as `--discover` prints it, or messages as a tap prints them.

    Raises:
        ConfigError: It is neither.
    """
    text = file.read()
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    try:
        if isinstance(whole, dict) and "streams" in whole:
            return [_of_catalog(stream) for stream in whole["streams"]]
        messages = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not messages:
            raise ValueError  # noqa: TRY301 - one sentence for all that is no catalog
        return [m for m in messages if m.get("type") == "SCHEMA"]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        msg = (
            "The file is neither a catalog (`tap-x --discover`) nor messages of a tap "
            "(`tap-x --config ...`)."
        )
        raise ConfigError(msg) from error


def _of_catalog(stream: dict[str, Json]) -> dict[str, Json]:
    about = dict(_table_metadata(stream))
    key = stream.get("key_properties") or about.get("table-key-properties") or []
    bookmark = stream.get("replication_key") or about.get("replication-key")
    return {
        "type": "SCHEMA",
        "stream": stream.get("stream") or stream["tap_stream_id"],
        "schema": stream["schema"],
        "key_properties": key,
        **({"bookmark_properties": [bookmark]} if bookmark else {}),
    }


def _table_metadata(stream: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for entry in stream.get("metadata") or ():
        if not entry.get("breadcrumb"):
            yield from (entry.get("metadata") or {}).items()
