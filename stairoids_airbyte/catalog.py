"""Converts the configured catalog to SCHEMA messages for the target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from glob import escape

from msgspec.structs import replace

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.protocol import (
    ConfiguredCatalog,
    ConfiguredStream,
    Descriptor,
    Json,
)
from target_stairoids.exceptions import MessageError
from target_stairoids.mapping.schema import bookmark_column, check_message
from target_stairoids.mapping.signals_setting import MappingItem

#: Both send each signal once.
SYNC_MODES = ["append", "append_dedup"]


def descriptor_of(configured: ConfiguredStream) -> Descriptor:
    """Return the name of a stream in messages."""
    return Descriptor(configured.stream.name, configured.stream.namespace)


def messages_of(catalog: ConfiguredCatalog) -> dict[Descriptor, dict[str, Json]]:
    """Return the SCHEMA message of each stream, or refuse the catalog."""
    messages: dict[Descriptor, dict[str, Json]] = {}
    names: set[str] = set()
    for configured in catalog.streams:
        name = full_name(descriptor_of(configured))
        if name in names:
            raise WrongConfigError(
                f"Two streams of the catalog would be named `{name}` here. Give "
                "one of them another name or namespace."
            )
        names.add(name)
        _check_mode(configured, name)
        message = messages[descriptor_of(configured)] = _message_of(configured, name)
        try:
            check_message(message)
        except MessageError as error:
            raise WrongConfigError(str(error)) from error
    return messages


def _message_of(configured: ConfiguredStream, name: str) -> dict[str, Json]:
    stream = configured.stream
    paths = configured.primary_key or stream.source_defined_primary_key or []
    key = [".".join(path) for path in paths if any(path)]
    bookmark = bookmark_column(_cursor_of(configured), key)
    return {
        "type": "SCHEMA",
        "stream": name,
        "schema": {"properties": {}, **stream.json_schema},
        "key_properties": key,
        **({"bookmark_properties": [bookmark]} if bookmark else {}),
    }


def items_for(
    items: Sequence[MappingItem], streams: Iterable[Descriptor]
) -> tuple[MappingItem, ...]:
    """Return the items of `signals` with the names that streams have here.

    An item of `users` or `public.users` is also for the stream `public-users`, unless
    the first item for that stream is another one.
    """
    globs = {full_name(stream): _glob_of(stream, items) for stream in streams}
    found: list[MappingItem] = []
    for item in items:
        names = [name for name, glob in globs.items() if glob == item.stream]
        others = [name for name in names if not fnmatchcase(name, item.stream)]
        if len(others) < len(names) or not names:
            found.append(item)
        found += [replace(item, stream=escape(name)) for name in others]
    return tuple(found)


def _glob_of(stream: Descriptor, items: Sequence[MappingItem]) -> str | None:
    """Return the glob that applies to a stream: its own name, or the first match."""
    names = [full_name(stream)]
    if stream.namespace:
        names.append(f"{stream.namespace}.{stream.name}")
    globs = [item.stream for item in items]
    own = next((glob for glob in globs if glob in names), None)
    names.append(stream.name)
    return own or next(
        (g for g in globs if any(fnmatchcase(n, g) for n in names)), None
    )


def full_name(stream: Descriptor) -> str:
    """Return the name of a stream here, as streams of Singer taps are named."""
    return f"{stream.namespace}-{stream.name}" if stream.namespace else stream.name


def _cursor_of(configured: ConfiguredStream) -> list[str]:
    """Return the path of a stream's cursor, also for a full refresh.

    The target uses it to find out whether a record is older than the last one sent.
    """
    default = configured.stream.default_cursor_field or []
    if configured.stream.source_defined_cursor and default:
        return default
    return configured.cursor_field or default


def _check_mode(configured: ConfiguredStream, name: str) -> None:
    mode = configured.destination_sync_mode
    if mode not in SYNC_MODES:
        raise WrongConfigError(
            f"Stream `{name}` has the sync mode `{mode}`, but sent signals cannot be "
            f"changed or removed. Choose {' or '.join(SYNC_MODES)}."
        )
