"""Written streams: what the configured catalog says, in the target's terms."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.protocol import Descriptor
from target_stairoids.mapping.schema import StreamSchema, bookmark_column

if TYPE_CHECKING:
    from stairoids_airbyte.protocol import ConfiguredCatalog, ConfiguredStream

logger = logging.getLogger(__name__)

#: Both mean the same here: each signal once.
SYNC_MODES = ["append", "append_dedup"]


def descriptor_of(configured: ConfiguredStream) -> Descriptor:
    """Return what a stream's messages call it."""
    return Descriptor(configured.stream.name, configured.stream.namespace)


def shapes_of(catalog: ConfiguredCatalog) -> dict[Descriptor, StreamSchema]:
    """Return the shape of each stream that is to be written.

    Raises:
        WrongConfigError: A stream is to be synced in a way that signals cannot be, or
            two of them would be one.
    """
    shapes: dict[Descriptor, StreamSchema] = {}
    names: set[str] = set()
    for configured in catalog.streams:
        shape = _shape_of(configured)
        if shape.name in names:
            msg = (
                f"Two streams of the catalog would both be `{shape.name}` here; give "
                "one of them another name or namespace."
            )
            raise WrongConfigError(msg)
        names.add(shape.name)
        _check_mode(configured, shape.name)
        shapes[descriptor_of(configured)] = shape
    return shapes


def _shape_of(configured: ConfiguredStream) -> StreamSchema:
    """Return a stream's shape, named `namespace-name` as Singer's taps do it."""
    stream = configured.stream
    name = f"{stream.namespace}-{stream.name}" if stream.namespace else stream.name
    schema = stream.json_schema
    paths = configured.primary_key or stream.source_defined_primary_key or []
    key = tuple(".".join(path) for path in paths)
    cursor = _cursor_of(configured)
    return StreamSchema(
        name=name,
        properties=schema.get("properties") or {},
        key_properties=key,
        bookmark=bookmark_column(cursor if len(cursor) == 1 else [], key),
        allows_more=bool(schema.get("additionalProperties")),
    )


def _cursor_of(configured: ConfiguredStream) -> list[str]:
    """Return the path of a stream's cursor, in whichever mode it is read.

    Airbyte needs it for incremental reads only; that a record is older than what was
    said before is as true after a full one.
    """
    default = configured.stream.default_cursor_field or []
    if configured.stream.source_defined_cursor and default:
        return default
    return configured.cursor_field or default


def _check_mode(configured: ConfiguredStream, name: str) -> None:
    mode = configured.destination_sync_mode
    if mode not in SYNC_MODES:
        msg = (
            f"Stream `{name}` is to be synced as `{mode}`, but a signal that was sent "
            f"can be neither changed nor taken back: choose {' or '.join(SYNC_MODES)}."
        )
        raise WrongConfigError(msg)
    least = configured.minimum_generation_id
    if least and least == configured.generation_id:
        logger.info(
            "Stream `%s` is refreshed: what was sent stays, and is not sent again.",
            name,
        )
